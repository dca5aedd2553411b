"""What a run may be resumed with: every pair of what was saved and what is there now."""

import errno
import hashlib
import json
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from run_cases import small_run

from finemask import cli
from finemask.data.shapes import draw_shapes
from finemask.errors import ConfigError, FinemaskError
from finemask.model_file import load_model_file, read_header
from finemask.workflows import train_model as training
from finemask.workflows.train_model import run_training

ORDER = ["circle", "rectangle", "triangle", "star"]
SHORT = ("data.batch_size=2", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1")
QUICK = (*SHORT, "trainer.max_epochs=1")
LONGER = (*SHORT, "trainer.max_epochs=2")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return draw_shapes(tmp_path_factory.mktemp("shapes") / "data", images=10, size=64, seed=1)


@pytest.fixture(scope="module")
def saved(shapes, tmp_path_factory):
    """A run of one epoch."""
    output = tmp_path_factory.mktemp("saved")
    run_training(small_run(shapes, output, *QUICK))
    return output


@pytest.fixture
def output(saved, tmp_path):
    """A copy of it."""
    return shutil.copytree(saved, tmp_path / "runs", symlinks=True)


def run_of(output):
    return (output / "small" / "latest").resolve()


def checkpoint_of(run_dir, name="last.ckpt"):
    return torch.load(run_dir / "checkpoints" / name, weights_only=True)


def everything_in(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def with_classes(shapes, folder, kind):
    """The same images and objects under other categories."""
    root = shutil.copytree(shapes, folder)
    for file in (root / "annotations").glob("*.json"):
        document = json.loads(file.read_text())
        ids = {category["name"]: category["id"] for category in document["categories"]}
        assert [name for name, _ in sorted(ids.items(), key=lambda item: item[1])] == ORDER
        names = {
            "same": ORDER,
            "reordered": ORDER[::-1],
            "fewer": ORDER[:3],
            "more": [*ORDER, "moon"],
            "renamed": [*ORDER[:3], "sun"],
        }[kind]
        old_of_new = {"sun": "star"}
        document["categories"] = [{"id": 10 * k, "name": name} for k, name in enumerate(names, start=1)]
        renumbered = {ids[old_of_new.get(name, name)]: 10 * k for k, name in enumerate(names, 1) if name != "moon"}
        document["annotations"] = [
            {**entry, "category_id": renumbered[entry["category_id"]]}
            for entry in document["annotations"]
            if entry["category_id"] in renumbered
        ]
        file.write_text(json.dumps(document))
    return root


@pytest.mark.parametrize("model", ["same", "other"])
@pytest.mark.parametrize("classes", ["same", "reordered", "fewer", "more", "renamed"])
def test_every_pair_of_saved_and_resumed(shapes, output, tmp_path, classes, model):
    data = with_classes(shapes, tmp_path / "data", classes)
    other = ["model=light", "model.weights=none", "model.min_size=64", "model.max_size=96"] if model == "other" else []
    cfg = small_run(data, output, "resume=auto", *LONGER, *other)
    before = everything_in(tmp_path)
    if classes in ("same", "reordered") and model == "same":
        finished = run_training(cfg)
        assert finished.model_path.parent == run_of(output)
        content = checkpoint_of(run_of(output))
        assert (content["class_names"], content["global_step"]) == (ORDER, 4)
        names = {category.name: category.id for category in read_header(finished.model_path).categories}
        assert names == {name: 10 * k for k, name in enumerate(ORDER[:: -1 if classes == "reordered" else 1], start=1)}
        assert set(finished.metrics["per_class"]) == set(ORDER)
        return
    with pytest.raises(ConfigError) as caught:
        run_training(cfg)
    assert everything_in(tmp_path) == before
    said = str(caught.value)
    assert f"model.weights={run_of(output)}/checkpoints/last.ckpt" in said
    if classes in ("same", "reordered"):
        assert "its model is another one (" in said
        assert "model.name tiny, now light" in said
    else:
        assert "it was trained on 4 classes: circle, rectangle, triangle, star; the data have" in said
        for name in {"fewer": ORDER[:3], "more": [*ORDER, "moon"], "renamed": [*ORDER[:3], "sun"]}[classes]:
            assert name in said


def test_with_its_classes_in_another_order_a_run_ends_with_the_very_same_rows(shapes, saved, tmp_path):
    """Rows of the model and of the optimiser's state, whatever the parts: nothing else tells the two apart."""
    ends = []
    for kind in ("same", "reordered"):
        runs = shutil.copytree(saved, tmp_path / kind / "runs", symlinks=True)
        run_training(small_run(with_classes(shapes, tmp_path / kind / "data", kind), runs, "resume=auto", *LONGER))
        ends.append(checkpoint_of(run_of(runs)))
    one, other = ends
    assert one["class_names"] == other["class_names"] == ORDER
    assert all(torch.equal(tensor, other["state_dict"][name]) for name, tensor in one["state_dict"].items())
    states = [content["optimizer_states"][0]["state"] for content in ends]
    assert all(
        torch.equal(value, states[1][number][key])
        for number, state in states[0].items()
        for key, value in state.items()
    )


def test_weights_of_classes_are_typed_in_the_order_of_the_file(shapes, output, tmp_path):
    data = with_classes(shapes, tmp_path / "data", "reordered")
    run_training(small_run(data, output, "resume=auto", *LONGER, "model.class_loss.class_weights=[4,3,2,1]"))
    settings = checkpoint_of(run_of(output))["settings"]
    assert settings["model.class_loss.class_weights"] == [1, 2, 3, 4]


def test_what_differs_is_said_in_a_table_and_holds_from_then_on(shapes, output, capsys):
    options = ("seed=3", "optimizer.lr=0.25", "optimizer.weight_decay=0.125", "model.box_loss.weight=2", "augment=none")
    run_training(small_run(shapes, output, "resume=auto", *LONGER, *options))
    log = (run_of(output) / "train.log").read_text()
    table = log[log.rindex("Not as it was") :].split("\n\n")[0]
    for row in (
        ("seed", "0", "3"), ("optimizer.lr", "0.0005", "0.25"), ("optimizer.weight_decay", "0.05", "0.125"),
        ("trainer.max_epochs", "1", "2"), ("model.box_loss.weight", "1.0", "2"),
    ):  # fmt: skip
        assert any(
            [cell.strip() for cell in line.strip("│ ").split("│")] == list(row) for line in table.splitlines()
        ), row
    assert "data.augment" in table
    assert "output" not in table
    content = checkpoint_of(run_of(output))
    groups = content["optimizer_states"][0]["param_groups"]
    assert {group["initial_lr"] for group in groups} == {0.25}
    assert {group["weight_decay"] for group in groups} == {0.0, 0.125}
    assert set(content["lr_schedulers"][0]["base_lrs"]) == {0.25}
    assert all(0 < group["lr"] <= 0.25 and group["lr"] > 0.0005 for group in groups)


def test_annotations_that_have_changed_are_said(shapes, output, tmp_path):
    data = shutil.copytree(shapes, tmp_path / "data")
    document = json.loads((data / "annotations/train.json").read_text())
    document["annotations"].pop()
    (data / "annotations/train.json").write_text(json.dumps(document))
    run_training(small_run(data, output, "resume=auto", *LONGER))
    log = (run_of(output) / "train.log").read_text()
    assert "annotations.train" in log
    assert "annotations.val" not in log


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("optimizer=sgd", "optimizer._target_ torch.optim.AdamW, now torch.optim.SGD"),
        (
            "model.anchors.sizes=[12,24,48,96,200]",
            "model.anchors.sizes [12, 24, 48, 96, 160], now [12, 24, 48, 96, 200]",
        ),
        ("model/box_predictor=cosine", "LinearBoxPredictor, now "),
        ("transfer.trainable_stages=1", "transfer.trainable_stages 5, now 1"),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused(shapes, output, override, reason):
    before = everything_in(output)
    with pytest.raises(ConfigError) as caught:
        run_training(small_run(shapes, output, "resume=auto", *LONGER, override))
    assert reason in str(caught.value)
    assert everything_in(output) == before


def test_fitted_anchors_stay_those_that_the_weights_were_trained_with(shapes, tmp_path):
    fitted = ("model/anchors=auto", "model.anchors.sizes=[6,12,24,48,80]")
    run_training(small_run(shapes, tmp_path / "runs", *QUICK, *fitted))
    run_dir = run_of(tmp_path / "runs")
    then = checkpoint_of(run_dir)["settings"]
    data = shutil.copytree(shapes, tmp_path / "data")
    document = json.loads((data / "annotations/train.json").read_text())
    document["annotations"] = [entry for entry in document["annotations"] if entry["area"] > 300]
    (data / "annotations/train.json").write_text(json.dumps(document))
    run_training(small_run(data, tmp_path / "runs", *LONGER, *fitted, "resume=auto"))
    now = checkpoint_of(run_dir)["settings"]
    assert now["annotations.train"] != then["annotations.train"]
    assert now["model.anchors.sizes"] == then["model.anchors.sizes"]


def older(path):
    """A checkpoint as it was before checkpoints kept settings."""
    content = torch.load(path, weights_only=True)
    del content["settings"]
    torch.save(content, path)


def test_a_checkpoint_of_an_older_finemask_goes_on_and_says_what_was_not_compared(shapes, output):
    older(run_of(output) / "checkpoints" / "last.ckpt")
    run_training(small_run(shapes, output, "resume=auto", *LONGER))
    log = (run_of(output) / "train.log").read_text()
    assert "only classes and shapes of weights could be compared" in log
    assert "settings" in checkpoint_of(run_of(output))


def test_of_an_older_checkpoint_another_model_is_found_by_its_shapes(shapes, output):
    older(run_of(output) / "checkpoints" / "last.ckpt")
    with pytest.raises(ConfigError, match=r"its model is another one \(roi_heads\.box_head"):
        run_training(small_run(shapes, output, "resume=auto", *LONGER, "model.box_head.representation_size=64"))


@pytest.mark.parametrize("damage", ["cut", "foreign", "state_dict", "pickle", "empty"])
def test_a_checkpoint_that_cannot_be_read_is_one_paragraph(shapes, output, tmp_path, damage, capsys):
    last = run_of(output) / "checkpoints" / "last.ckpt"
    if damage == "cut":
        last.write_bytes(last.read_bytes()[:100_000])
    elif damage == "foreign":
        torch.save({"state_dict": {"w": torch.zeros(3)}, "epoch": 1}, last)
    elif damage == "state_dict":
        torch.save({"w": torch.zeros(3)}, last)
    elif damage == "pickle":
        torch.save({"state_dict": Path("x")}, last)
    else:
        last.write_bytes(b"")
    before = everything_in(output)
    words = [f"data.root={shapes}", f"output={output}", "name=small", "data.num_workers=0", "model=tiny", "resume=auto"]
    assert cli.main(["train", *words]) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith(f"error: {last}: ")
    assert "Traceback" not in said
    assert "weights_only" not in said
    assert everything_in(output) == before
    if damage in ("cut", "pickle", "empty"):
        assert f"best.ckpt beside it is whole, after 1 epoch: resume={last.with_name('best.ckpt')}" in said
        last.with_name("best.ckpt").write_bytes(b"")
        assert cli.main(["train", *words]) == 2
        assert "There is no other checkpoint beside it" in capsys.readouterr().err
    else:
        assert "not a checkpoint that a run of finemask wrote: it has no" in said


def test_a_checkpoint_elsewhere_goes_on_in_a_new_run(shapes, output, tmp_path):
    elsewhere = tmp_path / "elsewhere" / "sub" / "my.ckpt"
    elsewhere.parent.mkdir(parents=True)
    shutil.move(run_of(output) / "checkpoints" / "last.ckpt", elsewhere)
    (tmp_path / "elsewhere" / "config.yaml").write_text("mine: 1\n")
    old = run_of(output)
    before = everything_in(tmp_path / "elsewhere") | everything_in(old)
    finished = run_training(small_run(shapes, output, f"resume={elsewhere}", *LONGER))
    assert finished.model_path.parent == run_of(output) != old
    assert checkpoint_of(run_of(output))["global_step"] == 4
    assert everything_in(tmp_path / "elsewhere") | everything_in(old) == before


def test_a_finished_checkpoint_elsewhere_has_nothing_left_to_train(shapes, output, tmp_path):
    elsewhere = shutil.copy(run_of(output) / "checkpoints" / "last.ckpt", tmp_path)
    with pytest.raises(ConfigError, match=r"trained for 1 epoch already .*Raise trainer\.max_epochs above 1"):
        run_training(small_run(shapes, tmp_path / "new", f"resume={elsewhere}", *QUICK))
    assert not (tmp_path / "new").exists()


def test_a_run_whose_folder_was_moved_keeps_its_best_weights(shapes, output):
    """Its checkpoint names the folder that it was: taken for another, the next evaluation would replace them."""
    best = run_of(output) / "checkpoints" / "best.ckpt"
    last = best.with_name("last.ckpt")
    content = torch.load(last, weights_only=True)
    (state,) = [s for key, s in content["callbacks"].items() if key.startswith("ModelCheckpoint")]
    state["best_model_score"] = state["kth_value"] = torch.tensor(0.9)
    state["best_k_models"] = dict.fromkeys(state["best_k_models"], torch.tensor(0.9))
    torch.save(content, last)
    moved = shutil.move(output, output.with_name("moved"))
    best = run_of(moved) / "checkpoints" / "best.ckpt"
    before = best.read_bytes()
    run_training(small_run(shapes, moved, "resume=auto", *LONGER))
    assert best.read_bytes() == before


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("monitor=val/nope", r"nothing measures val/nope.*There is .*val/segm_AP,"),
        ("monitor=val/segm_ap", r"Did you mean val/segm_AP\?"),
        ("callbacks=early_stopping callbacks.early_stopping.monitor=val/segm", r"callbacks\.early_stopping\.monitor"),
        ("+trainer.max_epoch=3", "max_epoch"),
        ("+optimizer.momentun=0.9", "momentun"),
        ("+scheduler.warmups=3", "warmups"),
        ("+callbacks.mine={_target_: nowhere.Callback}", "nowhere"),
        ("+logger.mine={_target_: finemask.training.loggers.CsvLogger, path: x, file: y}", "file"),
        ("mode=up", "mode"),
    ],
)
def test_a_start_that_fails_leaves_nothing_and_resume_auto_finds_the_run_before(shapes, output, override, reason):
    before, latest = everything_in(output), run_of(output)
    with pytest.raises(FinemaskError, match=reason):
        run_training(
            small_run(shapes, output, *QUICK, *override.split(" ", 1 if override.startswith("callbacks=") else 0))
        )
    assert everything_in(output) == before
    assert run_of(output) == latest


def test_where_no_links_can_be_made_the_newest_run_is_found_all_the_same(shapes, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    first = run_training(small_run(shapes, tmp_path, *QUICK)).model_path
    assert not (tmp_path / "small" / "latest").exists()
    resumed = run_training(small_run(shapes, tmp_path, *LONGER, "resume=auto")).model_path
    assert resumed == first
    for typed in ("small", "small/latest", "small/latest/model.safetensors"):
        assert load_model_file(tmp_path / typed)[1].sha256 == read_header(first).sha256


def test_two_runs_that_chose_one_folder_get_one_each(shapes, output, monkeypatch):
    chosen = training.choose_run

    def taken(*args):
        run = chosen(*args)
        if not (output / "taken").exists():
            (output / "taken").touch()
            run.folder.mkdir(parents=True)  # by another process, while this one builds its model
        return run

    monkeypatch.setattr(training, "choose_run", taken)
    finished = run_training(small_run(shapes, output, *QUICK))
    assert (finished.model_path.parent / "metrics.csv").is_file()
    empty = [path for path in (output / "small").iterdir() if not list(path.iterdir())]
    assert len(empty) == 1


def assert_the_last_checkpoint_is_whole(run_dir):
    names = sorted(path.name for path in (run_dir / "checkpoints").iterdir())
    assert names in (["last.ckpt"], ["best.ckpt", "last.ckpt"]), "no half of a checkpoint is left"
    for name in names:
        assert "optimizer_states" in checkpoint_of(run_dir, name)


@pytest.mark.parametrize("written", [1, 2, 3])
def test_a_full_disk_leaves_the_checkpoints_before(shapes, tmp_path, monkeypatch, capsys, written):
    """Of the first epoch's best.ckpt and last.ckpt, or of the second's, only a part can be written."""
    save, count = torch.save, iter(range(99))

    def fill(content, file):
        if next(count) == written:
            file.write(b"PK" * 1000)
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, file)

    monkeypatch.setattr(torch, "save", fill)
    with pytest.raises(FinemaskError, match="the disk is full") as caught:
        run_training(small_run(shapes, tmp_path, *LONGER))
    monkeypatch.undo()
    run_dir = run_of(tmp_path)
    assert caught.value.where == str(run_dir)
    assert "resume=auto goes on from last.ckpt" in str(caught.value)
    assert_the_last_checkpoint_is_whole(run_dir)
    assert run_training(small_run(shapes, tmp_path, *LONGER, "resume=auto")) is not None
    assert checkpoint_of(run_dir)["global_step"] == 4


def test_on_a_disk_that_is_really_full(shapes, tmp_path, capsys):
    disk = tmp_path / "small disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("only root may mount a disk of 20 MB")
    try:
        words = [f"data.root={shapes}", f"output={disk}", "name=small", "data.num_workers=0", "model=tiny"]
        words += [
            "plan=none",
            "model.min_size=64",
            "model.max_size=96",
            "augment=flip",
            "callbacks=none",
            "logger=csv",
            *LONGER,
        ]
        assert cli.main(["train", *words, "optimizer=adamw", "transfer=full", "trainer.accelerator=cpu"]) == 2
        said = capsys.readouterr().err
        assert f"error: {run_of(disk)}: the disk is full" in said
        assert "Traceback" not in said
        assert "Logging error" not in said
        assert_the_last_checkpoint_is_whole(run_of(disk))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_after_an_interruption_the_printed_command_is_whole_and_goes_on(shapes, tmp_path, capsys):
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    data = shutil.copytree(shapes, tmp_path / "my photos")
    words = [f"data.root={data}", f"output={tmp_path / 'all runs'}", "name=small", "data.num_workers=0", "model=tiny"]
    words += ["plan=none", "model.min_size=64", "model.max_size=96", "callbacks=none", "logger=csv"]
    words += ["trainer.accelerator=cpu"]
    words += [*LONGER, "resume=null"]
    stop = "+callbacks.stop={_target_: run_cases.StopAt, epoch: 1, batch: 0, signal_name: SIGINT}"
    assert cli.main(["train", *words, stop]) == 130
    signal.signal(signal.SIGINT, handler)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("To go on, type: ")]
    verb, *command = shlex.split(line.removeprefix("To go on, type: "))
    assert verb == "finemask"
    assert command == ["train", *words[:-1], stop, "resume=auto"]
    assert cli.main([word for word in command if word != stop]) == 0
    assert checkpoint_of(run_of(tmp_path / "all runs"))["global_step"] == 4


def test_every_verb_takes_a_run_for_its_model(shapes, output, tmp_path, capsys):
    model_file = run_of(output) / "model.safetensors"
    (output / "small" / "latest").unlink()  # as where no links can be made
    for typed in ("small", "small/latest", "small/latest/model.safetensors"):
        assert cli.main(["info", f"model={output / typed}", "json=true"]) == 0
        assert json.loads(capsys.readouterr().out)["file"]["path"] == str(model_file)
    model, device = f"model={output / typed}", "device=cpu"
    images = next((shapes / "images").iterdir())
    assert cli.main(["predict", model, f"source={images}", f"output={tmp_path / 'found'}", device]) == 0
    split = [f"data.root={shapes}", "split=val", "num_workers=1", device]
    assert cli.main(["evaluate", model, *split, f"output={tmp_path / 'scores'}"]) == 0
    assert cli.main(["data", "suspects", model, *split, f"output={tmp_path / 'suspects'}"]) == 0
    sides = [f"a={output / 'small/latest'}", f"b={tmp_path / 'scores'}"]
    assert cli.main(["compare", *sides, f"output={tmp_path / 'compared'}"]) == 0
    words = [f"data.root={shapes}", f"output={tmp_path / 'next'}", "model=tiny", "name=next", "data.num_workers=0"]
    words += ["plan=none"]
    weights = f"model.weights={output / typed}"
    assert cli.main(["train", *words, "callbacks=none", "logger=csv", *QUICK, weights]) == 0


def test_best_weights_that_are_damaged_are_said_at_the_end(shapes, output):
    best = run_of(output) / "checkpoints" / "best.ckpt"
    best.write_bytes(best.read_bytes()[:1000])
    with pytest.raises(FinemaskError, match=r"best\.ckpt: .*cut short or damaged.*Delete this file"):
        run_training(small_run(shapes, output, *QUICK, "resume=auto"))
    best.unlink()
    assert run_training(small_run(shapes, output, *QUICK, "resume=auto")) is not None
