"""The plan for people: what was looked at in three lines, and the decisions as a table."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from rich.box import HEAVY_HEAD
from rich.table import Table

from finemask.ops.terminal import table
from finemask.ops.wording import plural
from finemask.planning.fingerprint import Fingerprint, Machine

_KEYS = 40  # characters of a key and its value


def plan_table(records: Iterable[Mapping[str, Any]], *, with_sources: bool = False) -> Table:
    """Decisions, as ``Decision.as_record`` gives them.

    Args:
        records: one a row.
        with_sources: where each rule comes from, and what the keys would be without it.
    """
    rows, widest = [], 0
    for record in records:
        words = "\n".join(map(str, record["set"])) + ("\n(not changed)" if record["kept"] else "")
        widest = max(widest, *(len(line) for line in words.splitlines()))
        why = str(record["why"])
        if with_sources:
            values = [str(word).partition("=")[2] for word in record["instead"]]
            why += f"\nrule: {record['source']}" + (f"\ninstead of {', '.join(values)}" if values else "")
        rows.append((words, why))
    made = table(
        ("the plan sets", "because"),
        rows,
        words=("the plan sets", "because"),
        overflow="fold",
        title="Plan",
        title_style="bold",
        box=HEAVY_HEAD,
        show_lines=with_sources,
    )
    # A value is not to be cut in two. Not by min_width: rich would narrow both columns, widen this one again, and crop.
    made.columns[0].no_wrap = widest <= _KEYS
    return made


def in_words(data: Fingerprint, machine: Machine) -> list[str]:
    """What the plan rests on, in a few lines."""
    sides = data.image_hw[:, ::-1]
    middle = " × ".join(f"{side:,.0f}" for side in np.median(sides, axis=0)) if data.images else "0"
    grey = data.grey_share
    colour = "" if grey is None else ", grey" if grey == 1 else ", in colour" if grey == 0 else ", some of them grey"
    classes = int((data.objects_per_class > 0).sum())
    lines = [f"{plural(data.images, 'image')} of {middle} px (median{_spread(data)}){colour}"]
    lines.append(
        f"{plural(data.objects, 'object')} of {plural(classes, 'class', 'classes')}, {data.crowded(50)} in the median "
        f"image, {data.fullest} in the fullest"
    )
    if data.objects:
        small, half, large = (data.object_px(percentile) for percentile in (10, 50, 90))
        lines.append(f"their sides: a tenth under {small:.0f} px, half under {half:.0f}, a tenth over {large:.0f}")
    direction = data.direction
    if direction.lean is not None:
        told = "no up and down, they lie in every direction" if direction.is_absent else "an up and down"
        told = told if direction.is_absent or direction.is_present else "an up and down or not, too few to tell"
        lines.append(f"their boxes have {told} (lean {direction.lean:.2f}, depth {direction.depth:.2f})")
    gpu = f"{plural(machine.gpus, 'GPU')} of {machine.gpu_gib:.0f} GiB" if machine.gpus else "no GPU"
    lines.append(f"this machine: {plural(machine.cores, 'core')}, {gpu}")
    return lines


def _spread(data: Fingerprint) -> str:
    short, long = (data.image_hw.min(), data.image_hw.max()) if data.images else (0, 0)
    return "" if len(np.unique(data.image_hw, axis=0)) <= 1 else f", {short:,} to {long:,}"
