"""The learning rate by trial: where a loss falls, and that nothing is left of the trial."""

import random

import numpy as np
import pytest
import torch
from model_cases import model_config, random_scene

from finemask.model.build import build_model
from finemask.training.lr_finder import LEAST, MOST, suggested_rate, try_rates
from finemask.training.module import MaskRCNNModule


def test_the_suggestion_is_half_of_the_way_down():
    """A logistic fall from 4 to 2 about a rate of 0.01 is half done there."""
    rates = np.geomspace(1e-5, 1e-1, 200)
    smoothed = 2 + 2 / (1 + (rates / 0.01) ** 2)
    expected = np.sqrt(0.01**2 * (4 - (h := (smoothed.max() + smoothed.min()) / 2)) / (h - 2))
    assert suggested_rate(rates, smoothed) == pytest.approx(expected, rel=0.01)
    up_again = np.where(rates > 0.05, 9.0, smoothed)
    assert suggested_rate(rates, up_again) == pytest.approx(0.01, rel=0.15), "what comes after the least says nothing"


def test_without_a_fall_there_is_no_suggestion():
    rates = np.geomspace(1e-5, 1e-1, 50)
    assert suggested_rate(rates, np.full(50, 3.0)) is None
    assert suggested_rate(rates, np.linspace(3, 9, 50)) is None
    assert suggested_rate(rates[:1], np.array([1.0])) is None


class Quadratic(torch.nn.Module):
    """Stands for the detector: its loss is the square of how far one weight is off."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((1,), 3.0))
        self.norm = torch.nn.BatchNorm1d(1)

    def forward(self, images, targets):
        noise = torch.rand(1) + random.random() + np.random.rand()
        self.norm(torch.tensor([[1.0], [3.0]]))
        return {"loss": (self.weight**2).sum() + 1e-3 * noise.sum()}


def test_weights_buffers_modes_and_random_numbers_are_as_before():
    model = Quadratic()
    model.eval()
    module = MaskRCNNModule(model, optimizer=torch.optim.SGD, lr=0.5, weight_decay=0.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    trial = try_rates(module, iter([([], [])] * 200), lr=0.5, steps=60)
    drawn = torch.rand(1).item(), random.random(), np.random.rand()
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    assert drawn == (torch.rand(1).item(), random.random(), np.random.rand())
    assert {name: value.tolist() for name, value in model.state_dict().items()} == {
        name: value.tolist() for name, value in before.items()
    }
    assert model.weight.grad is None
    assert not model.training
    assert not model.norm.training
    assert trial.rates[0] == pytest.approx(0.5 * LEAST)
    assert trial.rates[-1] < 0.5 * MOST, "above a rate of 1 the square grows: it ends there"
    assert trial.losses[0] == pytest.approx(9, rel=0.01)
    assert 1e-3 < trial.suggestion < 0.5


def test_a_detector_is_put_back_to_the_bit():
    """With batch norms that learn, on real batches."""
    model = build_model(model_config("tiny"), num_classes=4)
    image, target, _ = random_scene(64, 96, 3)
    module = MaskRCNNModule(model, lr=1e-3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trial = try_rates(module, [([image], [target])] * 12, lr=1e-3, steps=12, clip=10.0)
    assert len(trial.losses) == 12
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
