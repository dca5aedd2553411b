"""What TensorBoard shows of a run beside its curves and pictures: the configuration."""

from collections.abc import Iterator, Mapping
from textwrap import indent
from typing import Any

import yaml
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.tensorboard.summary import hparams


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
        for summary in hparams(dict(_flat(params)), {self._monitor: 0.0}):
            board.file_writer.add_summary(summary)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str | float]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, bool | int | float | str) else str(value)
