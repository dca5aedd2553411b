"""The Ray cluster of a run: one that is named, or one of this machine that begins and ends with the run."""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from finemask.errors import ConfigError, MissingExtraError
from finemask.machine.hardware import cores
from finemask.ops.terminal import say

ASK_LESS = "Ask for fewer workers, or for less of each."
_STARTS = 3  # of Ray on this machine; it gives up by itself when its parts need more than half a minute
_SETTINGS = {  # where the environment does not say otherwise; all but the first are of Ray on this machine
    "RAY_USAGE_STATS_ENABLED": "0",  # nobody is told of anything
    "RAY_worker_niceness": "0",  # its own 15 leaves a worker a thirtieth of a processor beside any other program
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_worker_register_timeout_seconds": "300",
}


class RayCluster:
    """Ray, and what it has.

    Args:
        chosen: the keys ``ray`` of ``configs/predict.yaml``.

    Attributes:
        ray: the package.

    Raises:
        MissingExtraError: ray is not installed.
        ConfigError: there is no such cluster, or Ray cannot be started here.
    """

    def __init__(self, chosen: Mapping[str, Any]) -> None:
        self.ray, self._chosen = _imported(), chosen
        self._is_ours = not self.ray.is_initialized()
        if self._is_ours:
            address = chosen["address"] or os.environ.get("RAY_ADDRESS")
            with _own_signals():
                _start(self.ray, chosen) if address is None else _join(self.ray, address)

    def number_of_workers(self) -> int:
        """As many as the key says, or as many as there is room for.

        Raises:
            ConfigError: there is not so much room.
        """
        there, chosen = self.ray.cluster_resources(), self._chosen
        room = [int(there.get("CPU", 0) // chosen["cpus"])]
        if chosen["gpus"]:
            room.append(int(there.get("GPU", 0) // chosen["gpus"]))
        most = min(room)
        wanted = max(1, most) if chosen["workers"] == "auto" else chosen["workers"]
        if wanted > most:
            has = f"{there.get('CPU', 0):g} processors and {there.get('GPU', 0):g} GPUs"
            raise ConfigError(
                f"ray has {has}, which is too few for {wanted} of ray.cpus={chosen['cpus']:g} "
                f"ray.gpus={chosen['gpus']:g}",
                remedy=ASK_LESS,
            )
        return int(wanted)

    def actors(self, kind: type, count: int, *args: Any) -> list[Any]:
        """So many of a class, each in a process of its own that is started anew when it dies."""
        needed = {"num_cpus": self._chosen["cpus"], "num_gpus": self._chosen["gpus"], "max_restarts": -1}
        remote = self.ray.remote(**needed)(kind)
        return [remote.remote(*args) for _ in range(count)]

    def close(self, actors: list[Any]) -> None:
        """Ends these, and a cluster that was started or joined here."""
        if self._is_ours:
            self.ray.shutdown()
            return
        for actor in actors:
            self.ray.kill(actor)


def _imported() -> Any:
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("ray", "ray", needed_for="engine=ray") from error
    return ray


def _join(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises plain ones too
        raise ConfigError(
            f"no Ray cluster at {address} ({error})", remedy="Without ray.address= one is started on this machine."
        ) from error


def _start(ray: Any, chosen: Mapping[str, Any]) -> None:
    """Starts Ray on this machine; again, where it was too slow: what it reads from the disk is in memory then."""
    workers = 1 if chosen["workers"] == "auto" else chosen["workers"]
    processors = max(cores(), round(workers * chosen["cpus"]))
    console = Console(stderr=True, highlight=False)
    for start in range(1, _STARTS + 1):
        say(console, "Ray starts on this machine." if start == 1 else f"Ray was too slow to start: try {start}.")
        try:
            ray.init(
                address="local",
                num_cpus=processors,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
            )
            return
        except Exception as error:  # Ray raises plain ones too
            ray.shutdown()
            if start == _STARTS or isinstance(error, ValueError):  # what is wrong now is wrong the next time
                raise ConfigError(
                    f"ray cannot be started ({error})",
                    remedy="Try again when the machine is less busy, or leave engine= out.",
                ) from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """What SIGTERM does stays as it is: Ray has a handler of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
