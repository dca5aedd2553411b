"""The learning rate by trial: where a loss falls, and that nothing is left of the trial."""

import json
import random

import numpy as np
import pytest
import torch
from model_cases import model_config, random_scene

from finemask import train
from finemask.model.build import build_model
from finemask.training.lr_finder import LEAST, MOST, RateTrial, largest_rate, try_rates
from finemask.training.module import MaskRCNNModule


def test_the_suggestion_is_a_quarter_of_the_rate_at_which_the_loss_rises():
    """A fall from 4 to 2 wherever it lies, and a rise with the square of the rate: by a tenth at a rate of 0.02."""
    rates = np.geomspace(1e-5, 1e-1, 400)
    for fall in (1e-4, 1e-3):
        smoothed = 2 + 2 / (1 + (rates / fall) ** 4) + 0.2 * (rates / 0.02) ** 2
        expected = 0.02 * np.sqrt(1.1 * smoothed.min() - 2) / np.sqrt(0.2)  # the fall is over there
        assert largest_rate(rates, smoothed) == pytest.approx(expected, rel=0.01)
        assert expected == pytest.approx(0.02, rel=0.05)
        assert RateTrial(rates, smoothed, smoothed, expected).suggestion == pytest.approx(expected / 4)


def test_a_loss_that_does_not_rise_gives_the_last_rate():
    rates = np.geomspace(1e-5, 1e-1, 50)
    falling = np.linspace(4, 2, 50)
    trial = RateTrial(rates, falling, falling, largest_rate(rates, falling))
    assert trial.ends_early
    assert trial.suggestion == pytest.approx(0.025)


def test_without_a_fall_there_is_no_suggestion():
    rates = np.geomspace(1e-5, 1e-1, 50)
    assert largest_rate(rates, np.full(50, 3.0)) is None
    assert largest_rate(rates, np.linspace(3, 9, 50)) is None
    assert largest_rate(rates[:1], np.array([1.0])) is None
    assert RateTrial(rates, rates, rates, None).suggestion is None


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
    assert 0.25 <= trial.suggestion < 0.6, "at 1 it stays, above it grows; 0.5 is best"


def test_a_detector_is_put_back_to_the_bit():
    """With batch norms that learn, on real batches."""
    model = build_model(model_config("tiny"), num_classes=4)
    image, target, _ = random_scene(64, 96, 3)
    module = MaskRCNNModule(model, lr=1e-3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trial = try_rates(module, [([image], [target])] * 12, lr=1e-3, steps=12, clip=10.0)
    assert len(trial.losses) == 12
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fruits_nuts", "bottles"])
def test_on_photographs_it_finds_what_is_known_to_train_well(shared_dir, tmp_path, name):
    """The plan's rates for AdamW, 3.5e-4 at a batch of 2 to 7e-4 at one of 8; here within a factor of three of them."""
    words = ["model=light", "model.min_size=128", "model.max_size=192", "find_lr=true", "callbacks=none", "logger=csv"]
    short = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "data.num_workers=0", "trainer.accelerator=cpu"]
    run = train(shared_dir / "datasets" / name, [*words, *short, f"output={tmp_path}"])
    (folder,) = tmp_path.glob("*/2*")
    found = json.loads((folder / "lr_finder.json").read_text())
    assert 3.5e-4 / 3 <= found["suggestion"] <= 7e-4 * 3
    assert found["text"] in (folder / "lr_finder.html").read_text()
    assert f"  lr: {found['suggestion']:.2g}" in (folder / "config.yaml").read_text(), "a repeated run has it"
    assert run.model_path.is_file()
