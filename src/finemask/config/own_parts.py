"""A part of the user's own has the keys that the user gave it, and none of the shipped part that it replaces.

Hydra merges what files say of one section key by key: of a ``backbone`` with another ``_target_``, ``norm`` and the
rest would stay. Which file a key came from is no longer to be seen in the result; so the user's files are read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

_SHIPPED = "finemask."


def own_parts(cfg: DictConfig) -> list[str]:
    """The dotted keys of the model's parts, at whatever depth, whose code is not finemask's."""
    return [
        key.removesuffix("._target_")
        for key, value in _flat(OmegaConf.to_container(cfg, resolve=False), "")
        if key.startswith("model.") and key.endswith("._target_") and not str(value).startswith(_SHIPPED)
    ]


def drop_shipped_keys(
    cfg: DictConfig, parts: Sequence[str], files: Iterable[tuple[Any, str]], overrides: Sequence[Override]
) -> None:
    """Takes the keys of shipped files off the parts that the user chose.

    ``_partial_`` and its like stay: they say how a part of that kind is called.

    Args:
        cfg: as composed; changed in place.
        parts: their dotted keys; see ``own_parts``.
        files: content of the user's own that it was composed of, and the key that each stands under; empty for the top.
        overrides: as typed.
    """
    given: set[str] = set()
    for content, package in files:
        given |= {key for key, _ in _flat(content, package)}
    for override in overrides:
        if not override.is_delete():
            key = override.key_or_group.replace("/", ".")
            given |= {key, *(inner for inner, _ in _flat(override.value(), key))}
    with open_dict(cfg):
        for part in (part for part in parts if f"{part}._target_" in given):
            node = OmegaConf.select(cfg, part)
            for name in [str(name) for name in node]:
                if not name.startswith("_") and f"{part}.{name}" not in given:
                    node.pop(name)


def _flat(content: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every key below a section, dotted, with its value; what stands in lists is not looked at: none is merged."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            key = f"{prefix}.{name}".lstrip(".")
            yield key, value
            yield from _flat(value, key)
