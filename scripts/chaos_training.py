"""Trainings that are killed at random moments, and whether they end as if nothing had happened.

python scripts/chaos_training.py --times 20
python scripts/chaos_training.py --times 5 --processes 2

Each is a run of ``finemask train`` on drawn shapes that gets SIGKILL, SIGTERM, SIGINT or SIGUSR1, or whose worker is
killed, at a random moment after its first line; then the same command with ``resume=auto``. Compared are all weights
and the optimiser's state with those of a run that nobody disturbed, on a CPU to the bit.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from finemask.data.shapes import draw_shapes

WORKER = "a worker killed"
KINDS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGUSR1", WORKER)
OPTIONS = (
    "plan=none",
    "model=tiny",
    "model.min_size=64",
    "model.max_size=96",
    "augment=flip",
    "transfer=full",
    "optimizer=adamw",
    "callbacks=none",
    "trainer.max_epochs=4",
    "trainer.check_val_every_n_epoch=2",
    "data.batch_size=4",
    "data.num_workers=1",
    "trainer.accelerator=cpu",
    "checkpoint_every=1s",
    "name=chaos",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--processes", type=int, default=1, help="that train together; the signal goes to the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None, help="where to work; default: a temporary folder")
    args = parser.parse_args()
    chance = random.Random(args.seed)
    failed = 0
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        data = draw_shapes(folder / "data", images=args.images, size=64, seed=1)
        began = time.monotonic()
        together = f"trainer.devices={args.processes}"
        run = start(data, folder / "undisturbed", together)
        until_it_trains(run)
        trains = time.monotonic()
        output, _ = run.communicate()
        if run.returncode:
            raise SystemExit(f"the undisturbed run failed:\n{output}")
        length = time.monotonic() - trains
        expected = checkpoint(folder / "undisturbed")
        print(f"undisturbed: {trains - began:.0f} s to the first line, {length:.0f} s from there", flush=True)
        for number in range(args.times):
            kind, moment = KINDS[number % len(KINDS)], chance.uniform(0.0, 0.95) * length
            words = disturbed(data, folder / str(number), kind, moment, expected, together)
            failed += words != "the same"
            print(f"{number + 1:2}/{args.times}  {kind:<15} after {moment:4.1f} s: {words}", flush=True)
    print(f"{args.times - failed} of {args.times} ended with the weights of the undisturbed run")
    raise SystemExit(1 if failed else 0)


def disturbed(data: Path, output: Path, kind: str, moment: float, expected: dict[str, Any], together: str) -> str:
    """``the same``, or what went wrong."""
    run = start(data, output, together)
    until_it_trains(run)
    time.sleep(moment)
    if kind == WORKER:
        for worker in children(run.pid):
            os.kill(worker, signal.SIGKILL)
    else:
        run.send_signal(getattr(signal, kind))
    text, _ = run.communicate()
    if "Traceback" in text:
        return f"ended in a traceback:\n{text}"
    try:
        checkpoint(output)
    except Exception as error:  # whatever a damaged file does to torch
        return f"its last checkpoint cannot be read: {error}"
    resumed = start(data, output, together, "resume=auto")
    text, _ = resumed.communicate()
    if resumed.returncode:
        return f"could not be resumed:\n{text}"
    return difference(checkpoint(output), expected)


def start(data: Path, output: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "finemask", "train", f"data.root={data}", f"output={output}", *OPTIONS, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until_it_trains(run: "subprocess.Popen[str]") -> None:
    """Until the run has a folder; what is printed after it stays in the pipe, which has room for it."""
    assert run.stdout is not None
    for line in run.stdout:
        if line.startswith("Run: "):
            return


def children(pid: int) -> list[int]:
    """Loader workers, and the other processes that train: all that were begun by that one. On Linux."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()]


def checkpoint(output: Path) -> dict[str, Any]:
    path = output / "chaos" / "latest" / "checkpoints" / "last.ckpt"
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def difference(found: dict[str, Any], expected: dict[str, Any]) -> str:
    if found["global_step"] != expected["global_step"]:
        return f"{found['global_step']} steps instead of {expected['global_step']}"
    for name, tensor in expected["state_dict"].items():
        if not torch.equal(found["state_dict"][name], tensor):
            return f"other weights: {name}"
    for state, other in zip(
        expected["optimizer_states"][0]["state"].values(), found["optimizer_states"][0]["state"].values(), strict=True
    ):
        if any(not torch.equal(torch.as_tensor(other[key]), torch.as_tensor(state[key])) for key in state):
            return "another state of the optimiser"
    return "the same"


if __name__ == "__main__":
    main()
