"""What a run says, and durations in words."""

import errno
import io
import logging
import shlex
import warnings

import pytest
from rich.table import Table

from finemask.training.callbacks.speed import format_duration
from finemask.training.console import RunLog, logging_to, print_next_steps, progress_alone, show_table


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (94, "1 min 30 s"),
        (116, "2 min"),
        (164, "2 min 40 s"),
        (594, "9 min 50 s"),
        (596, "10 min"),
        (3599, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (400_000, "5 days"),
    ],
)
def test_durations_in_words(seconds, words):
    assert format_duration(seconds) == words


def test_the_log_file_holds_our_words_tables_and_everybodys_warnings(tmp_path, capsys):
    table = Table(title="Weights")
    table.add_column("part")
    table.add_row("backbone")
    before = logging.getLogger("finemask").handlers[:]
    run_log = RunLog()
    with logging_to(run_log, is_main=True):
        show_table(table)  # before the run has a folder
        run_log.open(tmp_path / "train.log")
        logging.getLogger("finemask.training").info("epoch 1")
        warnings.warn("few workers", stacklevel=1)
    text = (tmp_path / "train.log").read_text()
    assert "INFO epoch 1" in text
    assert "backbone" in text
    assert "few workers" in text
    shown = capsys.readouterr()
    assert "epoch 1" in shown.err + shown.out
    assert "few workers" not in shown.err + shown.out
    assert logging.getLogger("finemask").handlers == before


def test_of_a_later_training_of_a_series_only_progress_and_warnings_are_shown(tmp_path, capsys):
    table = Table(title="Weights")
    table.add_column("part")
    table.add_row("backbone")
    run_log = RunLog()
    with logging_to(run_log, is_main=True), progress_alone():
        run_log.open(tmp_path / "train.log")
        show_table(table)
        logging.getLogger("finemask.workflows.train_model").info("Anchors: fitted")
        logging.getLogger("finemask.training.callbacks.progress_bar").info("epoch 1")
        logging.getLogger("finemask.workflows.train_model").warning("odd labels")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "epoch 1\nwarning: odd labels\n")
    text = (tmp_path / "train.log").read_text()
    assert all(word in text for word in ("backbone", "Anchors: fitted", "epoch 1", "odd labels"))


def test_lightnings_own_news_reach_nobody_and_its_warnings_the_log(tmp_path, capsys):
    run_log = RunLog()
    with logging_to(run_log, is_main=True):
        run_log.open(tmp_path / "train.log")
        logging.getLogger("pytorch_lightning.utilities.rank_zero").info("Tip: buy this")
        logging.getLogger("lightning_fabric.utilities.seed").info("Seed set to 0")
        logging.getLogger("pytorch_lightning.utilities.rank_zero").warning("something is wrong")
        warnings.warn("`isinstance(treespec, LeafSpec)` is deprecated, use something else", FutureWarning, stacklevel=1)
        warnings.warn("The number of training batches (4) is smaller than the logging interval", stacklevel=1)
        logging.getLogger("finemask.training").warning("too few images")
    text = (tmp_path / "train.log").read_text()
    assert [line.split(" ", 2)[2] for line in text.splitlines()] == [
        "WARNING something is wrong",
        "WARNING too few images",
    ]
    assert capsys.readouterr().err == "warning: too few images\n"


def test_other_processes_of_a_run_write_no_log(tmp_path):
    run_log = RunLog()
    with logging_to(run_log, is_main=False):
        logging.getLogger("finemask.training").info("epoch 1")
    assert run_log.stream.getvalue() == ""


def test_a_log_on_a_full_disk_loses_lines_without_a_traceback(tmp_path, capsys):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    run_log = RunLog()
    run_log.setStream(Full())
    with logging_to(run_log, is_main=True):
        logging.getLogger("finemask.training").info("epoch 1")
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ap50", "recall", "precision", "threshold", "said"),
    [
        (None, None, None, None, "Learned 1 class: cell"),
        (0.0, 0.0, None, None, "finds none of the objects yet"),
        (0.75, 0.5, 1.0, 0.25, "At score 0.25 it finds 50 % of the objects; 100 % of what it finds is right."),
    ],
)
@pytest.mark.parametrize("on_own_data", [True, False])
def test_the_last_lines(tmp_path, capsys, on_own_data, ap50, recall, precision, threshold, said):
    metrics = {
        "images": 1,
        "segm": {"AP50": ap50},
        "per_class": {"cell": {}},
        "operating_point": {"recall": recall, "precision": precision, "threshold": threshold},
    }
    paths = [tmp_path / "metrics.json"]
    data = {"root": str(tmp_path), "images": "photos"}
    print_next_steps(metrics, tmp_path / "model.safetensors", paths, data, on_own_data=on_own_data)
    shown = capsys.readouterr().out
    assert said in shown
    assert f"finemask predict model={tmp_path}/model.safetensors source={tmp_path}/photos output=" in shown
    assert ("your own images" in shown) is not on_own_data


def test_the_next_command_can_be_pasted_where_a_path_has_blanks(tmp_path, capsys):
    metrics = {
        "images": 1,
        "segm": {"AP50": 0.5},
        "per_class": {"cell": {}},
        "operating_point": {"recall": 0.5, "precision": None, "threshold": None},
    }
    root = tmp_path / "my photos"
    data = {"root": str(root), "images": "images"}
    print_next_steps(metrics, root / "runs" / "model.safetensors", [], data, on_own_data=True)
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines() if line.startswith("  finemask")]
    assert commands == [
        ["finemask", "data", "preview", f"data.root={root}", "output=preview"],
        ["finemask", "predict", f"model={root}/runs/model.safetensors", f"source={root}/images", "output=found"],
    ]
