"""This process: which of a training's it is, told from the environment of whoever started it, and what SIGTERM does."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

Launcher = Literal["torchrun", "srun"]


class Launched(NamedTuple):
    """Processes that torchrun or SLURM has started for one training.

    Args:
        by: who started them.
        rank: of this process, 0..processes - 1.
        processes: on all machines together.
        machines: that they run on.
    """

    by: Launcher
    rank: int
    processes: int
    machines: int

    @property
    def per_machine(self) -> int:
        """Processes on one machine."""
        return self.processes // self.machines


def launched() -> Launched | None:
    """What this process belongs to; None where it was started alone, or by a training that divides its own work."""
    found = os.environ
    if "TORCHELASTIC_RUN_ID" in found and int(found.get("WORLD_SIZE", "1")) > 1:
        processes = int(found["WORLD_SIZE"])
        return Launched("torchrun", int(found["RANK"]), processes, processes // int(found["LOCAL_WORLD_SIZE"]))
    # Within a job, but not by srun, SLURM counts the tasks that srun would start: those are not there.
    if "SLURM_STEP_ID" in found and int(found.get("SLURM_STEP_NUM_TASKS", found.get("SLURM_NTASKS", "1"))) > 1:
        processes = int(found.get("SLURM_STEP_NUM_TASKS", found.get("SLURM_NTASKS", "1")))
        machines = int(found.get("SLURM_STEP_NUM_NODES", found.get("SLURM_NNODES", "1")))
        return Launched("srun", int(found["SLURM_PROCID"]), processes, machines)
    return None


def is_first_process() -> bool:
    """Whether this is the process of a training that speaks and writes; the only one is."""
    together = launched()
    if together is not None:
        return together.rank == 0
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK"))


@contextmanager
def termination_as_interruption() -> Iterator[None]:
    """SIGTERM, which queues and shutdowns send, does what Ctrl-C does; only the main thread can be told so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
