"""Several trainings one after another: a folder of their own, gone on with where it was left, a configuration each."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from finemask.config import plain
from finemask.errors import ConfigError
from finemask.ops.files.atomic_files import write_json
from finemask.ops.files.documents import read_json
from finemask.ops.files.run_folders import newest_run
from finemask.training.run_dir import choose_run, close_run, open_run

# What makes many runs of one: a single one of them has none of it.
_OF_THE_SERIES = {"learning_curve": None, "folds": None, "seeds": 1, "prepare": None}


@dataclass(frozen=True)
class RunSeries:
    """The folder of several runs.

    Args:
        folder: of everything written, ``runs/NAME/DATE_TIME``; each run has a folder in it.
        is_resumed: it was begun before.
    """

    folder: Path
    is_resumed: bool

    def finished(self, name: str, holding: str) -> Path | None:
        """The folder of a run that has ended in an earlier part of the series; None: it has not.

        Args:
            name: of the run.
            holding: a file that only a run that has ended holds.
        """
        run = newest_run(self.folder / name, holding) if self.is_resumed else None
        return None if run is None else run.resolve()

    def config(self, cfg: DictConfig, name: str, changes: Mapping[str, Any]) -> DictConfig:
        """The configuration of one of the runs.

        Args:
            cfg: of the whole series.
            name: of the run; may hold slashes.
            changes: values by dotted key.
        """
        run: DictConfig = cfg.copy()
        own = {"output": str(self.folder), "name": name, "resume": "auto" if self.is_resumed else None}
        for key, value in (_OF_THE_SERIES | own | dict(changes)).items():
            OmegaConf.update(run, key, value, force_add=True)
        return run


def check_series(cfg: DictConfig, what: str) -> None:
    """Refuses what only a single run can do.

    Args:
        cfg: of the verb ``train``.
        what: the series, for messages: ``a learning curve``.

    Raises:
        ConfigError: a run to resume from, or several devices.
    """
    if cfg.resume not in (None, "auto"):
        raise ConfigError(f"resume={cfg.resume} is one run", remedy=f"{what.capitalize()} goes on with resume=auto.")
    devices = plain(cfg.trainer).get("devices")
    if devices not in (1, "1", "auto") and not (isinstance(devices, list) and len(devices) == 1):
        raise ConfigError(
            f"trainer.devices={devices} with {what}",
            remedy="Its runs come one after another in one process: trainer.devices=1.",
        )


def begun_with(cfg: DictConfig, plan: Mapping[str, Any]) -> dict[str, Any]:
    """The plan of a series with the decisions of ``plan=auto``, where there are any: its runs depend on them too."""
    planned = plain(cfg).get("planned")
    return {**plan, "planned": planned} if planned else dict(plan)


def open_series(cfg: DictConfig, plan_file: str, plan: Mapping[str, Any], what: str) -> RunSeries:
    """Makes the folder, or finds that of a series of this name that was begun.

    Args:
        cfg: of the verb ``train``; ``resume=auto`` goes on.
        plan_file: name of the file that holds the plan.
        plan: all that the runs depend on as a series, plain values: one that goes on must have the same.
        what: the series, for messages: ``the curve``.

    Raises:
        ConfigError: the one that was begun has another plan.
    """
    begun = newest_run(Path(cfg.output) / str(cfg.name), plan_file) if cfg.resume == "auto" else None
    if begun is not None:
        before = read_json(begun / plan_file, f"the plan of {what}")
        if before != plan:
            changed = [key for key in plan if before.get(key) != plan[key]]
            raise ConfigError(
                f"{what} that was begun has other {' and '.join(changed)}",
                where=begun,
                remedy="Give the same, or begin another one without resume=auto.",
            )
        return RunSeries(begun.resolve(), is_resumed=True)
    run = choose_run(Path(cfg.output), str(cfg.name), None)
    close_run()
    open_run(run)
    write_json(run.folder / plan_file, dict(plan))
    return RunSeries(run.folder, is_resumed=False)


def metric_of(monitor: str) -> tuple[str, str]:
    """Of which masks or boxes, and which of COCO's numbers: what the best weights are best at, if it is one of them."""
    iou_type, _, key = monitor.removeprefix("val/").partition("_")
    return (iou_type, key) if iou_type in ("segm", "bbox") and key in ("AP", "AP50", "AP75") else ("segm", "AP")
