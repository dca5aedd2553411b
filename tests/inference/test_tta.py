"""Looking at an image several times."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from model_cases import model_config, random_scene
from torch import nn

from finemask.errors import ConfigError
from finemask.inference.tta import AugmentedMaskRCNN, View, parse_views
from finemask.model.build import build_model
from finemask.model.mask_rcnn import ImageTransform
from finemask.model.suppression import NMS, ClassAgnosticNMS, MaskNMS, SoftNMS

KEYS = ("boxes", "labels", "scores", "mask_probs")


@pytest.fixture(scope="module")
def model():
    """In float64, with scores spread out: no order may hang on a rounding."""
    torch.manual_seed(4)
    config = model_config("tiny", "model.min_size=96", "model.max_size=160", "model.roi_heads.nms_thresh=0.4")
    model = build_model(config, num_classes=4).double().eval()
    model.roi_heads.box_predictor.cls_score.weight.data *= 30
    model.roi_heads.box_predictor.bbox_pred.weight.data *= 10
    return model


@pytest.fixture(scope="module")
def images():
    return [random_scene(100, 130, 5, 0)[0], random_scene(70, 70, 3, 1)[0]]


def run(model, images):
    with torch.inference_mode():
        return model(images)


def assert_equal(found, expected, atol=1e-6):
    for one, other in zip(found, expected, strict=True):
        assert one["image_size_hw"] == other["image_size_hw"]
        assert len(one["scores"]) == len(other["scores"])
        for key in KEYS:
            assert torch.allclose(one[key], other[key], atol=atol, rtol=0), key


@pytest.mark.parametrize("suppression", [NMS(0.4), ClassAgnosticNMS(0.4), SoftNMS(), MaskNMS(0.4)])
def test_looking_once_as_ever_gives_what_the_model_gives(model, images, suppression, monkeypatch):
    monkeypatch.setattr(model.roi_heads, "suppression", suppression)
    plain = run(model, images)
    assert min(len(found["scores"]) for found in plain) > 10
    assert_equal(run(AugmentedMaskRCNN(model, [View(96)]), images), plain)


@pytest.mark.parametrize("word", ["model/box_predictor=cascade", "model/mask_predictor=mask_iou"])
def test_predictors_of_every_kind_can_look_several_times(images, word):
    torch.manual_seed(1)
    model = build_model(model_config("tiny", "model.min_size=96", word), num_classes=4).double().eval()
    plain = run(model, images)
    assert min(len(found["scores"]) for found in plain) > 5
    assert_equal(run(AugmentedMaskRCNN(model, [View(96), View(96)]), images), plain)
    assert all(len(found["scores"]) for found in run(AugmentedMaskRCNN(model, parse_views("flip", 96)), images))


def test_looking_twice_the_same_way_adds_nothing(model, images):
    assert_equal(run(AugmentedMaskRCNN(model, [View(96), View(96)]), images), run(model, images))


def test_another_size_is_what_a_model_of_that_size_sees(model, images):
    other = deepcopy(model)
    other.transform = ImageTransform(
        type(model.preprocessing)((144,), 240, model.preprocessing.image_mean, model.preprocessing.image_std)
    ).double()
    assert_equal(run(AugmentedMaskRCNN(model, [View(144)]).double(), images), run(other, images))


def test_the_mirror_image_has_mirrored_detections(model, images):
    augmented = AugmentedMaskRCNN(model, parse_views("flip", 96))
    found, mirrored = run(augmented, images), run(augmented, [image.flip(-1) for image in images])
    for one, other in zip(found, mirrored, strict=True):
        width = one["image_size_hw"][1]
        x1, y1, x2, y2 = other["boxes"].unbind(-1)
        back = torch.stack([width - x2, y1, width - x1, y2], dim=-1)
        assert len(one["scores"]) > 10
        assert torch.allclose(one["scores"], other["scores"])
        assert torch.allclose(one["boxes"], back, atol=1e-4)  # px; boxes are resized in float32
        assert torch.equal(one["labels"], other["labels"])
        assert torch.allclose(one["mask_probs"], other["mask_probs"].flip(-1), atol=1e-6)
    assert not torch.allclose(run(model, images)[0]["scores"][:10], found[0]["scores"][:10])


def test_boxes_of_all_views_are_there_and_masks_are_means(model, images):
    image = images[:1]
    views = [View(96), View(144), View(96, is_flipped=True)]
    (found,) = run(AugmentedMaskRCNN(model, views).double(), image)
    singles = [run(AugmentedMaskRCNN(model, [view]).double(), image)[0] for view in views[:2]]
    (flipped,) = run(model, [image[0].flip(-1)])
    x1, y1, x2, y2 = flipped["boxes"].unbind(-1)
    boxes = torch.cat([*(single["boxes"] for single in singles), torch.stack([130 - x2, y1, 130 - x1, y2], -1)])
    scores = torch.cat([*(single["scores"] for single in singles), flipped["scores"]])
    probs = torch.cat([*(single["mask_probs"] for single in singles), flipped["mask_probs"].flip(-1)])
    best = int(scores.argmax())
    assert torch.allclose(found["boxes"][0], boxes[best], atol=1e-4)
    assert found["scores"][0] == pytest.approx(scores[best].item())
    distances = (found["boxes"][:, None] - boxes).abs().sum(-1).min(dim=1)
    assert distances.values.max() < 1e-4
    assert (found["mask_probs"] - probs[distances.indices]).abs().max() > 1e-4, "more than one view had a say"

    def answer(features, boxes, scores, labels, shapes):
        changed = [of_image * features["probs"].mean() for of_image in scores]
        return [features["probs"].expand(len(of_image), 28, 28) for of_image in boxes], changed

    augmented = AugmentedMaskRCNN(model, views)
    augmented.model = nn.Module()
    augmented.model.roi_heads = SimpleNamespace(detect_masks=answer)
    ramp = torch.linspace(0, 1, 28).expand(28, 28)
    encoded = [
        (flip, {"probs": value}, (96, 125))
        for flip, value in ((False, torch.tensor(0.2)), (False, torch.tensor(0.7)), (True, ramp))
    ]
    mean, changed = augmented._masks(encoded, torch.rand(3, 4), torch.ones(3), torch.ones(3), (96, 125))
    assert torch.allclose(changed, torch.full((3,), 1.4 / 3))
    assert torch.allclose(mean, (0.9 + ramp.flip(-1)).expand(3, 28, 28) / 3)


def test_images_without_anything_and_no_images(model, images, monkeypatch):
    monkeypatch.setattr(model.roi_heads, "score_thresh", 1.0)
    augmented = AugmentedMaskRCNN(model, parse_views(["flip", 64, 96], 96)).double()
    assert [len(found["boxes"]) for found in run(augmented, images)] == [0, 0]
    assert augmented([]) == []


@pytest.mark.parametrize(
    ("tta", "views"),
    [
        ("flip", [View(320), View(320, is_flipped=True)]),
        (240, [View(240)]),
        ([240, 400], [View(240), View(400)]),
        (["flip"], [View(320), View(320, is_flipped=True)]),
        ([240, "flip", 400], [View(240), View(400), View(240, is_flipped=True), View(400, is_flipped=True)]),
    ],
)
def test_what_a_setting_means(tta, views):
    assert parse_views(tta, 320) == views


@pytest.mark.parametrize("tta", ["flop", [], [16], [240, 240], ["flip", "flip"], [0.5], True, ["flip", "x"]])
def test_settings_that_mean_nothing(tta):
    with pytest.raises(ConfigError, match=r"tta=.*flip, a list of shorter sides"):
        parse_views(tta, 320)


def test_the_first_view_is_the_frame(model):
    with pytest.raises(ValueError, match="first view"):
        AugmentedMaskRCNN(model, [View(96, is_flipped=True)])
