"""Where configurations live, composing them, and saying what is wrong with a command line.

``compose`` and what goes with it are imported when asked for: a help page needs ``config_files`` alone, not Hydra.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from finemask.config.config_files import config_dir, search_path

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from finemask.config.composing import compose, verb_options
    from finemask.config.overrides import arguments, expand_sweeps

__all__ = ["arguments", "compose", "config_dir", "expand_sweeps", "leaves", "plain", "search_path", "verb_options"]


def plain(node: "DictConfig") -> dict[str, Any]:
    """A node of a composed configuration and all below it as Python's own values, with all references filled in.

    Raises:
        OmegaConfBaseException: a value refers to one that is not there; ``compose`` lets no such one through.
    """
    from omegaconf import OmegaConf

    return cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values at the ends of nested mappings, by dotted key; an empty mapping is such an end, too."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def __getattr__(name: str) -> Any:
    from importlib import import_module

    homes = {
        "arguments": "overrides",
        "compose": "composing",
        "expand_sweeps": "overrides",
        "verb_options": "composing",
    }
    if home := homes.get(name):
        return getattr(import_module(f"finemask.config.{home}"), name)
    raise AttributeError(f"module 'finemask.config' has no attribute {name!r}")
