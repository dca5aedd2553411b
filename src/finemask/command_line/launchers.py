"""``--multirun hydra/launcher=submitit_slurm``: the runs as jobs of a queue, through submitit."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finemask.config import compose, plain, search_path
from finemask.config.config_files import group_options
from finemask.errors import ConfigError, MissingExtraError, did_you_mean

GROUP = "hydra/launcher"  # as it is typed; the folder is ``launcher``
_SECTION = "hydra.launcher."
# Keys here, and what submitit calls them: those of a cluster begin with its name.
_OF_SLURM = ("partition", "qos", "account", "array_parallelism", "setup", "additional_parameters")
_OF_ALL = ("name", "timeout_min", "nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node", "mem_gb")
_ASK_S = 2.0  # between two looks at the jobs


def split_launcher(overrides: Sequence[str], config_dir: str | None) -> tuple[dict[str, Any] | None, list[str]]:
    """Takes the launcher out of the words of a command line.

    Returns:
        Its settings, None where the runs stay here; and the other words.

    Raises:
        ConfigError: there is no such launcher, or it has no such key.
    """
    chosen = [word for word in overrides if word.lstrip("+").startswith(f"{GROUP}=")]
    changed = [word for word in overrides if word.lstrip("+").startswith(_SECTION)]
    others = [word for word in overrides if word not in (*chosen, *changed)]
    if not chosen:
        if changed:
            raise ConfigError(f"{changed[0]} without a launcher", remedy=f"Choose one: {GROUP}=submitit_slurm.")
        return None, others
    option = chosen[-1].partition("=")[2]
    known = group_options("launcher", search_path(config_dir))
    if option not in known:
        hint = did_you_mean(option, known, f"{GROUP}={{}}")
        raise ConfigError(f"there is no launcher '{option}'", remedy=f"{hint}There is {' and '.join(known)}.")
    words = [word.replace(_SECTION, "", 1) for word in changed]  # +hydra.launcher.key=value keeps its +
    return plain(compose("launcher", words, config_dir=config_dir, config_name=f"launcher/{option}")), others


def parameters_of(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a launcher as submitit's executor takes them; what is null is left out."""
    own = {key: settings[key] for key in _OF_ALL if settings.get(key) is not None}
    return own | {f"slurm_{key}": settings[key] for key in _OF_SLURM if settings.get(key) not in (None, [], {})}


class JobQueue:
    """Submits commands and waits for all of them.

    Args:
        settings: of a launcher.

    Raises:
        MissingExtraError: submitit is not there.
        ConfigError: a setting that it refuses, or no such queue here.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        try:
            import submitit
        except ImportError as error:
            raise MissingExtraError("submitit", "slurm", needed_for=f"{GROUP}=submitit_slurm") from error
        try:
            self._executor = submitit.AutoExecutor(folder=settings["submitit_folder"], cluster=settings["cluster"])
            self._executor.update_parameters(**parameters_of(settings))
        except (ValueError, NameError, RuntimeError, TypeError) as error:
            raise ConfigError(str(error).splitlines()[0], where=GROUP) from error

    def run(self, commands: Sequence[Sequence[str]]) -> list[tuple[int, float]]:
        """Runs all; Ctrl-C takes them back.

        Returns:
            The exit code of each, and its seconds as far as they were seen.
        """
        with self._executor.batch():
            jobs = [self._executor.submit(_Command(list(command))) for command in commands]
        for number, job in enumerate(jobs, 1):
            print(f"== run {number} of {len(jobs)} is job {job.job_id}", flush=True)
        started, seconds = time.monotonic(), [0.0] * len(jobs)
        waiting = set(range(len(jobs)))
        try:
            while waiting:
                for number in [number for number in waiting if jobs[number].done()]:
                    seconds[number] = time.monotonic() - started
                    waiting.discard(number)
                    print(f"== run {number + 1} of {len(jobs)} has ended", flush=True)
                time.sleep(_ASK_S if waiting else 0.0)
        except KeyboardInterrupt:
            for job in jobs:
                job.cancel()
            raise
        return [(_code_of(job), took) for job, took in zip(jobs, seconds, strict=True)]


class _Command:
    """A command line in the folder where it was typed; submitit sends it to the job as it is."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._folder = str(Path.cwd())

    def __call__(self) -> int:
        return subprocess.run(self._command, cwd=self._folder, check=False).returncode


def _code_of(job: Any) -> int:
    """The exit code of a job's command; 1 where the queue ended it."""
    try:
        code: int = job.result()
    except Exception:
        return 1
    return code
