"""When is evaluated, speed forecasts and pictures, with the smallest trainer that can be."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from evaluation_data import empty_detections
from torch.utils.data import DataLoader
from trainer_cases import cpu_trainer

from finemask.training.callbacks.budget import Budget
from finemask.training.callbacks.speed import Speed
from finemask.training.callbacks.validation import CocoEvaluation, _draw
from finemask.training.module import logs_this_step


class Line(pl.LightningModule):
    """One weight; notes in which epochs it was validated, and after how many steps."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.validated, self.steps = [], []

    def training_step(self, batch, batch_idx):
        return (self.weight * batch).sum()

    def validation_step(self, batch, batch_idx):
        self.validated.append(self.current_epoch + 1)
        self.steps.append(self.global_step)
        return []

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def evaluator():
    metrics = {"segm": dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"))}
    metrics["operating_point"] = dict.fromkeys(("precision", "recall", "f1"))
    return SimpleNamespace(reset=lambda: None, add=None, compute=lambda: metrics, iou_types=["segm"])


class StopAfter(pl.Callback):
    """Asks the trainer to stop, as Lightning's timer does."""

    def __init__(self, steps):
        self.steps = steps

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        trainer.should_stop = trainer.global_step >= self.steps


@pytest.mark.parametrize(
    ("ends", "every", "epochs", "last_step"),
    [
        ({"max_epochs": 5}, 3, [3, 5], 10),
        ({"max_epochs": 4}, 2, [2, 4], 8),
        ({"max_epochs": 2}, 6, [2], 4),
        ({"max_epochs": 3}, 1, [1, 2, 3], 6),
        ({"max_epochs": 2, "val_check_interval": 1}, None, [1, 1, 2, 2], 4),
        ({"max_epochs": 9, "max_steps": 3}, 1, [1, 2], 3),
        ({"max_epochs": 9, "max_steps": 3}, 4, [2], 3),
        ({"max_epochs": -1, "max_steps": 4}, 4, [2], 4),
        ({"max_epochs": 9, "stop_after": 5}, 2, [2, 3], 5),
        ({"max_epochs": -1, "stop_after": 3}, 8, [2], 3),
    ],
)
def test_the_last_weights_are_always_evaluated_whatever_ends_the_training(tmp_path, ends, every, epochs, last_step):
    module = Line()
    limits = {name: value for name, value in ends.items() if name != "stop_after"}
    stop = [StopAfter(ends["stop_after"])] if "stop_after" in ends else []
    trainer = pl.Trainer(
        accelerator="cpu",
        **limits,
        check_val_every_n_epoch=every,
        callbacks=[*stop, CocoEvaluation(evaluator())],
        logger=False,
        default_root_dir=tmp_path,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(torch.ones(2, 1))
    module_batches = [[torch.ones(1), []]]
    trainer.fit(module, loader, DataLoader(module_batches, collate_fn=lambda batch: batch[0]))
    assert module.validated == epochs
    assert module.steps[-1] == trainer.global_step == last_step


def simulated(per_epoch, epoch, done, max_epochs, max_steps, every, accumulate):
    """Batches and validations to come, by going through them."""
    step, batches, validations = (epoch * per_epoch + done) // accumulate, 0, 0
    while epoch < max_epochs:
        while done < per_epoch and step != max_steps:
            done, batches = done + 1, batches + 1
            step += done % accumulate == 0
        ends = step == max_steps or epoch + 1 == max_epochs
        validations += ends or (epoch + 1) % every == 0
        if ends:
            break
        epoch, done = epoch + 1, 0
    return batches, validations


@pytest.mark.parametrize("every", [1, 2, 3, 7])
@pytest.mark.parametrize("max_steps", [-1, 9, 12, 16])
@pytest.mark.parametrize(("epoch", "done", "accumulate"), [(0, 2, 1), (1, 0, 1), (1, 3, 1), (1, 2, 2), (2, 0, 2)])
def test_what_is_left_counts_the_steps_and_evaluations_that_will_come(every, max_steps, epoch, done, accumulate):
    per_epoch, max_epochs = 4, 5
    trainer = cpu_trainer(
        per_epoch,
        max_epochs,
        max_steps=max_steps,
        current_epoch=epoch,
        check_val_every_n_epoch=every,
        accumulate_grad_batches=accumulate,
        global_step=(epoch * per_epoch + done) // accumulate,
    )
    speed = Speed()
    speed._durations.append(1.0)
    speed._validation_s, speed._batches_done = 1000.0, done
    batches, validations = simulated(per_epoch, epoch, done, max_epochs, max_steps, every, accumulate)
    assert speed.seconds_left(trainer) == batches + 1000 * validations
    assert speed.last_epoch(trainer) == epoch + max(1, -(-(batches + done) // per_epoch))


def test_a_time_limit_bounds_what_is_left_and_leaves_the_number_of_epochs_open(monkeypatch):
    budget = Budget(100.0, 0.0)
    monkeypatch.setattr(budget, "seconds_left", lambda: 35.0)
    monkeypatch.setattr(budget, "training_seconds_left", lambda: 30.0)
    trainer, speed = cpu_trainer(batches=10, epochs=1000), Speed(budget=budget)
    assert speed.seconds_left(trainer) == 35.0  # whatever the steps take
    assert speed.last_epoch(trainer) is None
    speed._durations.append(1.0)
    speed._validation_s = 5.0
    assert speed.seconds_left(trainer) == 35.0
    assert speed.last_epoch(trainer) is None
    trainer.max_epochs = 2
    assert speed.seconds_left(trainer) == 30.0
    assert speed.last_epoch(trainer) == 2
    trainer.max_epochs = -1
    assert speed.seconds_left(trainer) == 35.0
    monkeypatch.setattr(budget, "seconds_left", lambda: 0.0)
    assert speed.seconds_left(trainer) == 0.0


def test_an_evaluation_that_was_not_seen_yet_is_counted():
    trainer, speed = cpu_trainer(batches=10, epochs=1, num_val_batches=[8]), Speed()
    speed._durations.append(1.0)
    assert speed.seconds_left(trainer) > 10.0


def run_steps(callback, trainer, seconds, monkeypatch, steps=6):
    clock = iter([step * seconds + offset for step in range(steps) for offset in (0.0, seconds * 0.9)])
    monkeypatch.setattr("finemask.training.callbacks.speed.time.perf_counter", lambda: next(clock))
    module = SimpleNamespace(log_dict=lambda values: None)
    callback.on_train_epoch_start(trainer, module)
    batch = ([None, None], [None, None])
    for step in range(steps):
        callback.on_train_batch_start(trainer, module, batch, step)
        callback.on_train_batch_end(trainer, module, None, batch, step)


def test_without_a_gpu_the_epoch_is_forecast_and_a_quicker_preset_named(monkeypatch, caplog):
    with caplog.at_level(logging.INFO, logger="finemask"):
        run_steps(Speed("model=light"), cpu_trainer(), 60.0, monkeypatch)
    assert "at 60.0 s a step, an epoch of 100 steps takes at least 1 h 40 min" in caplog.text
    assert "all 10 epochs with evaluation at least 16 h 35 min" in caplog.text  # five steps are done
    assert "model=light" in caplog.text
    assert caplog.text.count("No GPU") == 1


def test_a_time_limit_is_what_the_forecast_names(monkeypatch, caplog):
    budget = Budget(100.0, 0.0)
    monkeypatch.setattr(budget, "seconds_left", lambda: 80.0)
    monkeypatch.setattr(budget, "training_seconds_left", lambda: 70.0)
    with caplog.at_level(logging.INFO, logger="finemask"):
        run_steps(Speed("model=light", budget), cpu_trainer(), 60.0, monkeypatch)
    assert "an epoch of 100 steps takes at least 1 h 40 min; the budget leaves 70 s to train, about 0.012 of" in (
        caplog.text
    )
    assert "model=light" not in caplog.text
    monkeypatch.setattr(budget, "training_seconds_left", lambda: 1.2e6)
    with caplog.at_level(logging.INFO, logger="finemask"):
        run_steps(Speed("model=light", budget), cpu_trainer(epochs=-1), 60.0, monkeypatch)
    assert "about 200 of them" in caplog.text


def test_a_quick_training_names_no_preset(monkeypatch, caplog):
    with caplog.at_level(logging.INFO, logger="finemask"):
        run_steps(Speed("model=light"), cpu_trainer(), 0.5, monkeypatch, steps=30)
        assert "takes at least" not in caplog.text, "15 seconds are not over"
        run_steps(Speed("model=light"), cpu_trainer(), 0.5, monkeypatch, steps=32)
    assert "takes at least 50 s" in caplog.text
    assert "model=light" not in caplog.text


def test_a_training_of_seconds_has_no_forecast(monkeypatch, caplog):
    with caplog.at_level(logging.INFO, logger="finemask"):
        run_steps(Speed("model=light"), cpu_trainer(), 0.005, monkeypatch, steps=120)
    assert "takes at least" not in caplog.text


def test_images_a_second_are_logged_with_the_share_of_waiting(monkeypatch):
    logged = {}
    trainer, callback = cpu_trainer(), Speed()
    trainer.global_step = 10
    clock = iter([0.0, 1.0, 1.5, 2.0])  # step 1: 0 to 1; then waits until 1.5 and ends at 2
    monkeypatch.setattr("finemask.training.callbacks.speed.time.perf_counter", lambda: next(clock))
    module = SimpleNamespace(log_dict=logged.update)
    for step in range(2):
        callback.on_train_batch_start(trainer, module, None, step)
        callback.on_train_batch_end(trainer, module, None, ([None] * 4, []), step)
    assert logged == {"train/images_per_s": pytest.approx(4.0), "train/data_wait": pytest.approx(0.5)}


@pytest.mark.parametrize(("step", "expected"), [(8, False), (9, True), (19, True)])
def test_only_steps_that_reach_a_logger_are_noted(step, expected):
    assert logs_this_step(SimpleNamespace(global_step=step, log_every_n_steps=10)) is expected


def test_a_picture_without_detections_is_the_image_itself():
    image = np.full((400, 420, 3), 90, dtype=np.uint8)
    assert np.array_equal(np.asarray(_draw(image, empty_detections((400, 420)), 0.5)), image)


def test_detections_below_the_threshold_are_not_drawn():
    image = np.full((400, 420, 3), 90, dtype=np.uint8)
    found = empty_detections((400, 420))
    found["boxes"] = torch.tensor([[10.0, 10, 60, 60], [300, 300, 380, 380]])
    found["labels"], found["scores"] = torch.tensor([1, 1]), torch.tensor([0.9, 0.3])
    found["mask_probs"] = torch.ones(2, 28, 28)
    picture = np.asarray(_draw(image, found, 0.5))
    assert not np.array_equal(picture[20:50, 20:50], image[20:50, 20:50])
    assert np.array_equal(picture[290:, 290:], image[290:, 290:])
