"""metrics.csv over a run, a resume and a change of columns."""

import csv

from finemask.training.csv_logger import CsvLogger


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_values_of_one_step_share_a_row_and_new_columns_are_added(tmp_path):
    logger = CsvLogger(tmp_path / "metrics.csv")
    logger.log_metrics({"train/loss": 2.5, "epoch": 0}, step=9)
    logger.log_metrics({"lr": 0.1}, step=9)
    logger.save()
    logger.log_metrics({"train/loss": 1.25, "epoch": 0, "val/segm_AP": 0.5}, step=19)
    logger.finalize("success")
    assert rows(tmp_path / "metrics.csv") == [
        {"epoch": "0", "step": "9", "train/loss": "2.5", "lr": "0.1", "val/segm_AP": ""},
        {"epoch": "0", "step": "19", "train/loss": "1.25", "lr": "", "val/segm_AP": "0.5"},
    ]


def test_a_resumed_run_goes_on_and_takes_back_the_steps_after_its_checkpoint(tmp_path):
    first = CsvLogger(tmp_path / "metrics.csv")
    for step in (9, 19, 29):
        first.log_metrics({"train/loss": float(step), "epoch": 0}, step=step)
        first.save()
    second = CsvLogger(tmp_path / "metrics.csv")
    second.drop_after(20)
    second.log_metrics({"train/loss": 7.0, "epoch": 1}, step=29)
    second.save()
    assert [(row["step"], row["train/loss"]) for row in rows(tmp_path / "metrics.csv")] == [
        ("9", "9"),
        ("19", "19"),
        ("29", "7"),
    ]


def test_nothing_logged_leaves_a_readable_file(tmp_path):
    CsvLogger(tmp_path / "metrics.csv").finalize("success")
    assert rows(tmp_path / "metrics.csv") == []
