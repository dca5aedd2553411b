"""Resuming: what a checkpoint says of its run, compared with the run that is to go on from it."""

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.optim import Optimizer

from finemask.config import leaves
from finemask.config.moved_targets import with_present_targets
from finemask.errors import ConfigError, FinemaskError, WeightsError
from finemask.model.pretrained.weights import read_torch_file
from finemask.ops.wording import plural
from finemask.training.console import display_path, show_table
from finemask.training.module import MaskRCNNModule
from finemask.training.tables import differences_table

log = logging.getLogger(__name__)

# What does not change what is trained, or says where things are: of the data, their fingerprints count.
_NO_MATTER = (
    "name", "output", "resume", "run_dir", "prepare", "learning_curve", "folds", "seeds", "group_by", "find_lr",
    "callbacks", "logger", "experiment", "debug",
    "compile", "recompute_backbone", "backend", "checkpoint_every", "augment", "model.weights", "model.class_transfer",
    "optimizer.foreach", "optimizer.fused",
    "data.root", "data.train", "data.val", "data.test", "data.images", "data.num_workers", "data.pin_memory",
    "data.cache", "data.check", "data.eval_batch_size", "data.seed", "data.allow_missing_categories",
    "trainer._target_", "trainer.accelerator", "trainer.strategy", "trainer.log_every_n_steps", "trainer.profiler",
    "trainer.benchmark", "trainer.deterministic", "trainer.detect_anomaly", "trainer.fast_dev_run",
)  # fmt: skip
_NOT_COMPARED = ("plan", "planned")  # kept for a run that goes on; what came of them is compared
_OF_THE_RATES = ("optimizer.", "scheduler.", "transfer.")
_PARTS = ("backbone", "anchors", "box_head", "box_predictor", "mask_head", "mask_predictor")
_NAMED = 6  # of the differences in a message
_CLASSES_NAMED = 40


@dataclass(frozen=True)
class ResumeCheckpoint:
    """What a checkpoint says of the run that wrote it.

    Args:
        path: of the checkpoint.
        step: optimiser steps behind it.
        epochs: that it has been trained for; one that was begun counts not.
        class_names: in the order of the labels; None: it does not say.
        settings: as ``settings_of`` gave them, flat; None: it was written by a finemask that kept none.
        shapes: of the model's tensors by name.
        group_sizes: tensors in each of the optimiser's groups.
    """

    path: Path
    step: int
    epochs: int
    class_names: list[str] | None
    settings: dict[str, Any] | None
    shapes: dict[str, tuple[int, ...]]
    group_sizes: list[int]


@dataclass(frozen=True)
class Difference:
    """A setting that is not what it was: ``None`` where one of the two has no such setting."""

    key: str
    then: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key} {_shown(self.then)}, now {_shown(self.now)}"


def resume_settings(cfg: Mapping[str, Any], model_config: Mapping[str, Any], data: Mapping[str, str]) -> dict[str, Any]:
    """The settings that a checkpoint keeps: plain values, every one of which changes how a training goes on.

    Args:
        cfg: the composed configuration, plain.
        model_config: the group ``model``, resolved.
        data: fingerprint of each annotation file, by split.

    Returns:
        A flat mapping of dotted keys.
    """
    values = {**cfg, "model": {**model_config}, "annotations": dict(data)}
    return {key: value for key, value in leaves(values) if not _is_of(key, _NO_MATTER)}


def read_resume_checkpoint(path: Path) -> ResumeCheckpoint:
    """Reads what a run needs to know of the checkpoint it goes on from.

    Raises:
        ConfigError: it is cut short, refused, or no checkpoint of a run; the remedy names one that is whole.
    """
    try:
        return _read(path)
    except WeightsError as error:
        raise ConfigError(
            f"cannot be resumed from: {error.what}", where=display_path(path), remedy=_other_checkpoint(path)
        ) from error


def _read(path: Path) -> ResumeCheckpoint:
    content = read_torch_file(path)
    wanted = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "global_step", "epoch")
    lacking = [key for key in wanted if not isinstance(content, dict) or key not in content]
    names = [str(name) for name in content["state_dict"]] if not lacking else []
    if lacking or not any(name.startswith("model.roi_heads.") for name in names):
        what = f"it has no {lacking[0]}" if lacking else "its model is none of finemask's"
        raise ConfigError(
            f"not a checkpoint that a run of finemask wrote: {what}",
            where=display_path(path),
            remedy=_only_weights(path),
        )
    class_names, settings = content.get("class_names"), content.get("settings")
    return ResumeCheckpoint(
        path=path,
        step=int(content["global_step"]),
        epochs=int(content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]),
        class_names=[str(name) for name in class_names] if isinstance(class_names, list) else None,
        settings=with_present_targets(settings) if isinstance(settings, dict) else None,
        shapes={n.removeprefix("model."): tuple(t.shape) for n, t in content["state_dict"].items()},
        group_sizes=[len(group["params"]) for group in content["optimizer_states"][0]["param_groups"]],
    )


def class_order(checkpoint: ResumeCheckpoint, class_names: Sequence[str]) -> list[str] | None:
    """The order in which the run goes on with its classes, where it is not that of the data.

    Every row of the model and of the optimiser's state then stays with its name, whatever the parts are.

    Args:
        checkpoint: of the run before.
        class_names: of the data, in order.

    Raises:
        ConfigError: the classes are others.
    """
    then, now = checkpoint.class_names, list(class_names)
    if then is None or then == now:
        return None
    if sorted(then) == sorted(now):
        return then
    gone, new = [n for n in then if n not in now], [n for n in now if n not in then]
    apart = [f"{word}: {_listed(names)}" for word, names in (("gone", gone), ("new", new)) if names]
    raise ConfigError(
        f"it was trained on {_counted(then)}; the data have {_counted(now)} ({'; '.join(apart)})",
        where=display_path(checkpoint.path),
        remedy=_only_weights(checkpoint.path),
    )


def restore_fitted_anchors(checkpoint: ResumeCheckpoint, cfg: Mapping[str, Any], model_config: dict[str, Any]) -> None:
    """Restores the anchors that were fitted when the run began, where they are to be fitted now too.

    Data that have changed a little would give others, and the weights belong to those they were trained with.

    Args:
        checkpoint: of the run before.
        cfg: the group ``model`` as composed.
        model_config: the same, resolved; changed in place.
    """
    anchors: Mapping[str, Any] = cfg["anchors"]
    then = checkpoint.settings or {}
    if anchors.get("fit") == "auto":
        model_config["anchors"] |= {
            key: list(value) for key in ("sizes", "aspect_ratios") if (value := then.get(f"model.anchors.{key}"))
        }


def reorder_class_weights(
    model: Mapping[str, Any], of_file: Sequence[str], class_names: Sequence[str]
) -> dict[str, Any]:
    """The group ``model`` with class weights, which are typed in the order of the file, in the order of the labels."""
    weights = model.get("class_loss", {}).get("class_weights")
    if not isinstance(weights, list) or len(weights) != len(of_file):
        return {**model}
    ordered = [weights[of_file.index(name)] for name in class_names]
    return {**model, "class_loss": {**model["class_loss"], "class_weights": ordered}}


def check_resumable(
    checkpoint: ResumeCheckpoint,
    module: MaskRCNNModule,
    optimizer: Optimizer,
    trainer: pl.Trainer,
    *,
    starts_anew: bool,
) -> None:
    """Refuses a model, optimiser or length that does not fit the checkpoint; prints the other differences as a table.

    Args:
        checkpoint: of the run before.
        module: of the run to come.
        optimizer: likewise.
        trainer: likewise.
        starts_anew: the checkpoint is another run's: with nothing left to train there would be no weights.

    Raises:
        ConfigError: the model or the optimiser is another one, or nothing is left to train.
    """
    found = _differences(checkpoint, module, optimizer)
    epochs, steps = trainer.max_epochs or -1, trainer.max_steps
    if 0 <= epochs < checkpoint.epochs or (
        starts_anew and (checkpoint.epochs == epochs or 0 <= steps <= checkpoint.step)
    ):
        raise ConfigError(
            f"it has been trained for {plural(checkpoint.epochs, 'epoch')} already ({plural(checkpoint.step, 'step')})",
            where=display_path(checkpoint.path),
            remedy=f"Raise trainer.max_epochs above {checkpoint.epochs}, or trainer.max_steps.",
        )
    if found:
        show_table(differences_table([(one.key, _shown(one.then), _shown(one.now)) for one in found]))
    if checkpoint.settings is None:
        log.info("An older finemask wrote this checkpoint: only classes and shapes of weights could be compared.")
    module.renew_rates = any(one.key.startswith(_OF_THE_RATES) for one in found)


def _differences(checkpoint: ResumeCheckpoint, module: MaskRCNNModule, optimizer: Optimizer) -> list[Difference]:
    then, now = checkpoint.settings or {}, module.settings
    keys = dict.fromkeys([*then, *now]) if then else {}
    keys = {key: None for key in keys if key not in _NOT_COMPARED}
    found = [Difference(key, then.get(key), now.get(key)) for key in keys if then.get(key) != now.get(key)]
    of_model = [
        one for one in found if one.key == "model.name" or _is_of(one.key, [f"model.{part}" for part in _PARTS])
    ]
    shapes = {name: tuple(tensor.shape) for name, tensor in module.model.state_dict().items()}
    other = [
        name for name in dict.fromkeys([*checkpoint.shapes, *shapes]) if checkpoint.shapes.get(name) != shapes.get(name)
    ]
    is_another = any(one.key.endswith("._target_") or one.key.startswith("model.anchors.") for one in of_model)
    if other or is_another:
        told = [str(one) for one in of_model]
        told = told or [str(Difference(name, checkpoint.shapes.get(name), shapes.get(name))) for name in other]
        raise _refused(checkpoint, "its model is another one", told)
    of_rates = [one for one in found if one.key.startswith(_OF_THE_RATES)]
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    if any(one.key == "optimizer._target_" for one in of_rates) or sizes != checkpoint.group_sizes:
        told = [str(one) for one in of_rates] or [f"groups of {checkpoint.group_sizes} tensors, now {sizes}"]
        raise _refused(checkpoint, "its optimiser is another one, or has other weights to move", told)
    return found


def _refused(checkpoint: ResumeCheckpoint, what: str, told: Sequence[str]) -> ConfigError:
    more = f"; and {len(told) - _NAMED:,} more" if len(told) > _NAMED else ""
    config = checkpoint.path.parents[1] / "config.yaml"
    begun = (
        f"Resume with the settings that it was begun with (see {display_path(config)}). " if config.is_file() else ""
    )
    return ConfigError(
        f"cannot be resumed from: {what} ({'; '.join(told[:_NAMED])}{more})",
        where=display_path(checkpoint.path),
        remedy=f"{begun}{_only_weights(checkpoint.path)}",
    )


def _only_weights(path: Path) -> str:
    return (
        f"To start a new run from its weights, give model.weights={shlex.quote(display_path(path))} instead of resume=."
    )


def _other_checkpoint(path: Path) -> str:
    """The newest other checkpoint beside one, if any is whole."""
    for other in sorted(path.parent.glob("*.ckpt"), key=lambda file: file.stat().st_mtime, reverse=True):
        if other == path:
            continue
        try:
            found = _read(other)
        except FinemaskError:
            continue
        after = plural(found.epochs, "epoch")
        return f"{other.name} beside it is whole, after {after}: resume={shlex.quote(display_path(other))}."
    return "There is no other checkpoint beside it: start the run anew, without resume=."


def _is_of(key: str, holders: Sequence[str]) -> bool:
    return any(key == holder or key.startswith(f"{holder}.") for holder in holders)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, str) and len(value) == 64:  # a fingerprint
        return f"{value[:12]}…"
    return "×".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _counted(names: Sequence[str]) -> str:
    return f"{plural(len(names), 'class', 'classes')}: {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_CLASSES_NAMED]) + (", …" if len(names) > _CLASSES_NAMED else "")
