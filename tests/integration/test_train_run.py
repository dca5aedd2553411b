"""Whole training runs on drawn shapes: what they write, how they end, how they go on."""

import csv
import json
import signal

import pytest
import run_cases
import torch

import finemask
from finemask.cli import main as cli
from finemask.config import compose
from finemask.data.shapes import draw_shapes
from finemask.errors import ConfigError, DataError, FinemaskError
from finemask.model.build import build_model
from finemask.ops.images.decode import decode_image
from finemask.workflows.train_model import run_training


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return draw_shapes(tmp_path_factory.mktemp("shapes") / "data", images=10, size=64, seed=1)


def small_run(root, output, *overrides):
    return run_cases.small_run(root, output, "data.batch_size=2", *overrides)


@pytest.fixture(scope="module")
def finished(shapes, tmp_path_factory):
    """One undisturbed run."""
    output = tmp_path_factory.mktemp("runs")
    result = run_training(small_run(shapes, output))
    return result, output / "small" / "latest"


def weights_of(run_dir, name="last.ckpt"):
    return torch.load(run_dir / "checkpoints" / name, weights_only=True)["state_dict"]


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert different == []


def test_a_run_writes_what_it_promises(finished):
    _, run_dir = finished
    for name in (
        "config.yaml", "environment.json", "train.log", "metrics.csv", "checkpoints/last.ckpt", "checkpoints/best.ckpt",
        "model.safetensors", "metrics.json", "predictions.json", "report/index.html",
    ):  # fmt: skip
        assert (run_dir / name).stat().st_size > 0, name
    assert not [path for path in run_dir.rglob("*") if path.name.startswith(".")]
    environment = json.loads((run_dir / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__.split("+")[0]
    assert len(environment["data"]["train"]) == 64
    assert environment["seed"] == 0


def test_losses_rates_and_metrics_are_in_the_csv(finished):
    _, run_dir = finished
    rows = csv_rows(run_dir)
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert len(losses) == 12  # 8 training images, batches of 2, 3 epochs
    parts = ("loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg")
    first = rows[0]
    assert sum(float(first[f"train/{name}"]) for name in parts) == pytest.approx(float(first["train/loss"]), rel=1e-4)
    assert len([row for row in rows if row["val/segm_AP"]]) == 3


def test_the_metrics_file_has_the_agreed_keys(finished):
    result, run_dir = finished
    metrics = json.loads((run_dir / "metrics.json").read_text())
    assert metrics == json.loads(json.dumps(result.metrics))
    names = {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"}
    assert names <= metrics["bbox"].keys()
    assert names <= metrics["segm"].keys()
    assert metrics["images"] == 2
    assert set(metrics["per_class"]) == {"circle", "rectangle", "triangle", "star"}


def test_the_metrics_are_those_of_the_best_validation(finished):
    """Whether the best weights were evaluated anew or their own validation was the last."""
    result, run_dir = finished
    with (run_dir / "metrics.csv").open(newline="") as file:
        validations = [row for row in csv.DictReader(file) if row["val/segm_AP"]]
    best = max(validations, key=lambda row: float(row["val/segm_AP"]))
    for name in ("AP", "AP50", "AR100"):
        assert result.metrics["segm"][name] == pytest.approx(float(best[f"val/segm_{name}"]), abs=1e-6)


def test_the_model_file_predicts_bit_for_bit_as_the_best_checkpoint(finished, shapes):
    _, run_dir = finished
    predictor = finemask.load(run_dir / "model.safetensors", device="cpu")
    model = build_model(dict(predictor.header.model), num_classes=5).eval()
    best = weights_of(run_dir, "best.ckpt")
    model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in best.items()})
    image = torch.from_numpy(decode_image(next((shapes / "images").iterdir()))).permute(2, 0, 1)
    with torch.inference_mode():
        (expected,), (found,) = model([image]), predictor.model([image])
    for key in ("boxes", "labels", "scores", "mask_probs"):
        assert torch.equal(expected[key], found[key])


def test_the_saved_configuration_repeats_the_run(finished, tmp_path):
    _, run_dir = finished
    cfg = compose("train", [f"output={tmp_path}"], config_dir=run_dir, config_name="config")
    run_training(cfg)
    assert_same_weights(weights_of(run_dir), weights_of(tmp_path / "small" / "latest"))


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGINT"])
def test_a_run_killed_in_mid_epoch_ends_with_the_weights_of_an_undisturbed_one(finished, shapes, tmp_path, signal_name):
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    stop = f"+callbacks.stop={{_target_: run_cases.StopAt, epoch: 1, batch: 1, signal_name: {signal_name}}}"
    assert run_training(small_run(shapes, tmp_path, stop)) is None
    signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored: the process was about to end
    killed = tmp_path / "small" / "latest"
    assert (killed / "metrics.csv").is_file()
    assert not (killed / "metrics.json").exists()
    resumed = run_training(small_run(shapes, tmp_path, "resume=auto"))
    assert resumed.model_path.parent == killed.resolve()
    assert_same_weights(weights_of(finished[1]), weights_of(killed))
    with (killed / "metrics.csv").open(newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert steps == sorted(set(steps)), "steps that were taken again are there once"
    assert len(steps) == 12


def test_a_run_killed_in_its_first_epoch_can_go_on(finished, shapes, tmp_path):
    assert (
        run_training(small_run(shapes, tmp_path, "+callbacks.stop={_target_: run_cases.StopAt, epoch: 0, batch: 1}"))
        is None
    )
    run_training(small_run(shapes, tmp_path, "resume=auto"))
    assert_same_weights(weights_of(finished[1]), weights_of(tmp_path / "small" / "latest"))


def test_two_runs_of_one_name_get_a_folder_each(shapes, tmp_path):
    short = ("trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1")
    first, second = (run_training(small_run(shapes, tmp_path, *short)) for _ in range(2))
    assert first.model_path.parent != second.model_path.parent
    assert (tmp_path / "small" / "latest").resolve() == second.model_path.parent


def test_a_step_that_is_not_finite_is_skipped_and_named(shapes, tmp_path):
    poison = "+callbacks.poison={_target_: run_cases.PoisonLosses, first: 2, last: 3}"
    assert run_training(small_run(shapes, tmp_path, poison)) is not None
    log = (tmp_path / "small" / "latest" / "train.log").read_text()
    assert log.count("loss_mask not finite on images") == 2


def test_a_diverged_training_stops_with_a_remedy_and_keeps_its_checkpoint(shapes, tmp_path):
    poison = "+callbacks.poison={_target_: run_cases.PoisonLosses, first: 1, last: 1000}"
    with pytest.raises(FinemaskError, match=r"loss_mask not finite for 10 steps in a row.*optimizer\.lr"):
        run_training(small_run(shapes, tmp_path, poison))
    assert (tmp_path / "small" / "latest" / "checkpoints" / "last.ckpt").is_file()


def test_a_test_split_is_measured_with_the_best_weights(shapes, tmp_path):
    short = ("trainer.max_epochs=1", "trainer.limit_train_batches=1")
    result = run_training(small_run(shapes, tmp_path, *short, "data.test=annotations/val.json"))
    run_dir = tmp_path / "small" / "latest"
    of_test = json.loads((run_dir / "metrics_test.json").read_text())
    assert of_test["segm"] == result.metrics["segm"]
    assert (run_dir / "report_test" / "index.html").is_file()


@pytest.mark.parametrize(
    ("override", "error", "reason"),
    [
        ("data.val=null", ConfigError, "validation"),
        ("data.train=annotations/nothing.json", DataError, "nothing.json"),
        ("resume=nowhere/last.ckpt", ConfigError, "no such checkpoint"),
        ("model.weights=nowhere.pth", FinemaskError, "nowhere.pth"),
        ("trainer.precision=7-bit", ConfigError, "precision"),
        ("transfer.trainable_stages=9", ConfigError, "trainable_stages"),
    ],
)
def test_mistakes_are_named_before_anything_is_trained(shapes, tmp_path, override, error, reason):
    with pytest.raises(error, match=reason):
        run_training(small_run(shapes, tmp_path, override))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_from_the_command_line_a_missing_dataset_is_one_line_and_code_2(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli(["train", "data.root=nowhere"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "nowhere" in error
    assert "Traceback" not in error
    assert not (tmp_path / "runs").exists()


def test_mixed_precision_trains_with_the_quickstarts_fused_optimiser(shapes, tmp_path):
    options = ["trainer.precision=bf16-mixed", "optimizer.foreach=null", "optimizer.fused=true", "trainer.max_epochs=1"]
    run_training(small_run(shapes, tmp_path, *options))
    with (tmp_path / "small" / "latest" / "metrics.csv").open(newline="") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert losses
    assert all(0 < loss < 100 for loss in losses)


def csv_rows(run_dir):
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_short_epoch_leaves_its_loss_in_the_metrics_and_the_log_only_our_words(shapes, tmp_path):
    options = ["trainer.log_every_n_steps=50", "trainer.check_val_every_n_epoch=2", "logger=default"]
    run_training(small_run(shapes, tmp_path, *options))
    run_dir = tmp_path / "small" / "latest"
    rows = csv_rows(run_dir)
    assert [row["epoch"] for row in rows if row["train/loss"]] == ["0", "1", "2"]
    assert (run_dir / "tensorboard" / "hparams.yaml").stat().st_size > 100
    lines = [line.split(" ", 3)[2:] for line in (run_dir / "train.log").read_text().splitlines() if line[:2] == "20"]
    assert {level for level, _ in lines} == {"INFO"}, "nothing to warn of"
    words = [text for _, text in lines]
    assert [text[:9] for text in words if text.startswith("epoch ")] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert ["mask AP" in text for text in words if text.startswith("epoch ")] == [False, True, True]
    ours = ("Run: ", "Anchors: ", "No GPU: ", "epoch ", "Best weights: ")
    assert [text for text in words if not text.startswith(ours)] == []


@pytest.mark.parametrize(
    ("limit", "epochs", "reason"),
    [
        (["trainer.max_steps=6"], 3, "trainer.max_steps=6 ends the training in epoch 2."),
        (["trainer.max_time=00:00:00:04"], 10_000, "The budget of 4 s ends the training in epoch "),
    ],
)
def test_the_last_weights_are_evaluated_whatever_ends_the_run(shapes, tmp_path, limit, epochs, reason):
    options = [f"trainer.max_epochs={epochs}", "trainer.check_val_every_n_epoch=100000", *limit]
    assert run_training(small_run(shapes, tmp_path, *options)) is not None
    run_dir = tmp_path / "small" / "latest"
    (validation,) = [row for row in csv_rows(run_dir) if row["val/segm_AP"]]
    last = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    best = torch.load(run_dir / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]
    assert int(validation["step"]) + 1 == last == best
    assert reason in (run_dir / "train.log").read_text()
