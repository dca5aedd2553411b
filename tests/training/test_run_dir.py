"""Where a run lives, what it goes on from, and what it says of its origin."""

import json
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from run_cases import small_run

from finemask.errors import ConfigError
from finemask.training.run_dir import choose_run, close_run, open_run, resolved_text, write_origin


@pytest.fixture(autouse=True)
def alone():
    close_run()
    yield
    close_run()


def start(output, name="a", resume=None):
    """A run that begins; in a process of its own."""
    close_run()
    run = choose_run(output, name, resume)
    assert open_run(run)
    (run.folder / "environment.json").write_text("{}")
    return run


def with_checkpoint(run_dir):
    path = run_dir / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    return path


def no_links(*args, **kwargs):
    raise OSError("a required privilege is not held by the client")


def test_a_new_run_gets_a_dated_folder_that_latest_points_to(tmp_path):
    run = start(tmp_path / "runs", "cells")
    assert run.checkpoint is None
    assert run.folder.parent == tmp_path / "runs" / "cells"
    assert (tmp_path / "runs" / "cells" / "latest").resolve() == run.folder.resolve()


def test_nothing_is_written_before_the_run_is_opened(tmp_path):
    choose_run(tmp_path / "runs", "cells", None)
    assert list(tmp_path.iterdir()) == []


def test_runs_of_the_same_second_do_not_share_a_folder(tmp_path):
    chosen = choose_run(tmp_path, "a", None)  # and builds its model while others start
    folders = {start(tmp_path).folder for _ in range(3)}
    assert len(folders) == 3
    if chosen.folder in folders:
        assert not open_run(chosen)
        assert choose_run(tmp_path, "a", None).folder not in folders


@pytest.mark.parametrize("resume", [None, "auto"])
def test_processes_of_one_run_share_its_folder_and_its_checkpoint(tmp_path, monkeypatch, resume):
    before = start(tmp_path)
    with_checkpoint(before.folder)
    first = choose_run(tmp_path, "a", resume)
    open_run(first)
    with_checkpoint(start_elsewhere := tmp_path / "a" / "3000-01-01_00-00-00")  # by another run, in between
    (start_elsewhere / "environment.json").write_text("{}")
    monkeypatch.setenv("LOCAL_RANK", "1")  # a process that Lightning starts inherits the rest of the environment
    second = choose_run(tmp_path, "a", resume)
    assert (second.folder, second.checkpoint) == (first.folder, first.checkpoint)
    assert first.goes_on == second.goes_on == (resume == "auto")


def test_resume_auto_takes_the_newest_run_of_that_name_or_starts_one_and_says_which(tmp_path):
    fresh = start(tmp_path, resume="auto")
    assert fresh.checkpoint is None
    assert f"no run in {tmp_path / 'a'} has a checkpoint; a new one begins" in fresh.note
    path = with_checkpoint(fresh.folder)
    again = choose_run(tmp_path, "a", "auto")
    assert (again.folder, again.checkpoint, again.goes_on) == (fresh.folder.resolve(), path.resolve(), True)
    assert str(fresh.folder) in again.note


@pytest.mark.parametrize("can_link", [True, False])
def test_resume_auto_passes_over_newer_runs_without_a_checkpoint(tmp_path, monkeypatch, can_link):
    if not can_link:
        monkeypatch.setattr(Path, "symlink_to", no_links)
    good = start(tmp_path)
    with_checkpoint(good.folder)
    empty = start(tmp_path)
    again = choose_run(tmp_path, "a", "auto")
    assert again.folder == good.folder.resolve()
    assert f"{empty.folder.name}, the newest, has no checkpoint" in again.note


def test_latest_never_points_to_an_older_run(tmp_path, monkeypatch):
    start(tmp_path)
    monkeypatch.setattr(Path, "symlink_to", no_links)
    start(tmp_path)
    assert not (tmp_path / "a" / "latest").is_symlink()
    assert not [path for path in (tmp_path / "a").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("given", ["checkpoints/last.ckpt", "", "../latest", ".."])
def test_resume_takes_a_run_or_its_checkpoint(tmp_path, given):
    run = start(tmp_path, "first")
    path = with_checkpoint(run.folder)
    close_run()
    chosen = choose_run(tmp_path, "another", str(run.folder.parent / run.folder.name / given))
    assert (chosen.folder, chosen.checkpoint, chosen.goes_on) == (run.folder.resolve(), path.resolve(), True)


@pytest.mark.parametrize("place", ["elsewhere/sub/my.ckpt", "elsewhere/checkpoints/my.ckpt"])
def test_a_checkpoint_that_is_in_no_runs_folder_begins_a_new_run(tmp_path, place):
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    (tmp_path / "elsewhere" / "config.yaml").write_text("mine: 1\n")
    run = choose_run(tmp_path / "runs", "a", str(path))
    assert run.folder.parent == tmp_path / "runs" / "a"
    assert (run.checkpoint, run.goes_on) == (path, False)
    assert "in a new one" in run.note


def test_nothing_to_resume_is_an_error_that_names_the_path(tmp_path):
    with pytest.raises(ConfigError, match="no such checkpoint") as caught:
        choose_run(tmp_path, "a", str(tmp_path / "gone.ckpt"))
    assert "gone.ckpt" in str(caught.value)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("resume", [True, 3, ["a"]])
def test_resume_is_a_word_or_a_path(tmp_path, resume):
    with pytest.raises(ConfigError, match=r"resume is .* It is auto"):
        choose_run(tmp_path, "a", resume)


@pytest.mark.parametrize("name", ["../../x", "a/../../x", "/tmp/x", "..", "..\\x", "C:\\x", "C:x", "\\\\server\\x", ""])
def test_a_name_stays_in_the_folder_of_runs(tmp_path, name):
    with pytest.raises(ConfigError, match="name"):
        choose_run(tmp_path / "runs", name, None)


@pytest.mark.parametrize("name", ["cells", "cells/first", "a..b", ".hidden", "my cells"])
def test_other_names_are_taken_as_they_are(tmp_path, name):
    assert choose_run(tmp_path, name, None).folder.parent == tmp_path / name


def test_the_saved_configuration_has_no_references_but_to_the_runs_own_folder():
    cfg = small_run("somewhere", "runs", "resume=auto")
    cfg.run_dir = "runs/small/2026"
    saved = yaml.safe_load(resolved_text(cfg))
    assert saved["run_dir"] is None
    assert saved["resume"] is None
    assert saved["logger"]["csv"]["path"] == "${run_dir}/metrics.csv"
    assert saved["data"]["seed"] == 0
    assert "${" not in resolved_text(cfg).replace("${run_dir}", "")
    assert cfg.run_dir == "runs/small/2026"  # the run itself goes on with its own


def test_the_environment_names_versions_data_and_seed(tmp_path):
    cfg = OmegaConf.merge(small_run("somewhere", "runs"), {"run_dir": str(tmp_path), "seed": 7})
    write_origin(tmp_path, cfg, {"train": "ab12"})
    written = json.loads((tmp_path / "environment.json").read_text())
    assert written["seed"] == 7
    assert written["data"] == {"train": "ab12"}
    assert {"finemask", "torch", "torchvision", "pycocotools"} <= written["versions"].keys()
    assert written["command"][0]
