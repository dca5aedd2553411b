"""A part by the name that a configuration gives it: what a file may name, and how it is called.

The only place that turns ``_target_`` into code for models.
"""

import shlex
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

from torch import nn

from finemask.errors import ConfigError

# What only training asks; a model without it predicts the same.
TRAINING_PARTS = ("class_loss", "box_loss", "mask_loss", "sampler")

# Where parts stood in files of earlier versions; a model file keeps the names of its day.
_MOVED = {
    "box_loss": "box_losses",
    "class_loss": "class_losses",
    "mask_loss": "mask_losses",
    "sampler": "samplers",
    "suppression": "suppression",
    "anchors": "rpn",
    "box_predictor.cosine": "box_predictor.linear",
    "box_predictor.iterative": "box_predictor.cascade",
    "mask_predictor.deep_fcn": "mask_predictor.fcn",
}


# Packages that nobody should trust as a whole: they hold ways to run anything, torch.hub.load and os.system.
_NEVER_WHOLE = {"torch", "torchvision", "timm", "numpy"} | sys.stdlib_module_names


class NotLoaded(nn.Module):
    """A loss or sampler whose code is not there or not trusted: the model predicts, and refuses to be trained.

    Args:
        reason: why it was not loaded.
    """

    def __init__(self, reason: ConfigError) -> None:
        super().__init__()
        self._what, self._where, self._remedy = reason.what, reason.where, reason.remedy

    def forward(self, *args: Any) -> NoReturn:
        """Raises the reason."""
        what = f"this model cannot be trained further: {self._what}"
        raise ConfigError(what, where=self._where, remedy=self._remedy)

    def _load_from_state_dict(self, *args: Any) -> None:
        """The part's own parameters in a file have no place here, and are no mistake."""


def foreign_parts(config: Mapping[str, Any], allowed: Collection[str]) -> dict[str, str]:
    """What a ``model`` configuration names that is not allowed: the dotted names, and the key that each stands under.

    Args:
        config: the group ``model``, or some of its keys.
        allowed: dotted names, and packages, ``mylab.*``.
    """
    packages = tuple(name.removesuffix("*") for name in allowed if name.endswith(".*"))
    return {
        target: key
        for key, node in config.items()
        for target in _targets(node)
        if target not in allowed and not target.startswith(packages)
    }


def trust_keys(foreign: Collection[str]) -> tuple[str, str]:
    """What to type to allow these dotted names: one by one, and by package."""
    tops = {name: name.partition(".")[0] for name in foreign}
    packages = dict.fromkeys(name if top in _NEVER_WHOLE else f"{top}.*" for name, top in tops.items())
    by_name, by_package = (shlex.quote(f"trust=[{','.join(names)}]") for names in (foreign, packages))
    return by_name, by_package


def refuse_foreign(config: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Raises if a configuration names code that is not allowed; all of it in one message."""
    foreign = foreign_parts(config, allowed)
    if not foreign:
        return
    listed = ", ".join(f"{target} (model.{key})" for target, key in foreign.items())
    by_name, by_package = trust_keys(foreign)
    whole = "" if by_package == by_name else f"; or by package: {by_package}"
    raise ConfigError(
        f"{listed} {'is not one of' if len(foreign) == 1 else 'are not'} finemask's own parts",
        remedy=f"If you know and trust that code, allow it by name: {by_name}{whole}.",
    )


def _targets(node: Any) -> Iterator[str]:
    """Every ``_target_`` in a configuration, at whatever depth, by its present name."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield _today(str(node["_target_"]))
        node = list(node.values())
    if isinstance(node, list | tuple):
        for inner in node:
            yield from _targets(inner)


def instantiate(node: Mapping[str, Any], where: str, arguments: Mapping[str, Any]) -> Any:
    """Hydra's ``_target_`` and ``_partial_``, without Hydra; what is allowed has been looked at before."""
    options = {key: _built(value, f"{where}.{key}") for key, value in node.items()}
    target = _today(options.pop("_target_"))
    is_partial = options.pop("_partial_", False)
    module_name, _, name = target.rpartition(".")
    try:
        builder = getattr(import_module(module_name), name)
    except Exception as error:  # whatever somebody's module does when it is imported
        raise ConfigError(
            f"{target} cannot be imported: {error}",
            where=f"{where}._target_",
            remedy="Code of your own must be installed, or its folder named in PYTHONPATH.",
        ) from error
    if is_partial:
        return partial(builder, **options, **arguments)
    try:
        return builder(**options, **arguments)
    except TypeError as error:
        raise ConfigError(f"{target} does not take these arguments: {error}", where=where) from error


def _built(value: Any, where: str) -> Any:
    """An argument of a part: a part itself, where it has a ``_target_``."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            return instantiate(value, where, {})
        return {key: _built(inner, f"{where}.{key}") for key, inner in value.items()}
    return [_built(inner, where) for inner in value] if isinstance(value, list | tuple) else value


def _today(target: str) -> str:
    """The present dotted name of a part that a file of an earlier version names."""
    package, _, name = target.rpartition(".")
    place = package.removeprefix("finemask.model.")
    for old in (place, place.partition(".")[0]):
        if package != place and old in _MOVED:
            return f"finemask.model.{_MOVED[old]}.{name}"
    return target
