"""metrics.csv over a run, a resume and a change of columns; what TensorBoard can read of a run's configuration."""

import csv

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from finemask.training.loggers import CsvLogger, TensorBoard


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


def test_the_configuration_is_there_as_text_and_as_hyperparameters_beside_the_metric(tmp_path):
    board = TensorBoard(str(tmp_path), monitor="val/bbox_AP")
    board.log_hyperparams({"seed": 3, "optimizer": {"lr": 0.5, "fused": None, "betas": [0.9, 0.99]}, "empty": {}})
    board.log_metrics({"val/bbox_AP": 0.25}, step=7)
    board.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (text,) = events.Tensors("configuration/text_summary")
    assert "    lr: 0.5\n" in text.tensor_proto.string_val[0].decode()
    content = events.PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(content["_hparams_/session_start_info"]).session_start_info.hparams
    assert start["optimizer.lr"].number_value == 0.5
    assert start["seed"].number_value == 3
    assert start["optimizer.fused"].string_value == "None"
    assert start["optimizer.betas"].string_value == "[0.9, 0.99]"
    experiment = HParamsPluginData.FromString(content["_hparams_/experiment"]).experiment
    assert [info.name.tag for info in experiment.metric_infos] == ["val/bbox_AP"]
    values = [(event.step, event.value) for event in events.Scalars("val/bbox_AP")]
    assert values == [(7, 0.25)], "no made-up value before the first step"
