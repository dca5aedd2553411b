"""A part of a composed configuration as Python's own values."""

from typing import Any, cast

from omegaconf import DictConfig, OmegaConf


def plain(node: DictConfig) -> dict[str, Any]:
    """A node and all below it as dicts, lists and plain values, with all references filled in.

    Raises:
        OmegaConfBaseException: a value refers to one that is not there; ``compose`` lets no such one through.
    """
    return cast(dict[str, Any], OmegaConf.to_container(node, resolve=True))
