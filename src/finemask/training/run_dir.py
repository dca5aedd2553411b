"""A run's folder: where it is, what it can be resumed from, and what it says of its origin."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from finemask.config import plain
from finemask.errors import ConfigError
from finemask.ops.files import write_json, write_text
from finemask.training.callbacks.checkpoints import LAST

_SHARED_BY_RANKS = "FINEMASK_RUN_DIR"  # processes of one run must not choose a folder each
_PLACEHOLDER = "@run_dir@"
_PACKAGES = (
    "finemask", "torch", "torchvision", "pytorch-lightning", "pycocotools", "albumentations",
    "opencv-python-headless", "hydra-core", "numpy", "scipy", "pillow", "safetensors", "timm",
)  # fmt: skip


def open_run(output: Path, name: str, resume: str | None) -> tuple[Path, Path | None]:
    """The run's folder and the checkpoint it goes on from, if any.

    Args:
        output: folder of all runs.
        name: of this run; may hold slashes.
        resume: ``auto`` for the newest run of that name, a run's folder, a checkpoint in it, or ``None``.

    Raises:
        ConfigError: there is nothing to resume at the path given.
    """
    if resume is not None and resume != "auto":
        checkpoint = Path(resume)
        if checkpoint.is_dir():
            checkpoint = checkpoint / "checkpoints" / LAST
        if not checkpoint.is_file():
            raise ConfigError(
                "no such checkpoint", where=checkpoint, remedy="resume is auto, a run's folder or a file."
            )
        return checkpoint.resolve().parent.parent, checkpoint.resolve()
    of_name = output / name
    if resume == "auto":
        checkpoint = of_name / "latest" / "checkpoints" / LAST
        if checkpoint.is_file():
            checkpoint = checkpoint.resolve()
            return checkpoint.parent.parent, checkpoint
    if _SHARED_BY_RANKS in os.environ:
        return Path(os.environ[_SHARED_BY_RANKS]), None
    run_dir = _make_folder(of_name)
    os.environ[_SHARED_BY_RANKS] = str(run_dir)
    return run_dir, None


def close_run() -> None:
    """A second run of the same process gets its own folder."""
    os.environ.pop(_SHARED_BY_RANKS, None)


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
        run_dir / "environment.json",
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
            "versions": {name: found for name in _PACKAGES if (found := _version(name)) is not None},
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


def _make_folder(of_name: Path) -> Path:
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in range(1000):
        run_dir = (of_name / (stamp if number == 0 else f"{stamp}_{number}")).absolute()
        try:
            run_dir.mkdir(parents=True)
        except FileExistsError:
            continue
        break
    _point_latest(of_name, run_dir)
    return run_dir


def _point_latest(of_name: Path, run_dir: Path) -> None:
    link, temporary = of_name / "latest", of_name / f".latest-{os.getpid()}"
    try:
        temporary.symlink_to(run_dir.name, target_is_directory=True)
        temporary.replace(link)
    except OSError:  # a file system without links: resume=PATH still works
        temporary.unlink(missing_ok=True)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


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
