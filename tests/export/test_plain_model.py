"""The plain model against the model it shares its weights with, and the refusals."""

import pytest
import torch
from model_cases import model_config

from finemask.errors import ConfigError
from finemask.export.agreement import agreement_of, compare
from finemask.export.plain_model import PlainMaskRCNN, PlainNMS, check_exportable, check_header
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.suppression import NMS
from finemask.model_header import ModelHeader
from finemask.types import Category, Detections

HEADS = [
    (),
    ("model/box_predictor=cascade",),
    ("model/box_predictor=cosine",),
    ("model/box_predictor=multi_expert",),
    ("model/mask_predictor=mask_iou",),
    ("model/mask_predictor=deep_fcn",),
    ("model/mask_predictor=point_rend",),
    ("model/suppression=class_agnostic",),
]


@pytest.mark.parametrize("overrides", HEADS, ids=lambda overrides: "".join(overrides).rpartition("=")[2] or "plain")
@pytest.mark.parametrize("size_hw", [(96, 128), (61, 200), (150, 33)])
def test_the_plain_model_finds_what_the_model_finds(model_with, overrides, size_hw) -> None:
    model = model_with(*overrides)
    check_exportable(model)
    plain = PlainMaskRCNN(model).eval()
    image = torch.randint(0, 256, (3, *size_hw), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        batch, _ = model.transform([image])
        (padded_hw,) = batch.image_sizes
        thresh = torch.tensor(model.roi_heads.score_thresh)
        boxes, labels, scores, masks = plain(batch.tensors, torch.tensor(padded_hw), thresh)
        found = [{"boxes": boxes, "labels": labels, "scores": scores, "mask_probs": masks}]
        (answer,) = model.transform.postprocess(found, batch.image_sizes, [size_hw])
        (wanted,) = model([image])
    agreement = compare(wanted, answer, "", model.roi_heads.score_thresh, model.roi_heads.detections_per_img)
    assert agreement.fault == ""
    assert agreement.matched > 10


@pytest.mark.parametrize("pairs", [400, 560])  # 800 and 1,120 candidates
def test_classes_are_suppressed_apart_as_exactly_as_torchvision_does(pairs: int) -> None:
    """Pairs of boxes of 20 px whose IoU is a hair above the threshold, and a hair below, in turn.

    Of more than 1,000 candidates torchvision keeps one of the former and both of the latter; of fewer it errs, and then
    the same is kept here.
    """
    number = torch.arange(pairs)
    left_top = torch.stack([number % 40, number // 40], dim=1) * 32.0
    first = torch.cat([left_top, left_top + 20], dim=1)
    near = torch.where(number % 2 == 0, 6.6655, 6.6675)  # IoU (20 - d) / (20 + d): 0.50007 and 0.49995
    second = first + torch.stack([near, torch.zeros(pairs), near, torch.zeros(pairs)], dim=1)
    boxes = torch.cat([first, second])
    labels = (number % 80 + 1).repeat(2)
    scores = torch.linspace(0.9, 0.1, 2 * pairs)
    kept, of_kept = PlainNMS(0.5, 80).by_box(boxes, scores, labels, 2 * pairs)
    wanted, _ = NMS(0.5).by_box(boxes, scores, labels, 2 * pairs)
    assert kept.tolist() == wanted.tolist()
    assert of_kept.tolist() == scores[kept].tolist()
    if 2 * pairs > 1000:
        assert len(kept) == pairs + pairs // 2
    together, _ = PlainNMS(0.5, 1).by_box(first[:40].repeat(2, 1), scores[:80], labels[:80], 80)
    assert together.tolist() == list(range(40)), "of one class, whatever the labels"


def test_no_candidates_are_suppressed_too() -> None:
    kept, scores = PlainNMS(0.5, 3).by_box(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 10)
    assert (kept.shape, scores.shape) == ((0,), (0,))


def test_it_holds_no_weights_of_its_own(model_with) -> None:
    model = model_with()
    own = {id(parameter) for parameter in model.parameters()}
    assert {id(parameter) for parameter in PlainMaskRCNN(model).parameters()} == own


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("model/box_predictor=iterative", "IterativeBoxPredictor (model.box_predictor)"),
        ("model/suppression=soft_gaussian", "SoftNMS (model.suppression)"),
        ("model/suppression=mask", "MaskNMS (model.suppression)"),
        ("model.clahe=2.0", "model.clahe"),
    ],
)
def test_what_cannot_be_exported_is_named(model_with, override, named) -> None:
    with pytest.raises(ConfigError, match="cannot be exported") as caught:
        check_exportable(model_with(override))
    assert named in str(caught.value)
    config = model_config("tiny", override)
    header = ModelHeader(config, (Category(1, "a"),), model_with(override).preprocessing)
    with pytest.raises(ConfigError, match="cannot be exported") as from_header:  # before any weight is read
        check_header(header)
    assert str(from_header.value) == str(caught.value)


@pytest.mark.parametrize("overrides", HEADS)
def test_the_header_refuses_nothing_else(model_with, overrides) -> None:
    check_header(ModelHeader(model_config("tiny", *overrides), (Category(1, "a"),), model_with().preprocessing))


def answer(boxes, scores, labels=None, masks=None) -> Detections:
    number = len(boxes)
    return Detections(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels or [1] * number, dtype=torch.int64),
        scores=torch.tensor(scores, dtype=torch.float32),
        mask_probs=torch.ones(number, 28, 28) if masks is None else masks,
        image_size_hw=(100, 100),
    )


A, B = [10, 10, 50, 50], [60, 60, 80, 80]


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (answer([A, B], [0.9, 0.5]), ""),
        (answer([B, A], [0.5, 0.9]), ""),  # the order is no difference
        (answer([[10, 10, 50, 50.4], B], [0.9, 0.5]), ""),
        (answer([[10, 10, 50, 50.7], B], [0.9, 0.5]), "edges differ by 0.70 px; 2.4% of a mask's pixels differ"),
        (answer([A, B], [0.9, 0.503]), "scores differ by 0.0030"),
        (answer([A], [0.9]), "1 found by one of the two only, the best with score 0.500"),
        (answer([A, B, B], [0.9, 0.5, 0.3]), "1 found by one of the two only, the best with score 0.300"),
        (answer([A, B, B], [0.9, 0.5, 0.0505]), ""),  # at the threshold, rounding decides
        (answer([A, B], [0.9, 0.5], labels=[1, 2]), "2 found by one of the two only, the best with score 0.500"),
    ],
)
def test_differences_by_hand(found, fault) -> None:
    assert compare(answer([A, B], [0.9, 0.5]), found, "", 0.05, 100).fault == fault


def test_masks_by_hand() -> None:
    masks = torch.ones(1, 28, 28)
    masks[:, :, :14] = 0.0  # the left half: 20 of 40 columns
    agreement = compare(answer([A], [0.9]), answer([A], [0.9], masks=masks), "", 0.05, 100)
    assert agreement.mask_share == pytest.approx(0.5, abs=0.02)
    assert agreement.fault.endswith("of a mask's pixels differ")


def test_a_hair_beyond_a_whole_pixel_is_no_other_mask() -> None:
    """A mask of stripes, stretched over 44 columns or 43: the boxes agree, and so do the masks in one of them."""
    # Grown for the padding by 1 / 28 of its width at either side, the box begins at column 8.
    masks = (torch.arange(28) % 2).float().expand(1, 28, 28)
    left = 8 + 40.0 / 28
    model, file, far = (
        answer([[edge, 10, left + 40, 50]], [0.9], masks=masks) for edge in (left + 1e-3, left - 1e-3, left - 0.1)
    )
    agreement = compare(model, file, "", 0.05, 100)
    assert (agreement.at_a_pixel, agreement.mask_pixels, agreement.fault) == (1, 0.0, "")
    assert (compare(model, model, "", 0.05, 100)).at_a_pixel == 0
    beyond = compare(model, far, "", 0.05, 100)
    assert beyond.at_a_pixel == 0
    assert beyond.fault.endswith("of a mask's pixels differ"), "0.1 px is more than the order of additions makes"


class AnotherRuntime:
    """A model whose objectness has other last digits; without its best detection, if that is asked for."""

    def __init__(self, model: MaskRCNN, *, without_best: bool = False) -> None:
        self.model, self.first = model, int(without_best)
        self.score_thresh: float | None = None

    def __call__(self, images):
        generator = torch.Generator().manual_seed(99)
        hook = self.model.rpn.head.register_forward_hook(
            lambda _, __, answer: (answer[0] + 3e-6 * torch.randn(answer[0].shape, generator=generator), answer[1])
        )
        self.model.roi_heads.score_thresh = self.score_thresh
        with torch.no_grad():
            (found,) = self.model(images)
        hook.remove()
        return [found | {key: found[key][self.first :] for key in ("boxes", "labels", "scores", "mask_probs")}]


def test_proposals_of_equal_objectness_are_no_difference(model_with) -> None:
    model = model_with()
    flat = torch.full((3, 150, 150), 90, dtype=torch.uint8)
    agreement = agreement_of(model, AnotherRuntime(model), flat, "flat", 0.0)
    assert agreement.fault == ""
    assert agreement.at_a_tie > 0
    in_pairs = 2 * agreement.matched
    assert agreement.at_a_tie + agreement.at_the_cut + in_pairs == agreement.found + agreement.found_exported > 100


def test_what_does_not_come_and_go_in_the_model_is_a_difference(model_with) -> None:
    model = model_with()
    with torch.no_grad():
        for layer in (model.rpn.head.cls_logits, model.roi_heads.box_predictor.cls_score):
            layer.weight *= 40
    image = torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    assert agreement_of(model, AnotherRuntime(model), image, "noise", 0.05).fault == ""
    agreement = agreement_of(model, AnotherRuntime(model, without_best=True), image, "noise", 0.05)
    assert agreement.fault.startswith("1 found by one of the two only, the best with score")


def test_none_is_an_answer_too() -> None:
    agreement = compare(answer([], []), answer([], []), "", 0.05, 100)
    assert (agreement.fault, agreement.found, agreement.box_px) == ("", 0, 0.0)
