"""Launchers of --multirun: composed and checked here; run as processes of this machine, slowly."""

import csv
import json
import os
import subprocess
import sys

import pytest
from run_cases import SMALL_RUN

from finemask.command_line.launchers import JobQueue, parameters_of, split_launcher
from finemask.data.shapes import draw_shapes
from finemask.errors import ConfigError


def test_without_a_launcher_the_runs_stay_here():
    assert split_launcher(["seed=0,1", "data.root=d"], None) == (None, ["seed=0,1", "data.root=d"])


def test_slurm_with_keys_of_hydras_launcher():
    words = ["seed=0,1", "hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu", "hydra.launcher.mem_gb=64"]
    words += ["+hydra.launcher.additional_parameters.constraint=a100"]
    settings, others = split_launcher(words, None)
    assert others == ["seed=0,1"]
    found = parameters_of(settings)
    assert found["slurm_partition"] == "gpu"
    assert found["slurm_additional_parameters"] == {"constraint": "a100"}
    assert (found["mem_gb"], found["gpus_per_node"], found["timeout_min"]) == (64, 1, 480)
    assert "slurm_qos" not in found


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["hydra/launcher=submitit_slrum"], "submitit_slurm"),
        (["hydra/launcher=submitit_slurm", "hydra.launcher.nodes=0"], "nodes cannot be 0"),
        (["hydra.launcher.nodes=2"], "without a launcher"),
    ],
)
def test_what_cannot_be_is_refused(words, why):
    with pytest.raises(ConfigError) as refused:
        split_launcher(words, None)
    assert why in str(refused.value)


def test_submitit_takes_the_parameters(tmp_path):
    """Its own executor refuses a name that it does not know."""
    submitit = pytest.importorskip("submitit", reason="the extra slurm")
    settings, _ = split_launcher(["hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu"], None)
    executor = submitit.AutoExecutor(folder=tmp_path, cluster="debug")
    executor.update_parameters(**parameters_of(settings))
    local, _ = split_launcher(["hydra/launcher=submitit_local", f"hydra.launcher.submitit_folder={tmp_path}"], None)
    JobQueue(local)


@pytest.mark.slow
def test_runs_as_processes_of_this_machine(tmp_path):
    pytest.importorskip("submitit", reason="the extra slurm")
    root = draw_shapes(tmp_path / "data", images=8, size=64, seed=1, val_fraction=0.5)
    words = [*SMALL_RUN, "trainer.max_epochs=1", f"data.root={root}", "name=mine", "seed=0,1"]
    command = [sys.executable, "-m", "finemask", "train", "--multirun", *words, "hydra/launcher=submitit_local"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ}, check=False)
    assert done.returncode == 0, done.stderr
    runs = [path for path in (tmp_path / "runs/mine").iterdir() if path.name != "latest"]
    seeds = [json.loads((run / "environment.json").read_text())["seed"] for run in runs]
    assert sorted(seeds) == [0, 1]
    assert all(str(run.name) in done.stdout for run in runs), "the table names the folder of each"
    assert "AP over seeds" in done.stdout
    assert all(list(csv.DictReader((run / "metrics.csv").open())) for run in runs)
