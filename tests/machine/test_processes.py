"""Which process this is, off the variables that torchrun and SLURM document."""

import os

import pytest

from finemask.machine.processes import is_first_process, launched

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1"}
SRUN = {
    "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_NNODES": "2",
    "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2",
}  # fmt: skip


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_")) or name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK"):
            monkeypatch.delenv(name)


def in_environment(monkeypatch, **variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_alone(monkeypatch):
    assert launched() is None
    assert is_first_process()


@pytest.mark.parametrize(("rank", "first"), [(0, True), (2, False)])
def test_torchrun(monkeypatch, rank, first):
    # the first process of the second machine has the local rank 0 too
    in_environment(monkeypatch, **TORCHRUN, RANK=str(rank), LOCAL_RANK="0")
    assert launched() == ("torchrun", rank, 4, 2)
    assert launched().per_machine == 2
    assert is_first_process() == first


@pytest.mark.parametrize(("rank", "first"), [(0, True), (2, False)])
def test_srun(monkeypatch, rank, first):
    in_environment(monkeypatch, **SRUN, SLURM_PROCID=str(rank), SLURM_LOCALID="0")
    assert launched() == ("srun", rank, 4, 2)
    assert is_first_process() == first


def test_a_command_in_a_batch_file_without_srun_is_alone(monkeypatch):
    in_environment(monkeypatch, SLURM_JOB_ID="77", SLURM_NTASKS="4", SLURM_PROCID="0")
    assert launched() is None


def test_a_shell_that_srun_has_started_is_alone(monkeypatch):
    in_environment(monkeypatch, **SRUN | {"SLURM_STEP_NUM_TASKS": "1"}, SLURM_PROCID="0")
    assert launched() is None


def test_torchrun_of_one_process_is_alone(monkeypatch):
    in_environment(monkeypatch, **TORCHRUN | {"WORLD_SIZE": "1"}, RANK="0", LOCAL_RANK="0")
    assert launched() is None
    assert is_first_process()


def test_what_lightning_starts_is_not_the_first(monkeypatch):
    in_environment(monkeypatch, LOCAL_RANK="1", NODE_RANK="0")
    assert launched() is None
    assert not is_first_process()


@pytest.mark.parametrize(
    ("variables", "begins"),
    [
        ({}, ""),
        (TORCHRUN | {"WORLD_SIZE": "2", "RANK": "0"}, "torchrun --nproc_per_node=2 -m "),
        (TORCHRUN | {"RANK": "0"}, "torchrun --nnodes=2 … --nproc_per_node=2 -m "),
        (SRUN | {"SLURM_PROCID": "0"}, "srun --nodes=2 --ntasks-per-node=2 "),
    ],
)
def test_the_command_to_go_on_with_begins_as_the_first_did(monkeypatch, variables, begins):
    from finemask import cli

    in_environment(monkeypatch, **variables)
    assert cli._starter() == begins
