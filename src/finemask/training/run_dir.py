"""A run's folder: choosing it, the checkpoint to resume from, and the record of configuration and environment."""

import logging
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path, PureWindowsPath

import torch
from omegaconf import DictConfig, OmegaConf

from finemask.config import plain
from finemask.errors import ConfigError
from finemask.machine.hardware import package_versions
from finemask.machine.processes import is_first_process
from finemask.ops.files.atomic_files import write_json, write_text
from finemask.ops.files.run_folders import LATEST, find_in_run, is_run_folder, newest_run, runs_of
from finemask.training.callbacks.checkpoints import LAST

log = logging.getLogger(__name__)

# What the first process has chosen, for those that Lightning starts with the same words on the command line.
_FOLDER, _CHECKPOINT = "FINEMASK_RUN_DIR", "FINEMASK_RUN_CHECKPOINT"
_LAST, _ORIGIN = f"checkpoints/{LAST}", "environment.json"
_RESUME = "It is auto (the newest run of this name), a run's folder, or a checkpoint."
_PLACEHOLDER = "@run_dir@"


@dataclass(frozen=True)
class Run:
    """A run that is about to begin or to go on; on disk nothing has changed yet.

    Args:
        folder: of the run.
        checkpoint: that it goes on from; None begins anew.
        note: what came of ``resume``, for people; empty where it was not asked for.
    """

    folder: Path
    checkpoint: Path | None = None
    note: str = ""

    @property
    def goes_on(self) -> bool:
        """Whether the folder is that of the run that wrote the checkpoint."""
        return self.checkpoint is not None and self.checkpoint.is_relative_to(self.folder)


def choose_run(output: Path, name: str, resume: object) -> Run:
    """The run's folder, which is not made yet, and the checkpoint that it goes on from, if any.

    Processes that this one starts choose the same, until ``close_run``.

    Args:
        output: folder of all runs.
        name: of this run; may hold slashes.
        resume: ``auto`` for the newest run of that name that has a checkpoint, a run's folder, a checkpoint, or
            ``None``. A checkpoint that does not lie in a run's folder begins a new run.

    Raises:
        ConfigError: there is nothing to resume at the path given, or the name leads out of ``output``.
    """
    if _FOLDER in os.environ and not is_first_process():
        checkpoint = os.environ.get(_CHECKPOINT)
        return Run(Path(os.environ[_FOLDER]), None if checkpoint is None else Path(checkpoint))
    run = _choose(output, name, resume)
    close_run()
    os.environ[_FOLDER] = str(run.folder)
    if run.checkpoint is not None:
        os.environ[_CHECKPOINT] = str(run.checkpoint)
    return run


def _choose(output: Path, name: str, resume: object) -> Run:
    of_name = output / _inside(name)
    if resume is None:
        return Run(_new_folder(of_name))
    if not isinstance(resume, str):
        raise ConfigError(f"resume is {resume!r}", remedy=_RESUME)
    if resume == "auto":
        run = newest_run(of_name, _LAST)
        if run is None:
            return Run(
                _new_folder(of_name), note=f"resume=auto: no run in {of_name} has a checkpoint; a new one begins"
            )
        skipped = runs_of(of_name)[0]
        after = "" if skipped == run else f"; {skipped.name}, the newest, has no checkpoint"
        checkpoint = (run / _LAST).resolve()
        return Run(checkpoint.parents[1], checkpoint, f"resume=auto: going on with {run}{after}")
    checkpoint = find_in_run(resume, _LAST).resolve()
    if not checkpoint.is_file():
        raise ConfigError("no such checkpoint", where=resume, remedy=_RESUME)
    folder = checkpoint.parents[1]
    if checkpoint.parent.name == Path(_LAST).parent.name and (folder / _ORIGIN).is_file():
        return Run(folder, checkpoint, f"Going on with {folder}, from {checkpoint.name}")
    folder = _new_folder(of_name)
    return Run(folder, checkpoint, f"{resume} does not lie in a run's folder: it goes on in a new one")


def open_run(run: Run) -> bool:
    """Makes the folder and lets ``latest`` point to it: to be called when nothing can keep the run from starting.

    Returns:
        False if another run has taken the folder since it was chosen; then another is to be chosen.
    """
    try:
        run.folder.mkdir(parents=True, exist_ok=run.goes_on)
    except FileExistsError:
        close_run()
        return False
    _point_latest(run.folder)
    return True


def close_run() -> None:
    """A second run of the same process gets its own folder."""
    os.environ.pop(_FOLDER, None)
    os.environ.pop(_CHECKPOINT, None)


def write_origin(run_dir: Path, cfg: DictConfig, data: Mapping[str, str]) -> None:
    """Writes ``config.yaml`` and ``environment.json``.

    Args:
        run_dir: of the run.
        cfg: the composed configuration.
        data: fingerprint of each annotation file, by split.
    """
    write_text(run_dir / "config.yaml", resolved_text(cfg))
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    write_json(
        run_dir / _ORIGIN,
        {
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "started": datetime.now().astimezone().isoformat(timespec="seconds"),
            "seed": cfg.seed,
            "data": dict(data),
            "git_revision": _git_revision(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "gpus": gpus,
            "cuda": torch.version.cuda if gpus else None,
            "versions": package_versions(),
        },
    )


def resolved_text(cfg: DictConfig) -> str:
    """The configuration with all references filled in, but for the run's folder: it repeats the run elsewhere."""
    copy = cfg.copy()
    OmegaConf.update(copy, "run_dir", _PLACEHOLDER)
    OmegaConf.update(copy, "resume", None)
    values = plain(copy)
    values["run_dir"] = None
    return OmegaConf.to_yaml(OmegaConf.create(values)).replace(_PLACEHOLDER, "${run_dir}")


def _inside(name: str) -> Path:
    """The name as a path that stays where it is put, on Windows too."""
    path = PureWindowsPath(name)  # knows both kinds of slashes, and drives
    if path.anchor or ".." in path.parts or not path.parts:
        raise ConfigError(
            f"name={name} leads out of the folder of runs" if path.parts else "name is empty",
            remedy="It names a folder in there, such as cells or cells/first; output=DIR chooses another place.",
        )
    return Path(name)


def _new_folder(of_name: Path) -> Path:
    """A folder that is not there yet."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    names = (stamp if number == 0 else f"{stamp}_{number}" for number in count())
    return next(path for name in names if not (path := (of_name / name).absolute()).exists())


def _point_latest(run_dir: Path) -> None:
    """Points to the newest run beside this one; where links cannot be made, ``find_in_run`` does without."""
    if not is_run_folder(run_dir):
        return
    link, temporary = run_dir.parent / LATEST, run_dir.parent / f".{LATEST}-{os.getpid()}"
    try:
        temporary.symlink_to(run_dir.name, target_is_directory=True)
        temporary.replace(link)
    except OSError:
        temporary.unlink(missing_ok=True)
        if link.is_symlink():
            link.unlink()  # rather none than one that points to an older run
        elif link.is_dir():
            log.warning("%s is a folder, not a link: it stays as it is, and is not this run", link)
            return
        log.info("No links can be made here. finemask finds this run by %s all the same.", link)


def _git_revision() -> str | None:
    """Of the checkout finemask runs from, with a mark if it was changed; ``None`` for an installed package."""
    folder = Path(__file__).parent
    git = ["git", "-C", str(folder)]
    try:
        inside = subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, timeout=10)
        if inside.returncode != 0:
            return None
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    return f"{head}-dirty" if changed else head or None
