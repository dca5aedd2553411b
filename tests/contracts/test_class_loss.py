"""What every classification loss must do: all files of configs/model/class_loss."""

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from finemask.config import config_dir
from finemask.config.config_files import shipped_targets

FOLDER = config_dir() / "model" / "class_loss"
VARIANTS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.fixture(scope="module", params=[(name, weights) for name in VARIANTS for weights in (None, [0.5, 2.0, 3.0])])
def loss(request):
    name, weights = request.param
    config = OmegaConf.load(FOLDER / f"{name}.yaml")
    assert config._target_ in shipped_targets("model")
    assert "class_weights" in config
    return instantiate(config, class_weights=weights, _convert_="all")


def case(rois, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(rois, 4, generator=generator, dtype=dtype)
    return logits.requires_grad_(), torch.randint(4, (rois,), generator=generator)


def test_a_finite_scalar_with_a_gradient_for_every_logit(loss):
    logits, labels = case(6)
    value = loss(logits, labels)
    assert value.shape == ()
    assert value > 0
    value.backward()
    assert (logits.grad != 0).all()
    assert torch.allclose(logits.grad.sum(1), torch.zeros(6), atol=1e-6), (
        "a softmax does not feel a shift of its logits"
    )


def test_no_rois_are_nothing_to_lose(loss):
    logits, labels = case(0)
    value = loss(logits, labels)
    value.backward()
    assert value.item() == 0
    assert logits.grad.shape == (0, 4)


def test_background_alone_is_finite(loss):
    logits, _ = case(5)
    value = loss(logits, torch.zeros(5, dtype=torch.int64))
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


def test_a_step_along_the_gradient_makes_it_smaller(loss):
    logits, labels = case(40, torch.float64)
    before = loss(logits, labels)
    before.backward()
    assert loss(logits.detach() - 0.1 * logits.grad, labels) < before


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_certain_logits_and_half_precision_stay_finite(loss, dtype, scale):
    logits, labels = case(8)
    with torch.autocast("cpu", dtype=dtype):
        value = loss(logits * scale, labels)
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert logits.grad.isfinite().all()


def test_it_draws_nothing(loss):
    logits, labels = case(8)
    torch.manual_seed(0)
    first, state = loss(logits, labels), torch.get_rng_state()
    assert torch.equal(first, loss(logits, labels))
    assert torch.equal(state, torch.get_rng_state())
