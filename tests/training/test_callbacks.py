"""When is evaluated, speed forecasts and pictures, with the smallest trainer that can be."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from evaluation_data import empty_detections
from torch.utils.data import DataLoader

from finemask.training.callbacks.evaluation import CocoEvaluation
from finemask.training.callbacks.pictures import _draw
from finemask.training.callbacks.speed import Speed
from finemask.training.module import logs_this_step


def cpu_trainer(batches=100, epochs=10):
    return SimpleNamespace(
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        num_training_batches=batches,
        max_epochs=epochs,
        world_size=1,
        global_step=1,
        log_every_n_steps=10,
    )


class Line(pl.LightningModule):
    """One weight; notes in which epochs it was validated."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.validated = []

    def training_step(self, batch, batch_idx):
        return (self.weight * batch).sum()

    def validation_step(self, batch, batch_idx):
        self.validated.append(self.current_epoch + 1)
        return []

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def evaluator():
    metrics = {"segm": dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"))}
    metrics["operating_point"] = dict.fromkeys(("precision", "recall", "f1"))
    return SimpleNamespace(reset=lambda: None, add=None, compute=lambda: metrics, iou_types=["segm"])


@pytest.mark.parametrize(
    ("epochs", "every", "expected"), [(5, 3, [3, 5]), (4, 2, [2, 4]), (2, 6, [2]), (3, 1, [1, 2, 3])]
)
def test_the_last_epoch_is_always_evaluated(tmp_path, epochs, every, expected):
    module = Line()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        check_val_every_n_epoch=every,
        callbacks=[CocoEvaluation(evaluator())],
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
    assert module.validated == expected


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
    assert "at 60.0 s a step an epoch of 100 steps takes about 1 h 40 min" in caplog.text
    assert "all 10 epochs about 16 h 40 min" in caplog.text
    assert "model=light" in caplog.text
    assert caplog.text.count("No GPU") == 1


def test_a_quick_training_names_no_preset(monkeypatch, caplog):
    with caplog.at_level(logging.INFO, logger="finemask"):
        run_steps(Speed("model=light"), cpu_trainer(), 0.5, monkeypatch)
    assert "takes about 50 s" in caplog.text
    assert "model=light" not in caplog.text


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
