"""metrics.csv over a run, a resume and a change of columns; what TensorBoard can read of a run's configuration."""

import csv
import json
import os
import struct
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from run_cases import SMALL_RUN
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from finemask.errors import MissingExtraError
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.training.callbacks.validation import CocoEvaluation, PrecisionRecallCurves
from finemask.training.loggers import CsvLogger, MLflow, TensorBoard, WeightsAndBiases


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


def test_tensorboard_draws_precision_over_recall(tmp_path):
    """Two objects, one found at a score of 0.8, one false detection at 0.6."""
    images = [{"id": 1, "file_name": "a.png", "height": 40, "width": 40}]
    boxes = [[2, 2, 10, 10], [20, 20, 10, 10]]
    objects = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": box, "area": 100, "iscrowd": 0}
        for n, box in enumerate(boxes, 1)
    ]
    categories = [{"id": 1, "name": "nut"}]
    truth = ground_truth_from_dict({"images": images, "annotations": objects, "categories": categories})
    evaluator = CocoEvaluator(truth, iou_types=["bbox"])
    found = [([2, 2, 10, 10], 0.8), ([2, 25, 10, 10], 0.6)]
    evaluator.add_results([{"image_id": 1, "category_id": 1, "bbox": box, "score": score} for box, score in found])
    board = TensorBoard(str(tmp_path))
    trainer = SimpleNamespace(
        loggers=[board],
        callbacks=[CocoEvaluation(evaluator)],
        sanity_checking=False,
        is_global_zero=True,
        global_step=7,
    )
    PrecisionRecallCurves().on_validation_end(trainer, None)
    board.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (event,) = events.Tensors("val/precision_recall/all classes")
    assert event.step == 7
    true, false, _, missed, precision, recall = np.array(event.tensor_proto.float_val).reshape(6, -1)
    at = {score: round(score * (len(true) - 1)) for score in (0.9, 0.7, 0.5)}
    shown = {score: (true[i], false[i], missed[i], precision[i], recall[i]) for score, i in at.items()}
    assert shown == {0.9: (0, 0, 2, 1, 0), 0.7: (1, 0, 1, 1, 0.5), 0.5: (1, 1, 1, 0.5, 0.5)}


@pytest.mark.parametrize(("package", "make"), [("wandb", WeightsAndBiases), ("mlflow", MLflow)])
def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch, package, make):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"logger={package}") as refused:
        make(str(tmp_path / "run"), *([str(tmp_path)] if make is MLflow else []))
    assert f"finemask[{package}]" in str(refused.value.remedy)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_mlflow_keeps_a_run_in_files_and_a_resumed_one_goes_on_in_it(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow")
    pytest.importorskip("alembic", reason="its files are a database")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    run, output = tmp_path / "runs/mine/2026-01-01_00-00-00", tmp_path / "runs"
    for step, ap in ((10, 0.25), (20, 0.5)):
        logger = MLflow(str(run), str(output), name="mine")
        logger.log_hyperparams({"seed": 3, "optimizer": {"lr": 0.5}})
        logger.log_metrics({"val/segm_AP": ap}, step=step)
        logger.finalize("success")
    client = mlflow.MlflowClient(f"sqlite:///{output}/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("finemask").experiment_id])
    assert found.data.params["optimizer/lr"] == "0.5"
    assert [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, "val/segm_AP")] == [
        (10, 0.25),
        (20, 0.5),
    ]
    assert found.info.run_name == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}, "nothing where the person stands"


def pieces_of_log(content):
    """What a file of Weights & Biases holds: LevelDB's log format behind seven bytes.

    Blocks of 32 KiB; in them a checksum, a length, a type (1 all of it, 2 the first, 3 a middle, 4 the last part).
    """
    at, piece = 7, b""
    while at + 7 <= len(content):
        if (left := 32_768 - at % 32_768) < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        piece += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield piece
            piece = b""


def read_wandb(file):
    """The last value of each metric, and the configuration, as JSON."""
    from wandb.proto.wandb_internal_pb2 import Record

    history, config = {}, {}
    for data in pieces_of_log(file.read_bytes()):
        record = Record.FromString(data)
        history |= {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        config |= {item.key: item.value_json for item in record.config.update}
        config |= {item.key: item.value_json for item in record.run.config.update}
    return history, config


@pytest.mark.slow
def test_weights_and_biases_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="the extra wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = tmp_path / "run"
    logger = WeightsAndBiases(str(run), name="mine", offline=True)
    logger.log_hyperparams({"seed": 3, "optimizer": {"lr": 0.5}})
    logger.log_metrics({"val/segm_AP": 0.25}, step=10)
    logger.experiment.finish()
    wandb.teardown()  # its service writes the file
    (file,) = (run / "wandb").glob("offline-run-*/*.wandb")
    history, config = read_wandb(file)
    assert history["val/segm_AP"] == "0.25"
    assert history["trainer/global_step"] == "10"
    assert config["seed"] == "3"
    again = WeightsAndBiases(str(run), name="mine", offline=True)
    assert again.version == logger.version, "a resumed run goes on in it"
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def trained_on_photographs(shared_dir, tmp_path, *words):
    """A short training of a small model; its folder."""
    data = [f"data.root={shared_dir}/datasets/fruits_nuts", "data.batch_size=2", "trainer.max_epochs=2"]
    command = [sys.executable, "-m", "finemask", "train", *SMALL_RUN, *data, "output=runs", "name=nuts", *words]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}, "nothing where the person stands"
    (folder,) = tmp_path.glob("runs/nuts/2*")
    return folder, done.stdout + done.stderr


@pytest.mark.slow
def test_a_training_on_photographs_by_weights_and_biases_offline(shared_dir, tmp_path):
    pytest.importorskip("wandb", reason="the extra wandb")
    folder, said = trained_on_photographs(shared_dir, tmp_path, "logger=wandb", "logger.wandb.offline=true")
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    history, config = read_wandb(file)
    for name in ("val/segm_AP", "train/loss"):
        last = [row[name] for row in rows(folder / "metrics.csv") if row[name]][-1]
        assert float(history[name]) == pytest.approx(float(last), rel=1e-4)
    assert json.loads(config["data"])["batch_size"] == 2
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_training_on_photographs_by_mlflow_in_files(shared_dir, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow")
    pytest.importorskip("alembic", reason="its files are a database")
    folder, said = trained_on_photographs(shared_dir, tmp_path, "logger=mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    (found,) = client.search_runs([client.get_experiment_by_name("finemask").experiment_id])
    assert found.info.run_name == "nuts"
    assert found.info.status == "FINISHED"
    assert found.data.params["data/batch_size"] == "2"
    for name in ("val/segm_AP", "train/loss"):
        logged = [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, name)]
        expected = [(int(row["step"]), float(row[name])) for row in rows(folder / "metrics.csv") if row[name]]
        assert logged == [(step, pytest.approx(value, rel=1e-4)) for step, value in expected]
    assert "DeprecationWarning" not in said
    assert "Creating it" not in said
