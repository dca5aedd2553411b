"""A run that dies in the midst of an epoch goes on there: no sample twice, none left out, the same weights."""

import multiprocessing
import os
import signal
from collections import Counter

import pytest
import pytorch_lightning as pl
import torch
from run_cases import StopAt, small_run

from finemask.data.shapes import draw_shapes
from finemask.errors import FinemaskError
from finemask.training.callbacks.checkpoints import LastCheckpoint
from finemask.workflows import train_model as training
from finemask.workflows.train_model import run_training

EPOCHS, BATCHES = 2, 4  # of 8 images, in twos


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return draw_shapes(tmp_path_factory.mktemp("shapes") / "data", images=10, size=64, seed=1)


class Seen(pl.Callback):
    """Which images every step was made of."""

    def __init__(self):
        self.batches = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        images = [target["image_id"] for target in batch[1]]
        self.batches.append((trainer.current_epoch, batch_idx, pl_module.training, images))


class DeathError(Exception):
    """As a process does that is killed: nothing is saved, nobody is told."""


class DieAt(pl.Callback):
    def __init__(self, epoch, batch):
        self._where = (epoch, batch)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self._where:
            raise DeathError


def run(shapes, output, monkeypatch, *callbacks, options=()):
    def with_ours(*arguments):
        trainer = build(*arguments)
        trainer.callbacks[0:0] = callbacks
        return trainer

    build = training.build_trainer
    length = ("data.batch_size=2", f"trainer.max_epochs={EPOCHS}", "trainer.limit_val_batches=1")
    cfg = small_run(shapes, output, *length, *options)
    with monkeypatch.context() as patch:
        patch.setattr(training, "build_trainer", with_ours)
        return run_training(cfg)


def weights_of(output):
    path = output / "small" / "latest" / "checkpoints" / "last.ckpt"
    return torch.load(path, weights_only=True)


def assert_the_same(one, other):
    assert one["global_step"] == other["global_step"]
    for name, tensor in one["state_dict"].items():
        assert torch.equal(tensor, other["state_dict"][name]), name
    for state, expected in zip(
        one["optimizer_states"][0]["state"].values(), other["optimizer_states"][0]["state"].values(), strict=True
    ):
        assert all(torch.equal(torch.as_tensor(state[key]), torch.as_tensor(expected[key])) for key in expected)


@pytest.fixture(scope="module")
def undisturbed(shapes, tmp_path_factory):
    output, seen = tmp_path_factory.mktemp("undisturbed"), Seen()
    with pytest.MonkeyPatch.context() as patch:
        run(shapes, output, patch, seen)
    steps = [(epoch, batch) for epoch in range(EPOCHS) for batch in range(BATCHES)]
    assert [(epoch, batch) for epoch, batch, *_ in seen.batches] == steps
    return weights_of(output), seen.batches


@pytest.mark.parametrize(("moment", "workers"), [((0, 1), 0), ((1, 0), 1), ((1, 2), 1), ((1, 3), 0)])
def test_it_goes_on_with_the_batch_that_comes_next(shapes, undisturbed, tmp_path, monkeypatch, moment, workers):
    first, second = Seen(), Seen()
    with pytest.raises(DeathError):
        run(shapes, tmp_path, monkeypatch, first, DieAt(*moment), options=["checkpoint_every=0s"])
    options = ["checkpoint_every=0s", "resume=auto", f"data.num_workers={workers}"]
    run(shapes, tmp_path, monkeypatch, second, options=options)
    weights, batches = undisturbed
    assert [*first.batches, *second.batches] == batches
    assert_the_same(weights_of(tmp_path), weights)
    for epoch in range(EPOCHS):
        images = Counter(image for of_epoch, *_, ids in batches for image in ids if of_epoch == epoch)
        assert set(images.values()) == {1}


def test_between_two_checkpoints_steps_are_taken_again(shapes, undisturbed, tmp_path, monkeypatch):
    """Ten minutes lie between them: of the epoch that was begun nothing was saved."""
    with pytest.raises(DeathError):
        run(shapes, tmp_path, monkeypatch, DieAt(1, 2))
    second = Seen()
    run(shapes, tmp_path, monkeypatch, second, options=["resume=auto"])
    weights, batches = undisturbed
    assert second.batches == batches[BATCHES:]
    assert_the_same(weights_of(tmp_path), weights)


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGUSR1"])
def test_asked_to_terminate_it_saves_first(shapes, undisturbed, tmp_path, monkeypatch, signal_name):
    first, second = Seen(), Seen()
    assert run(shapes, tmp_path, monkeypatch, first, StopAt(1, 2, signal_name)) is None
    run(shapes, tmp_path, monkeypatch, second, options=["resume=auto"])
    weights, batches = undisturbed
    assert [*first.batches, *second.batches] == batches
    assert_the_same(weights_of(tmp_path), weights)


def test_gathered_gradients_are_never_cut_in_two(shapes, tmp_path, monkeypatch):
    options = ["trainer.accumulate_grad_batches=2", "checkpoint_every=0s"]
    whole, first, second = Seen(), Seen(), Seen()
    run(shapes, tmp_path / "whole", monkeypatch, whole, options=options)
    with pytest.raises(DeathError):
        run(shapes, tmp_path / "cut", monkeypatch, first, DieAt(0, 3), options=options)
    run(shapes, tmp_path / "cut", monkeypatch, second, options=[*options, "resume=auto"])
    assert second.batches == whole.batches[2:], "from the last whole step on"
    assert_the_same(weights_of(tmp_path / "cut"), weights_of(tmp_path / "whole"))


def test_without_a_time_nothing_is_written_within_an_epoch(tmp_path):
    assert LastCheckpoint(tmp_path)._every_s == float("inf")


class KillWorkers(pl.Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (1, 1):
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGKILL)
                worker.join()


def test_a_loader_that_is_killed_ends_it_in_words(shapes, undisturbed, tmp_path, monkeypatch):
    with pytest.raises(FinemaskError, match=r"a process that loads images was killed .*data\.num_workers=1 takes less"):
        run(shapes, tmp_path, monkeypatch, KillWorkers(), options=["data.num_workers=1"])
    run(shapes, tmp_path, monkeypatch, options=["resume=auto"])
    assert_the_same(weights_of(tmp_path), undisturbed[0])
