"""The line of a finished epoch, and the bar below it on a terminal."""

import io
import logging
import re

import pytest
import torch
from rich.console import Console
from trainer_cases import cpu_trainer

from finemask.training.callbacks.progress_bar import EpochLines, TerminalProgress, _label
from finemask.training.callbacks.speed import Speed

BATCH = ([None, None], [None, None])


def run_epoch(lines, trainer, losses, validate=None):
    lines.on_train_epoch_start(trainer, None)
    for step, loss in enumerate(losses):
        lines.on_train_batch_end(trainer, None, {"loss": torch.tensor(loss)}, BATCH, step)
    if validate is not None:
        trainer.callback_metrics["val/segm_AP"] = torch.tensor(validate)
        lines.on_validation_epoch_end(trainer, None)
    lines.on_train_epoch_end(trainer, None)


def test_a_line_an_epoch_with_the_mean_loss_and_the_metric_only_where_it_was_measured(caplog):
    trainer, lines = cpu_trainer(batches=2, epochs=12), EpochLines(Speed())
    with caplog.at_level(logging.INFO, logger="finemask"):
        run_epoch(lines, trainer, [3.0, 1.0], validate=0.25)
        trainer.current_epoch = 1
        run_epoch(lines, trainer, [1.0, 0.5])
        trainer.current_epoch = 11
        run_epoch(lines, trainer, [], validate=float("nan"))
    first, second, last = caplog.messages
    assert first.startswith("epoch  1/12  loss 2.000  mask AP 0.250  ")
    assert second.startswith("epoch  2/12  loss 0.750" + " " * len("  mask AP 0.250") + "  ")
    assert last.startswith("epoch 12/12  loss  –     mask AP n/a    ")


def test_the_loss_of_gathered_batches_is_that_of_a_batch(caplog):
    trainer, lines = cpu_trainer(batches=2, epochs=1, accumulate_grad_batches=4), EpochLines(Speed())
    with caplog.at_level(logging.INFO, logger="finemask"):
        run_epoch(lines, trainer, [0.5, 0.5])  # Lightning hands over a quarter
    assert "loss 2.000" in caplog.text


@pytest.mark.parametrize(
    ("name", "label"),
    [("val/segm_AP", "mask AP"), ("val/bbox_AP50", "box AP50"), ("val/f1", "val/f1"), ("train/loss", "train/loss")],
)
def test_metrics_in_words(name, label):
    assert _label(name) == label


def test_max_steps_is_named_where_it_ends_the_training(caplog):
    trainer = cpu_trainer(epochs=9, max_steps=3, global_step=3, current_epoch=2)
    with caplog.at_level(logging.INFO, logger="finemask"):
        EpochLines(Speed()).on_train_end(trainer, None)
    assert caplog.messages == ["trainer.max_steps=3 ends the training in epoch 2."]


def test_on_a_terminal_the_bar_has_a_loss_from_the_first_step_and_leaves_nothing_but_the_line(monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, color_system=None)
    monkeypatch.setattr("finemask.training.callbacks.progress_bar.get_console", lambda: console)
    trainer, bar = cpu_trainer(batches=20, epochs=3), TerminalProgress(Speed())
    bar.on_train_epoch_start(trainer, None)
    bar.on_train_batch_end(trainer, None, {"loss": torch.tensor(1.5)}, BATCH, 0)
    bar._bar.refresh()
    drawn = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]", screen.getvalue())]
    (line,) = {line.rstrip() for line in drawn if "loss 1.500" in line}
    assert line.startswith(("epoch 1/3  loss 1.500 ━", "epoch 1/3  loss 1.500 ╸"))
    assert " 1/20 " in line
    assert max(map(len, drawn)) == 77, "room for a ^C"
    console.print("a message")
    assert re.search(r"(^|\n|K)a message\n", screen.getvalue()), "not glued to the bar"
    bar.on_exception(trainer, None, KeyboardInterrupt())
    assert screen.getvalue().endswith(("\x1b[2K", "\x1b[?25h"))
    assert bar._bar is None


def test_of_several_processes_only_the_first_draws_a_bar(monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    monkeypatch.setattr("finemask.training.callbacks.progress_bar.get_console", lambda: console)
    trainer, bar = cpu_trainer(is_global_zero=False), TerminalProgress(Speed())
    bar.setup(trainer, None, "fit")
    bar.on_train_epoch_start(trainer, None)
    bar.on_train_batch_end(trainer, None, {"loss": torch.tensor(1.5)}, BATCH, 0)
    assert screen.getvalue() == ""
