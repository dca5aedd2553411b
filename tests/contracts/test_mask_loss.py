"""What every mask loss must do: all files of configs/model/mask_loss."""

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from finemask.config import config_dir
from finemask.config.config_files import shipped_targets

FOLDER = config_dir() / "model" / "mask_loss"
VARIANTS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.fixture(scope="module", params=VARIANTS)
def loss(request):
    config = OmegaConf.load(FOLDER / f"{request.param}.yaml")
    assert config._target_ in shipped_targets("model")
    return instantiate(config)


def case(rois, side=28):
    """Logits, discs as targets, labels."""
    generator = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    centre = side / 2 + 2 * torch.randn(rois, 2, 1, 1, generator=generator)
    targets = (((x - centre[:, 0]) ** 2 + (y - centre[:, 1]) ** 2).sqrt() - side / 3).mul(-0.5).sigmoid()
    logits = torch.randn(rois, side, side, generator=generator).requires_grad_()
    return logits, targets, torch.ones(rois, dtype=torch.int64)


@pytest.mark.parametrize("side", [14, 28, 56])
def test_a_finite_scalar_with_gradients(loss, side):
    logits, targets, labels = case(3, side)
    value = loss(logits, targets, labels)
    assert value.shape == ()
    assert value > 0
    value.backward()
    assert (logits.grad != 0).all()


def test_no_rois_are_nothing_to_lose(loss):
    logits, targets, labels = case(0)
    value = loss(logits, targets, labels)
    value.backward()
    assert value.item() == 0
    assert logits.grad.shape == (0, 28, 28)


def test_better_masks_cost_less_and_perfect_ones_nothing(loss):
    _, targets, labels = case(3)
    binary = (targets >= 0.5).float()
    costs = [loss((binary * 2 - 1) * sureness, binary, labels).item() for sureness in (-40.0, -1.0, 0.0, 1.0, 40.0)]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] == pytest.approx(0.0, abs=1e-6)


def test_a_step_along_the_gradient_makes_it_smaller(loss):
    logits, targets, labels = case(3)
    before = loss(logits, targets, labels)
    before.backward()
    assert loss(logits.detach() - logits.grad, targets, labels) < before


def test_empty_and_full_targets_are_finite(loss):
    logits, targets, labels = case(2)
    targets[0], targets[1] = 0.0, 1.0
    value = loss(logits, targets, labels)
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_certain_logits_and_half_precision_stay_finite(loss, dtype, scale):
    logits, targets, labels = case(3)
    with torch.autocast("cpu", dtype=dtype):
        value = loss(logits * scale, targets, labels)
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert logits.grad.isfinite().all()
    if scale == 1.0:
        assert torch.allclose(value, loss(logits, targets, labels)), "a loss is computed in full precision"


def test_the_order_of_the_rois_does_not_matter_and_nothing_is_drawn(loss):
    logits, targets, labels = case(4)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert torch.allclose(loss(logits, targets, labels), loss(logits.flip(0), targets.flip(0), labels))
    assert torch.equal(state, torch.get_rng_state())
