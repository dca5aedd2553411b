"""Loggers of a run: metrics.csv, TensorBoard with the best value beside the settings, Weights & Biases, MLflow."""

import csv
import hashlib
import logging
import os
import warnings
from argparse import Namespace
from pathlib import Path
from textwrap import indent
from typing import Any

import yaml
from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.tensorboard.summary import hparams

from finemask.config import leaves
from finemask.errors import MissingExtraError
from finemask.ops.files.atomic_files import atomic_path

_FIRST_COLUMNS = ("epoch", "step")


class CsvLogger(Logger):
    """Appends to ``metrics.csv`` as numbers come, and goes on in it after a resume.

    Lightning's own CSVLogger deletes what an earlier part of the run wrote.

    Args:
        path: of the file.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self._path = Path(path)
        self._rows: list[dict[str, Any]] = []
        self._columns: list[str] = list(_FIRST_COLUMNS)
        self._written = 0
        if self._path.is_file():
            with self._path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                self._columns = list(reader.fieldnames or _FIRST_COLUMNS)
                self._rows = [{k: v for k, v in row.items() if v} for row in reader]
            self._written = len(self._rows)

    @property
    def name(self) -> str:
        """Of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """A run directory has one."""
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> "CsvLogger":
        """Itself."""
        return self

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run's config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Takes values of a step; those of one step share a row."""
        values = {name: value for name, value in metrics.items() if name != "epoch"}
        row: dict[str, Any] = {"epoch": int(metrics["epoch"])} if "epoch" in metrics else {}
        row.update(step=step if step is not None else -1, **{k: f"{v:.6g}" for k, v in values.items()})
        last = self._rows[-1] if self._rows else None
        if last is not None and last.get("step") == row["step"] and len(self._rows) > self._written:
            last.update(row)
        else:
            self._rows.append(row)

    @rank_zero_only
    def drop_after(self, step: int) -> None:
        """Forgets rows of later steps: a resumed run takes these steps again."""
        self._rows = [row for row in self._rows if int(row["step"]) < step]
        self._written = 0
        self.save()

    @rank_zero_only
    def save(self) -> None:
        """Writes what has come; the whole file only when a new column appeared."""
        if len(self._rows) == self._written and self._path.is_file():
            return
        columns = list(dict.fromkeys([*self._columns, *(name for row in self._rows for name in row)]))
        if columns == self._columns and self._written and self._path.is_file():
            with self._path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, columns).writerows(self._rows[self._written :])
        else:
            self._columns = columns
            with (
                atomic_path(self._path) as temporary,
                temporary.open("w", newline="", encoding="utf-8") as file,
            ):
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(self._rows)
        self._written = len(self._rows)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Writes the rest."""
        self.save()


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, which shows the configuration as text, and as hyperparameters beside the monitored metric.

    Lightning's own writes hyperparameters together with a value of the metric before the first step, which is made up.

    Args:
        save_dir: the run's folder.
        monitor: name of the metric that the best weights are best at.
        name: of the folder in it.
        version: of a folder in that; empty for none.
    """

    def __init__(
        self, save_dir: str, monitor: str = "val/segm_AP", name: str = "tensorboard", version: str = ""
    ) -> None:
        super().__init__(save_dir, name=name, version=version, default_hp_metric=False)
        self._monitor = monitor

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any], *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Writes the configuration; TensorBoard finds the metric's values among the curves."""
        self.hparams = params
        board = self.experiment
        board.add_text("configuration", indent(yaml.safe_dump(params, sort_keys=False), "    "))
        plain = {key: value if isinstance(value, int | float | str) else str(value) for key, value in leaves(params)}
        for summary in hparams(plain, {self._monitor: 0.0}):
            board.file_writer.add_summary(summary)


class WeightsAndBiases(WandbLogger):
    """Lightning's logger; a resumed run goes on in the same run there.

    Args:
        run_dir: of the run; what is not sent yet is kept in it.
        project: that the run belongs to.
        name: of the run.
        offline: keep everything in the run's folder; ``wandb sync`` sends it.

    Raises:
        MissingExtraError: wandb is not installed.
    """

    def __init__(self, run_dir: str, project: str = "finemask", name: str | None = None, offline: bool = False) -> None:
        try:
            import wandb  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("wandb", "wandb", needed_for="logger=wandb") from error
        run = Path(run_dir).absolute()
        identity = hashlib.sha1(str(run).encode()).hexdigest()[:12]
        super().__init__(name=name or run.name, save_dir=str(run), project=project, id=identity, offline=offline)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run there, whose files need the run's folder."""
        Path(str(self.save_dir)).mkdir(parents=True, exist_ok=True)
        return super().experiment


class MLflow(MLFlowLogger):
    """Lightning's logger; a resumed run goes on in the same run there.

    Args:
        run_dir: of the run.
        output: folder of all runs, which gets ``mlflow.db`` and ``mlflow_artifacts`` where no server is named.
        experiment: that the run belongs to.
        name: of the run.
        tracking_uri: of a server; None: what ``MLFLOW_TRACKING_URI`` names, else files in ``output``.

    Raises:
        MissingExtraError: mlflow is not installed.
    """

    _TAG = "finemask.run_dir"

    def __init__(
        self,
        run_dir: str,
        output: str,
        experiment: str = "finemask",
        name: str | None = None,
        tracking_uri: str | None = None,
    ) -> None:
        try:
            import mlflow  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("mlflow", "mlflow", needed_for="logger=mlflow") from error
        run, folder = Path(run_dir).absolute(), Path(output).absolute()
        address = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if address is None:  # MLflow's own files are no longer written by it
            logging.getLogger("alembic").setLevel(logging.WARNING)  # which tells of each table it makes
            artifacts: str | None = (folder / "mlflow_artifacts").as_uri()
            address = f"sqlite:///{(folder / 'mlflow.db').as_posix()}"
            folder.mkdir(parents=True, exist_ok=True)
        else:
            artifacts = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of what MLflow calls in its database
            super().__init__(
                experiment_name=experiment,
                run_name=name or run.name,
                tracking_uri=address,
                tags={self._TAG: str(run)},
                artifact_location=artifacts,
            )

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The client; of a run that is resumed the one of before."""
        if not self._initialized and self._run_id is None:
            self._run_id = self._begun()
        return super().experiment

    def _begun(self) -> str | None:
        """The run there of this run's folder, if it was begun; the experiment is there in any case."""
        found = self._mlflow_client.get_experiment_by_name(self._experiment_name)
        if found is None:  # made here, since Lightning's logger warns that it makes it
            create = self._mlflow_client.create_experiment
            self._experiment_id = create(self._experiment_name, artifact_location=self._artifact_location)
            return None
        folder = str((self.tags or {})[self._TAG]).replace("'", "\\'")
        runs = self._mlflow_client.search_runs(
            [found.experiment_id], filter_string=f"tags.`{self._TAG}` = '{folder}'", max_results=1
        )
        return runs[0].info.run_id if runs else None
