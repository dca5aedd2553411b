"""A body's modules, split into the five parts that a transfer freezes one by one."""

import itertools
from collections.abc import Sequence

from torch import nn


def split_stages(body: nn.Module, ends: Sequence[str], stem: Sequence[str] = ()) -> list[list[str]]:
    """Stem and four strides as lists of dotted names.

    Args:
        body: whose children stand in the order in which they are run.
        ends: dotted names of the last module of each stride, in order.
        stem: names of the modules of the stem; by default what stands before the module that ends stride 4 and is not
            inside the same container.

    Returns:
        Five lists; every parameter of the body is in one of them.
    """
    units = _units(body, ends)
    cuts = [units.index(end) for end in ends]
    first = units.index(stem[-1]) + 1 if stem else cuts[0]
    edges = [0, first, *(cut + 1 for cut in cuts[:-1]), len(units)]
    return [units[low:high] for low, high in itertools.pairwise(edges)]


def _units(body: nn.Module, ends: Sequence[str]) -> list[str]:
    """The outermost modules that no end is inside of."""
    found: list[str] = []
    todo = [name for name, _ in body.named_children()]
    while todo:
        name = todo.pop(0)
        if name not in ends and any(end.startswith(f"{name}.") for end in ends):
            todo = [f"{name}.{child}" for child, _ in body.get_submodule(name).named_children()] + todo
        else:
            found.append(name)
    return found
