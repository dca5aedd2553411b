"""A run on two processes, whoever starts them: one folder, every line and every image once, no process left waiting."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from run_cases import SMALL_RUN

from finemask.data.shapes import draw_shapes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    # An odd number of validation images, so that the processes' shares differ; some images hold no object.
    root = draw_shapes(tmp_path_factory.mktemp("two") / "data", images=25, size=64, seed=1)
    path = root / "annotations" / "train.json"
    annotations = json.loads(path.read_text())
    keep = {image["id"] for image in annotations["images"][:10]}
    annotations["annotations"] = [a for a in annotations["annotations"] if a["image_id"] in keep]
    path.write_text(json.dumps(annotations))
    return root


def words(data, *more):
    return ["train", *SMALL_RUN, f"data.root={data}", "name=pair", "data.batch_size=1", *more]


def start(launcher, cwd, command):
    """The processes of a training, and what they print, all of it together."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    how = {"cwd": cwd, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    finemask = [sys.executable, "-m", "finemask", *command]
    if launcher == "alone":
        return [subprocess.Popen(finemask, env=environment, **how)]
    if launcher == "lightning":
        return [subprocess.Popen([*finemask, "trainer.devices=2"], env=environment, **how)]
    if launcher == "torchrun":
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        return [subprocess.Popen([*torchrun, "-m", "finemask", *command], env=environment, **how)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {
        "SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "finemask", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NNODES": "1", "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NODEID": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    return [
        subprocess.Popen(finemask, env={**environment, **job, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}, **how)
        for rank in "01"
    ]


def ended(processes, timeout=900):
    """Exit codes, and all that was said."""
    said = [process.communicate(timeout=timeout)[0] for process in processes]
    return [process.returncode for process in processes], "".join(said)


def only_run(folder):
    runs = [path for path in (folder / "runs" / "pair").iterdir() if not path.is_symlink()]
    assert len(runs) == 1
    assert (folder / "runs" / "pair" / "latest").resolve() == runs[0].resolve()
    return runs[0]


@pytest.mark.parametrize("launcher", ["lightning", "torchrun", "srun"])
def test_two_processes_train_one_run(data, tmp_path, launcher):
    codes, said = ended(start(launcher, tmp_path, words(data, "trainer.max_epochs=1")))
    assert set(codes) == {0}, said
    run = only_run(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    results = json.loads((run / "predictions.json").read_text())
    assert metrics["images"] == 5
    assert metrics["detections"] == len(results)
    assert len({json.dumps(result, sort_keys=True) for result in results}) == len(results), "an image came twice"
    assert (run / "model.safetensors").is_file()
    assert not list(Path(run).rglob("*.lock"))
    for line in ("Data: ", "Model: tiny", "Run: ", "epoch 1/1", "Best weights", "Written:"):
        assert len(re.findall(f"^{line}", said, re.MULTILINE)) == 1, f"{line}\n{said}"
    assert "GLOBAL_RANK" not in said
    assert "leaked" not in said
    assert "Warning" not in said


def test_what_stops_all_is_said_once(data, tmp_path):
    codes, said = ended(start("torchrun", tmp_path, words(data, "optimizer.lr=high")))
    assert codes != [0]
    assert len(re.findall("^error: ", said, re.MULTILINE)) == 1, said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_terminated_and_resumed_it_ends_with_the_same_weights(data, tmp_path, launcher):
    more = ("trainer.max_epochs=3", "checkpoint_every=10min", "resume=auto")
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    codes, said = ended(start(launcher, undisturbed, words(data, *more)))
    assert set(codes) == {0}, said

    processes = start(launcher, tmp_path, words(data, *more))
    until = time.monotonic() + 900
    while not list(tmp_path.glob("runs/pair/*/metrics.csv")) and time.monotonic() < until:
        time.sleep(0.2)
    processes[0].send_signal(signal.SIGTERM)
    codes, said = ended(processes)
    assert codes != [0], "it was over before it was asked to end"
    assert "Interrupted." in said
    codes, said = ended(start(launcher, tmp_path, words(data, *more)))
    assert set(codes) == {0}, said
    last = [torch.load(only_run(folder) / "checkpoints" / "last.ckpt") for folder in (undisturbed, tmp_path)]
    assert last[0]["global_step"] == last[1]["global_step"]
    for name, tensor in last[0]["state_dict"].items():
        assert torch.equal(last[1]["state_dict"][name], tensor), name


@pytest.mark.parametrize("killed", [0, 1], ids=["first", "second"])
def test_a_process_that_is_killed_ends_the_other_in_words_and_one_alone_goes_on(data, tmp_path, killed):
    more = ("trainer.max_epochs=3", "checkpoint_every=1s", "resume=auto")
    processes = start("srun", tmp_path, words(data, *more))
    until = time.monotonic() + 900
    wanted = ("metrics.csv", "checkpoints/last.ckpt")
    while not all(list(tmp_path.glob(f"runs/pair/*/{name}")) for name in wanted) and time.monotonic() < until:
        time.sleep(0.1)
    processes[killed].kill()
    said = processes[1 - killed].communicate(timeout=300)[0]
    processes[killed].communicate()
    assert processes[1 - killed].returncode == 2, said
    assert re.search(r"error: epoch \d, step \d+: another process of this training has ended", said), said
    assert "Traceback" not in said
    torch.load(only_run(tmp_path) / "checkpoints" / "last.ckpt")
    codes, said = ended(start("alone", tmp_path, words(data, *more, "data.batch_size=2")))
    assert codes == [0], said
    assert "resumed from last.ckpt" in said
    run = only_run(tmp_path)
    assert torch.load(run / "checkpoints" / "last.ckpt")["global_step"] == 30, "20 images, 2 a step, 3 epochs"
    assert json.loads((run / "metrics.json").read_text())["images"] == 5
