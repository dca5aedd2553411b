"""The RPN against torchvision's, with the same parameters, features and random choices; patches around locations."""

import pytest
import torch
from torch.nn import functional
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from finemask.model.rpn import RowsRegionProposalNetwork, RowsRPNHead, fpn_anchors, patches_at

CHANNELS, STRIDES = 8, (4, 8, 16)


def options(top_n: int) -> dict:
    counts = {"training": top_n, "testing": top_n}
    return {
        "fg_iou_thresh": 0.7,
        "bg_iou_thresh": 0.3,
        "batch_size_per_image": 32,
        "positive_fraction": 0.5,
        "pre_nms_top_n": counts,
        "post_nms_top_n": {"training": 50, "testing": 30},
        "nms_thresh": 0.7,
    }


def pair(top_n: int = 40, ratios: tuple[float, ...] = (0.5, 1.0, 2.0), conv_depth: int = 1):
    torch.manual_seed(0)
    sizes = (8, 16, 32)
    theirs_anchors = AnchorGenerator(tuple((size,) for size in sizes), (ratios,) * len(sizes))
    theirs = RegionProposalNetwork(theirs_anchors, RPNHead(CHANNELS, len(ratios), conv_depth), **options(top_n))
    ours_head = RowsRPNHead(CHANNELS, len(ratios), conv_depth)
    ours = RowsRegionProposalNetwork(fpn_anchors(sizes, ratios), ours_head, **options(top_n))
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.05)  # scores far enough apart not to tie
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def batch(height: int = 96, width: int = 64, seed: int = 1):
    generator = torch.Generator().manual_seed(seed)
    sizes = [(height, width), (height - 9, width - 20), (height, width - 1)]
    features = {
        str(k): torch.randn(3, CHANNELS, height // stride, width // stride, generator=generator, dtype=torch.float64)
        for k, stride in enumerate(STRIDES)
    }
    targets = [
        {"boxes": torch.tensor([[4.0, 6, 30, 40], [20, 50, 60, 90], [0, 0, 8, 8]]).double()},
        {"boxes": torch.zeros(0, 4, dtype=torch.float64)},
        {"boxes": torch.tensor([[1.0, 2, 9, 11]]).double()},
    ]
    return ImageList(torch.zeros(3, 3, height, width, dtype=torch.float64), sizes), features, targets


@pytest.mark.parametrize("top_n", [40, 10_000])
@pytest.mark.parametrize("training", [True, False])
def test_proposals_and_losses_are_torchvisions(top_n, training):
    ours, theirs = (model.double().train(training) for model in pair(top_n))
    images, features, targets = batch()
    torch.manual_seed(5)
    mine, my_losses = ours(images, features, targets)
    torch.manual_seed(5)
    expected, losses = theirs(images, features, targets)
    assert [len(found) for found in mine] == [len(found) for found in expected]
    for found, reference in zip(mine, expected, strict=True):
        assert torch.allclose(found, reference, atol=1e-9)
    assert my_losses.keys() == losses.keys()
    for name, value in losses.items():
        assert my_losses[name].item() == pytest.approx(value.item(), abs=1e-9), name


@pytest.mark.parametrize("ratios", [(1.0,), (0.5, 1.0, 2.0)])
def test_gradients_are_torchvisions(ratios):
    ours, theirs = (model.double().train() for model in pair(ratios=ratios, conv_depth=2))
    images, features, targets = batch(seed=3)
    for model in (ours, theirs):
        torch.manual_seed(7)
        sum(model(images, features, targets)[1].values()).backward()
    reference = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert torch.allclose(parameter.grad, reference[name].grad, atol=1e-10), name


def test_a_batch_without_any_object_still_learns_what_background_is():
    ours, theirs = (model.double().train() for model in pair())
    images, features, _ = batch()
    nothing = [{"boxes": torch.zeros(0, 4, dtype=torch.float64)}] * 3
    torch.manual_seed(1)
    mine = ours(images, features, nothing)[1]
    torch.manual_seed(1)
    expected = theirs(images, features, nothing)[1]
    assert {name: value.item() for name, value in mine.items()} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, abs=1e-9
    )
    assert mine["loss_rpn_box_reg"].item() == 0.0


def test_anchors_follow_the_shape_of_the_batch():
    ours, theirs = (model.double().eval() for model in pair())
    for height, width in ((96, 64), (64, 96), (96, 64)):
        images, features, _ = batch(height, width)
        for found, reference in zip(ours(images, features)[0], theirs(images, features)[0], strict=True):
            assert torch.allclose(found, reference, atol=1e-9)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_anchors_are_exact_in_half_precision(half):
    ours, _ = pair()
    images = ImageList(torch.zeros(1, 3, 1024, 992), [(1024, 992)])
    levels = [torch.zeros(1, CHANNELS, 1024 // stride, 992 // stride) for stride in STRIDES]
    expected = ours.anchors_of(images, levels)
    assert expected.max() > 1000
    found = ours.anchors_of(images, [level.to(half) for level in levels])
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_half_precision_scores_come_out_in_float32():
    ours, _ = pair()
    _, features, _ = batch()
    levels = [level.float() for level in features.values()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        objectness, deltas = ours.head(levels)
    assert objectness.dtype == deltas.dtype == torch.float32
    assert objectness.shape == (3, 3 * sum(level.shape[-2] * level.shape[-1] for level in levels))


@pytest.mark.parametrize("conv_depth", [1, 2, 3])
def test_answers_at_some_locations_are_those_of_all(conv_depth):
    ours, _ = pair(conv_depth=conv_depth)
    head = ours.head.double()
    _, features, _ = batch()
    levels = list(features.values())
    objectness, deltas = head(levels)
    locations = torch.randperm(objectness.numel() // 3, generator=torch.Generator().manual_seed(2))[:200]
    some_objectness, some_deltas = head.at(levels, locations)
    assert torch.allclose(some_objectness, objectness.reshape(-1, 3)[locations], atol=1e-12)
    assert torch.allclose(some_deltas, deltas.reshape(-1, 3, 4)[locations], atol=1e-12)


def test_every_parameter_learns_in_mixed_precision():
    ours, theirs = (model.float().train() for model in pair(conv_depth=2))
    images, features, targets = batch()
    features = {name: level.float() for name, level in features.items()}
    targets = [{"boxes": target["boxes"].float()} for target in targets]
    gradients = []
    for model in (ours, theirs):
        torch.manual_seed(7)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = model(images, features, targets)[1]
        sum(losses.values()).backward()
        gradients.append(dict(model.named_parameters()))
    for name, parameter in gradients[0].items():
        reference = gradients[1][name].grad
        assert (parameter.grad - reference).norm() < 0.1 * reference.norm(), name


def pyramid(batch: int = 2, channels: int = 3):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, channels, h, w, generator=generator) for h, w in ((6, 5), (3, 3), (1, 2))]


@pytest.mark.parametrize("radius", [0, 1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_patches_are_what_unfold_cuts_out(radius, layout):
    levels = [level.contiguous(memory_format=layout) for level in pyramid()]
    batch, channels, side = 2, 3, 2 * radius + 1
    per_level = [functional.unfold(level, side, padding=radius).mT.unflatten(2, (channels, -1)) for level in levels]
    expected = torch.cat(per_level, dim=1).flatten(0, 1).mT.unflatten(1, (side, side))  # [B · S, k, k, C]
    locations = torch.randperm(len(expected), generator=torch.Generator().manual_seed(1))
    patches, inside = patches_at(levels, locations, radius)
    assert patches.shape == (batch * (30 + 9 + 2), side, side, channels)
    assert torch.equal(patches * inside[..., None], expected[locations])


def test_the_same_location_twice_counts_twice():
    levels = [level.requires_grad_() for level in pyramid()]
    patches, inside = patches_at(levels, torch.tensor([7, 7, 41]), radius=1)
    (patches * inside[..., None]).sum().backward()
    wanted = torch.zeros(2, 3, 6, 5)
    wanted[0, :, 0:3, 1:4] = 2  # 7 is row 1, column 2 of the first image
    wanted[1, :, 0:2, 0:2] = 1  # 41 is the corner of the second
    assert torch.equal(levels[0].grad, wanted)
    assert not levels[1].grad.any()


def test_no_location_gives_no_patch():
    patches, inside = patches_at(pyramid(), torch.zeros(0, dtype=torch.int64), radius=1)
    assert patches.shape == (0, 3, 3, 3)
    assert inside.shape == (0, 3, 3)
