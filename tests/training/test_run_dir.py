"""Where a run lives, what it goes on from, and what it says of its origin."""

import json
import os

import pytest
import yaml
from omegaconf import OmegaConf
from run_cases import small_run

from finemask.errors import ConfigError
from finemask.training.run_dir import close_run, open_run, resolved_text, write_origin


@pytest.fixture(autouse=True)
def alone():
    close_run()
    yield
    close_run()


def with_checkpoint(run_dir):
    path = run_dir / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    return path


def test_a_new_run_gets_a_dated_folder_that_latest_points_to(tmp_path):
    run_dir, checkpoint = open_run(tmp_path / "runs", "cells", None)
    assert checkpoint is None
    assert run_dir.parent == tmp_path / "runs" / "cells"
    assert (tmp_path / "runs" / "cells" / "latest").resolve() == run_dir.resolve()


def test_runs_of_the_same_second_do_not_share_a_folder(tmp_path):
    folders = set()
    for _ in range(3):
        folders.add(open_run(tmp_path, "a", None)[0])
        close_run()
    assert len(folders) == 3


def test_processes_of_one_run_share_its_folder(tmp_path):
    first, _ = open_run(tmp_path, "a", None)
    second, _ = open_run(tmp_path, "a", None)  # a child process inherits the environment
    assert first == second
    assert os.environ["FINEMASK_RUN_DIR"] == str(first)


def test_resume_auto_takes_the_newest_run_of_that_name_or_starts_one(tmp_path):
    fresh, checkpoint = open_run(tmp_path, "a", "auto")
    assert checkpoint is None
    close_run()
    path = with_checkpoint(fresh)
    again, checkpoint = open_run(tmp_path, "a", "auto")
    assert again == fresh.resolve()
    assert checkpoint == path.resolve()


@pytest.mark.parametrize("as_file", [True, False])
def test_resume_takes_a_run_or_its_checkpoint(tmp_path, as_file):
    path = with_checkpoint(tmp_path / "elsewhere" / "run")
    given = path if as_file else path.parent.parent
    assert open_run(tmp_path, "a", str(given)) == (path.parent.parent.resolve(), path.resolve())


def test_nothing_to_resume_is_an_error_that_names_the_path(tmp_path):
    with pytest.raises(ConfigError, match="no such checkpoint") as caught:
        open_run(tmp_path, "a", str(tmp_path / "gone.ckpt"))
    assert "gone.ckpt" in str(caught.value)
    assert not (tmp_path / "a").exists()


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
