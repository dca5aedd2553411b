"""The whole model against torchvision's, given the same parameters, images and dense masks."""

from copy import deepcopy

import pytest
import torch
from model_cases import model_config, random_scene
from torch import nn
from torchvision.models.detection import maskrcnn_resnet50_fpn
from torchvision.models.detection.roi_heads import paste_masks_in_image

from finemask.model.backbones.norms import freeze_batch_norm
from finemask.model.build import build_model

MIN_SIZE, MAX_SIZE = 128, 240
NUM_CLASSES = 4
PROPOSALS = 300  # an image; with the usual thousands the tests take five times as long and see no more


@pytest.fixture(scope="module")
def pair():
    """Ours and torchvision's, with equal weights, sampling every RoI so that no random choice differs."""
    torch.manual_seed(3)
    config = model_config("resnet50_fpn", f"model.min_size={MIN_SIZE}", f"model.max_size={MAX_SIZE}")
    config["backbone"]["norm"] = "bn"
    config["sampler"]["batch_size_per_image"] = 10**6
    config["rpn"]["batch_size_per_image"] = 10**6
    config["rpn"] |= {"post_nms_top_n_train": PROPOSALS, "post_nms_top_n_test": PROPOSALS}
    ours = build_model(config, NUM_CLASSES)
    theirs = maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=NUM_CLASSES,
        min_size=MIN_SIZE,
        max_size=MAX_SIZE,
        rpn_post_nms_top_n_train=PROPOSALS,
        rpn_post_nms_top_n_test=PROPOSALS,
    )
    theirs.rpn.fg_bg_sampler.batch_size_per_image = 10**6
    theirs.roi_heads.fg_bg_sampler.batch_size_per_image = 10**6
    answer = theirs.load_state_dict(ours.state_dict())
    assert not answer.missing_keys
    assert not answer.unexpected_keys
    for model in (ours, theirs):
        model.backbone = freeze_batch_norm(model.backbone, 1e-5)
        for parameter in model.backbone.body.parameters():
            parameter.data *= 0.7  # random weights without batch statistics would explode layer by layer
    return ours, theirs


@pytest.fixture(scope="module")
def scenes():
    return [random_scene(96, 140, 5, 0), random_scene(150, 110, 0, 1), random_scene(120, 120, 1, 2)]


def dense(target, masks):
    return {"boxes": target["boxes"], "labels": target["labels"], "masks": masks.byte()}


def test_all_losses_equal_torchvisions(pair, scenes):
    ours, theirs = (model.train() for model in pair)
    mine = ours([image for image, _, _ in scenes], [target for _, target, _ in scenes])
    reference = theirs(
        [image.float() / 255 for image, _, _ in scenes], [dense(target, masks) for _, target, masks in scenes]
    )
    assert mine.keys() == reference.keys()
    for name in reference:
        assert mine[name].item() == pytest.approx(reference[name].item(), abs=1e-5), name


def test_gradients_equal_torchvisions(pair, scenes):
    for model, arguments in zip(
        pair,
        (
            ([image for image, _, _ in scenes], [target for _, target, _ in scenes]),
            (
                [image.float() / 255 for image, _, _ in scenes],
                [dense(target, masks) for _, target, masks in scenes],
            ),
        ),
        strict=True,
    ):
        model.train().zero_grad()
        torch.stack(list(model(*arguments).values())).sum().backward()
    reference = dict(pair[1].named_parameters())
    for name, parameter in pair[0].named_parameters():
        difference = (parameter.grad - reference[name].grad).norm() / (reference[name].grad.norm() + 1e-8)
        assert difference < 2e-3, name


def test_detections_and_masks_equal_torchvisions(pair, scenes):
    # In float64, with scores spread out: those of random weights lie so near one another that float32 rounding
    # decides which of two boxes suppresses the other, and rounds differently from one processor to the next.
    ours, theirs = (deepcopy(model).double().eval() for model in pair)
    for model in (ours, theirs):
        model.roi_heads.box_predictor.cls_score.weight.data *= 30
    ours.roi_heads.score_thresh = theirs.roi_heads.score_thresh = 0.2
    ours.roi_heads.detections_per_img = theirs.roi_heads.detections_per_img = 30
    with torch.inference_mode():
        mine = ours([image for image, _, _ in scenes])
        # each image alone, as ours goes: in a batch torchvision pads the smaller ones
        reference = [theirs([image.double() / 255])[0] for image, _, _ in scenes]
    assert sum(len(found["boxes"]) for found in reference) > 50
    for found, expected in zip(mine, reference, strict=True):
        # Random weights give scores that tie to the last bit, and ties may come in another order.
        order, other = (torch.argsort(d["boxes"].sum(1) + 1e3 * d["labels"]) for d in (found, expected))
        same = (found["boxes"][order] - expected["boxes"][other]).abs().amax(1) < 1e-2
        assert same.float().mean() > 0.9
        assert torch.allclose(found["scores"].double().sort().values, expected["scores"].sort().values, atol=1e-4)
        pasted = paste_masks_in_image(found["mask_probs"][:, None], found["boxes"], found["image_size_hw"])
        difference = (pasted[order][same] - expected["masks"][other][same]).abs().flatten(1).mean(1)
        assert (difference < 1e-3).float().mean() > 0.95


def test_the_state_dict_of_plain_heads_goes_back_to_torchvision():
    ours = build_model(model_config("resnet50_fpn"), num_classes=3)  # frozen batch norm, as after fine-tuning
    theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
    answer = theirs.load_state_dict(dict(ours.state_dict()))
    assert (answer.missing_keys, answer.unexpected_keys) == ([], [])


def test_convolutions_are_channels_last_from_the_start():
    model = build_model(model_config("tiny"), 2)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    assert all(m.weight.is_contiguous(memory_format=torch.channels_last) for m in convolutions)
