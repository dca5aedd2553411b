"""What every regression loss of the box head must do: all files of configs/model/box_loss."""

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torchvision.models.detection._utils import BoxCoder

from finemask.config import config_dir
from finemask.config.config_files import shipped_targets
from finemask.model.box_predictor.box_branch import BoxCriterion
from finemask.model.class_losses import CrossEntropyLoss

FOLDER = config_dir() / "model" / "box_loss"
VARIANTS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.fixture(scope="module", params=VARIANTS)
def criterion(request):
    """Both losses of the box head, with this variant for the boxes."""
    config = OmegaConf.load(FOLDER / f"{request.param}.yaml")
    assert config._target_ in shipped_targets("model")
    return BoxCriterion(CrossEntropyLoss(), instantiate(config), BoxCoder((10.0, 10.0, 5.0, 5.0)))


def case(rois):
    """Predictions somewhat off, proposals, and the boxes they should become."""
    generator = torch.Generator().manual_seed(2)
    corners = 40 * torch.rand(rois, 2, generator=generator)
    proposals = torch.cat([corners, corners + 10 + 20 * torch.rand(rois, 2, generator=generator)], dim=1)
    wanted = proposals + torch.randn(rois, 4, generator=generator)
    targets = BoxCoder((10.0, 10.0, 5.0, 5.0)).encode_single(wanted, proposals)
    regression = (targets.repeat(1, 4) + torch.randn(rois, 16, generator=generator)).requires_grad_()
    logits = torch.randn(rois, 4, generator=generator).requires_grad_()
    return logits, regression, targets, proposals


def test_scalars_with_gradients_for_the_true_classes_deltas_only(criterion):
    logits, regression, targets, proposals = case(5)
    labels = torch.tensor([0, 1, 2, 3, 0])
    losses = criterion(logits, regression, labels, targets, proposals)
    assert list(losses) == ["loss_classifier", "loss_box_reg"]
    assert all(value.shape == () and value > 0 for value in losses.values())
    losses["loss_box_reg"].backward()
    expected = torch.zeros(5, 4, dtype=torch.bool)
    expected[[1, 2, 3], [1, 2, 3]] = True
    assert torch.equal((regression.grad.reshape(5, 4, 4) != 0).any(2), expected)


@pytest.mark.parametrize("rois", [0, 6])
def test_without_positives_it_is_zero_with_a_gradient(criterion, rois):
    logits, regression, targets, proposals = case(rois)
    labels = torch.zeros(rois, dtype=torch.int64)
    losses = criterion(logits, regression, labels, targets, proposals)
    sum(losses.values()).backward()
    assert losses["loss_box_reg"].item() == 0
    assert losses["loss_classifier"].isfinite()
    assert torch.equal(regression.grad, torch.zeros(rois, 16))
    assert logits.grad.isfinite().all()


def test_perfect_deltas_cost_nothing_and_worse_ones_more(criterion):
    logits, _, targets, proposals = case(5)
    labels = torch.tensor([1, 1, 2, 3, 2])

    def cost(off):
        return criterion(logits, (targets + off).repeat(1, 4), labels, targets, proposals)["loss_box_reg"].item()

    assert cost(0.0) == pytest.approx(0.0, abs=1e-4)
    assert cost(0.0) < cost(0.5) < cost(1.5)


def test_positives_are_averaged_over_all_sampled_rois(criterion):
    logits, regression, targets, proposals = case(4)
    alone = criterion(logits[:2], regression[:2], torch.tensor([1, 2]), targets[:2], proposals[:2])
    among = criterion(logits, regression, torch.tensor([1, 2, 0, 0]), targets, proposals)
    assert among["loss_box_reg"].item() == pytest.approx(alone["loss_box_reg"].item() / 2, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_wild_deltas_and_half_precision_stay_finite(criterion, dtype, scale):
    logits, regression, targets, proposals = case(5)
    with torch.autocast("cpu", dtype=dtype):
        losses = criterion(logits, regression * scale, torch.tensor([1, 2, 3, 1, 0]), targets, proposals)
    sum(losses.values()).backward()
    assert all(value.isfinite() and value.dtype == torch.float32 for value in losses.values())
    assert regression.grad.isfinite().all()


def test_it_draws_nothing(criterion):
    arguments = case(5)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, second = (criterion(*arguments[:2], torch.tensor([1, 2, 3, 1, 0]), *arguments[2:]) for _ in range(2))
    assert torch.equal(first["loss_box_reg"], second["loss_box_reg"])
    assert torch.equal(state, torch.get_rng_state())
