"""What a ``model`` configuration names as code, and whether a file that came from anybody may: without torch."""

import shlex
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from finemask.errors import ConfigError

# What only training asks; a model without it predicts the same.
TRAINING_PARTS = ("class_loss", "box_loss", "mask_loss", "sampler")

# Packages that nobody should trust as a whole: they hold ways to run anything, torch.hub.load and os.system.
_NEVER_WHOLE = {"torch", "torchvision", "timm", "numpy"} | sys.stdlib_module_names


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
    """Raises if a configuration names code that is not allowed; all of it in one message.

    Args:
        config: as of ``foreign_parts``.
        allowed: as of ``foreign_parts``.

    Raises:
        ConfigError: it does.
    """
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
    """Every ``_target_`` in a configuration, at whatever depth."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"])
        node = list(node.values())
    if isinstance(node, list | tuple):
        for inner in node:
            yield from _targets(inner)
