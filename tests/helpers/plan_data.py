"""Fingerprints and configurations for the rules of the plan, made without a dataset."""

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from finemask.config import compose, plain
from finemask.config.composing import given
from finemask.config.given import Given
from finemask.planning.decision import Decision, Settings
from finemask.planning.direction import Direction
from finemask.planning.fingerprint import Fingerprint, Machine

GPU = Machine(cores=8, gpus=1, gpu_gib=16.0)


def fingerprint(
    images: int = 100,
    size_hw: tuple[int, int] = (480, 640),
    boxes_px: Sequence[float] = (100,),
    per_image: Sequence[int] = (1,),
    images_per_class: Sequence[int] | None = None,
    direction: Direction | None = None,
) -> Fingerprint:
    """Square objects of these sides in the upper left corner; ``per_image`` is repeated over the images."""
    of_each = np.resize(np.array(per_image), images)
    sides = np.resize(np.array(boxes_px, dtype=np.float32), int(of_each.sum()))
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=1)
    per_class = np.array([images] if images_per_class is None else images_per_class)
    return Fingerprint(
        image_hw=np.tile(size_hw, (images, 1)),
        objects_per_image=of_each,
        boxes=boxes,
        boxes_hw=np.tile(size_hw, (len(boxes), 1)),
        class_names=tuple(f"class {k}" for k in range(len(per_class))),
        objects_per_class=per_class,
        images_per_class=per_class,
        direction=direction or Direction(),
        grey_share=0.0,
    )


@cache
def _composed(model: str) -> tuple[dict[str, Any], Given]:
    words = ["data.root=DIR", f"model={model}"]
    return plain(compose("train", words)), given("train", words)  # type: ignore[return-value]


def asked(model: str = "light", typed: Mapping[str, Any] | None = None) -> tuple[dict[str, Any], Given]:
    """A configuration in which keys, and options of groups, were typed; a group's own keys stay as they are."""
    values, said = _composed(model)
    values, keys, groups, choices = copy.deepcopy(values), set(said.keys), set(said.groups), dict(said.choices)
    for name, value in (typed or {}).items():
        if name in choices:
            groups.add(name)
            choices[name] = value
            continue
        keys.add(name)
        *sections, last = name.split(".")
        node = values
        for section in sections:
            node = node[section]
        node[last] = value
    return values, Given(frozenset(keys), frozenset(groups), choices)


def decided(
    rule: Any, data: Fingerprint, model: str = "light", *, machine: Machine | None = None, **typed: Any
) -> Decision | None:
    """What a rule decides; typed keys with ``__`` for their dots."""
    values, said = asked(model, {key.replace("__", "."): value for key, value in typed.items()})
    decision: Decision | None = rule(data, Settings(values, said, machine or Machine(cores=2)))
    return decision


def changes(decision: Decision | None) -> dict[str, Any]:
    """What it changes; nothing where nothing is decided, or all is kept."""
    return {} if decision is None or decision.kept else dict(decision.changes)
