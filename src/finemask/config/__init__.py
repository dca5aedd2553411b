"""Where configurations live, composing them, and saying what is wrong with a command line.

``finemask.config.compose`` and its fellows are imported when asked for: a help page needs ``files`` alone, not Hydra.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finemask.config.composing import compose
    from finemask.config.files import config_dir, search_path
    from finemask.config.nodes import plain
    from finemask.config.overrides import expand_sweeps, nearest

__all__ = ["compose", "config_dir", "expand_sweeps", "nearest", "plain", "search_path"]

_HOMES = {
    "compose": "composing",
    "search_path": "files",
    "config_dir": "files",
    "plain": "nodes",
    "expand_sweeps": "overrides",
    "nearest": "overrides",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(f"finemask.config.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'finemask.config' has no attribute {name!r}")
