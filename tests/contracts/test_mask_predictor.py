"""What every mask predictor must do, whatever it is made of: all files of configs/model/mask_predictor."""

import pytest
import torch
from hydra.utils import instantiate
from mask_part_cases import CHANNELS, NUM_CLASSES, mask_rois, missing_or_wrong_gradients
from model_cases import model_config, random_scene

from finemask.config import config_dir
from finemask.config.config_files import shipped_targets
from finemask.model.build import build_model
from finemask.model.mask_losses import BCEMaskLoss
from finemask.model.mask_predictor.mask_branch import mask_branch_of
from finemask.model_file import load_model_file, save_model_file
from finemask.model_header import ModelHeader
from finemask.types import Category

VARIANTS = sorted(path.stem for path in (config_dir() / "model" / "mask_predictor").glob("*.yaml"))
SMALL = (
    "model.min_size=64",
    "model.roi_heads.detections_per_img=10",
    f"model.backbone.out_channels={CHANNELS}",
    f"model.mask_head.channels=[{CHANNELS}]",
)


@pytest.fixture(scope="module", params=VARIANTS)
def config(request):
    return model_config("tiny", f"model/mask_predictor={request.param}", *SMALL)


@pytest.fixture(scope="module")
def model(config):
    torch.manual_seed(0)
    return build_model(config, NUM_CLASSES, allowed=shipped_targets("model"))


@pytest.fixture
def predictor(model):
    found = model.roi_heads.mask_predictor.train()
    found.zero_grad(set_to_none=True)
    return found


def losses_of(predictor, counts, seed=0):
    rois, truth = mask_rois(counts)
    torch.manual_seed(seed)
    return mask_branch_of(predictor).losses(rois, truth, BCEMaskLoss())


def test_losses_are_finite_scalars_that_reach_every_parameter(predictor):
    losses = losses_of(predictor, (3, 2))
    assert "loss_mask" in losses
    assert all(name.startswith("loss_mask") for name in losses)
    assert all(value.shape == () and value.isfinite() and value > 0 for value in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert missing_or_wrong_gradients(predictor) == []
    assert all(parameter.grad.abs().sum() > 0 for parameter in predictor.parameters())


@pytest.mark.parametrize("counts", [(0, 0), (0, 2)])
def test_images_without_positives_have_finite_losses_and_gradients_everywhere(predictor, counts):
    losses = losses_of(predictor, counts)
    assert all(value.isfinite() for value in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert missing_or_wrong_gradients(predictor) == []


def test_a_process_without_positives_agrees_with_one_that_has_some(predictor):
    with_some = losses_of(predictor, (3, 2))
    without = losses_of(predictor, (0, 0))
    assert list(without) == list(with_some)
    torch.stack(list(without.values())).sum().backward()
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in predictor.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_finite(predictor, dtype):
    with torch.autocast("cpu", dtype=dtype):
        losses = losses_of(predictor, (3, 2))
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert missing_or_wrong_gradients(predictor) == []
    rois, _ = mask_rois()
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        probs, scores = mask_branch_of(predictor.eval()).detect(rois, torch.full((5,), 0.5))
    assert probs.dtype == scores.dtype == torch.float32
    assert probs.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_whole_step_in_mixed_precision_is_near_one_in_single(model, dtype):
    image, target, _ = random_scene(60, 80, 4, 0)
    values = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=dtype, enabled=enabled):
            losses = model.train()([image], [target])
        values.append({name: value.item() for name, value in losses.items()})
    assert values[1] == pytest.approx(values[0], rel=0.3, abs=0.1)


@pytest.mark.parametrize("counts", [(3, 2), (0, 2), (0, 0)])
def test_it_answers_square_probabilities_and_scores(predictor, counts):
    rois, _ = mask_rois(counts)
    before = torch.linspace(0.1, 1, sum(counts))
    with torch.inference_mode():
        probs, scores = mask_branch_of(predictor.eval()).detect(rois, before)
    side = probs.shape[-1]
    assert probs.shape == (sum(counts), side, side)
    assert side % 28 == 0
    assert ((probs >= 0) & (probs <= 1)).all()
    assert scores.shape == before.shape
    assert ((scores >= 0) & (scores <= before)).all()


def test_the_same_seed_gives_the_same(predictor):
    first, second, other = (losses_of(predictor, (3, 2), seed) for seed in (5, 5, 6))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.allclose(first[name], other[name], rtol=0.5) for name in first)


def test_the_weights_are_the_whole_of_it(config, predictor):
    torch.manual_seed(9)
    twin = instantiate(config["mask_predictor"])(in_channels=CHANNELS, num_classes=NUM_CLASSES)
    twin.load_state_dict(predictor.state_dict(), strict=True)
    rois, _ = mask_rois()
    with torch.inference_mode():
        mine, theirs = (mask_branch_of(part.eval()).detect(rois, torch.ones(5)) for part in (predictor, twin))
    assert torch.allclose(mine[0], theirs[0], atol=1e-5)
    assert torch.allclose(mine[1], theirs[1], atol=1e-5)


def test_the_plain_predictors_weights_load_into_it(predictor):
    shared = {"conv5_mask.weight", "conv5_mask.bias", "mask_fcn_logits.weight", "mask_fcn_logits.bias"}
    assert shared <= set(predictor.state_dict()), "torchvision's COCO weights have these names"


def test_a_model_file_with_it_is_rebuilt_and_finds_the_same(config, model, tmp_path):
    header = ModelHeader(
        model=config,
        categories=tuple(Category(number, f"c{number}") for number in range(1, NUM_CLASSES)),
        preprocessing=model.preprocessing,
    )
    save_model_file(tmp_path / "model.safetensors", model.state_dict(), header)
    rebuilt, _ = load_model_file(tmp_path / "model.safetensors")
    images = [random_scene(60, 80, 4, 0)[0], random_scene(50, 50, 0, 1)[0]]
    rebuilt.roi_heads.score_thresh = model.roi_heads.score_thresh = 0.0
    with torch.inference_mode():
        expected, found = model.eval()(images), rebuilt(images)
    for one, other, image in zip(expected, found, images, strict=True):
        count, side = len(one["scores"]), one["mask_probs"].shape[-1]
        assert count > 0
        assert one["boxes"].shape == (count, 4)
        assert one["mask_probs"].shape == (count, side, side)
        assert one["image_size_hw"] == tuple(image.shape[1:])
        assert (one["scores"].diff() <= 0).all()
        assert ((one["labels"] >= 1) & (one["labels"] < NUM_CLASSES)).all()
        assert all(torch.equal(one[key], other[key]) for key in ("boxes", "labels", "scores", "mask_probs"))
