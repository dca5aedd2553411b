"""Errors in the evaluation report: what each kind costs, which sizes are missed, which classes are confused."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from finemask.evaluation.ground_truth import GroundTruth
from finemask.ops.wording import plural
from finemask.pages.axes import Axis, Frame, nice_limit
from finemask.pages.charts import Bar, Column, Figure, bar_chart, column_chart
from finemask.pages.heat_maps import matrix
from finemask.reports.verdicts import Verdicts

_KINDS = {
    "classification": "The place is right, the class is not.",
    "localisation": "The class is right, the outline fits badly.",
    "both": "Wrong class, and the outline fits badly.",
    "duplicate": "A second detection of an object that is found already.",
    "background": "There is nothing labelled.",
    "missed": "An object that no detection comes near.",
}
MOST_CLASSES = 80  # in the matrix
_PAIRS = 12  # of classes that are confused, in the list
# px, of the square root of the area; 32 and 96 are COCO's limits of small, medium and large
_EDGES = (0, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)


class ErrorKind(NamedTuple):
    """A row of the table of errors.

    Args:
        name: kind of error.
        words: what it is.
        times: how often; None where that is not known.
        gain: AP50 that would be won if all of these were corrected.
    """

    name: str
    words: str
    times: int | None
    gain: float | None


class Breakdown(NamedTuple):
    """The errors of one evaluation.

    Args:
        figure: bars of what each kind costs.
        kinds: the greatest gain first.
        ap50: where it starts from.
        iou: from which overlap a detection is right.
        background_iou: up to which overlap there is nothing where it lies.
    """

    figure: Figure
    kinds: list[ErrorKind]
    ap50: float | None
    iou: float
    background_iou: float


def error_breakdown(metrics: Mapping[str, Any], iou_type: str) -> Breakdown | None:
    """The breakdown of masks or boxes; None if the evaluation has none."""
    errors = metrics.get("errors") or {}
    table = errors.get(iou_type)
    if not table or not table.get("types"):
        return None
    kinds = [
        ErrorKind(name, _KINDS.get(name, ""), row.get("count"), row.get("gain")) for name, row in table["types"].items()
    ]
    kinds += [
        ErrorKind("all false", "Every detection that is wrong, left out.", None, table.get("false_positive")),
        ErrorKind("all missed", "Every object that is not found, left out.", None, table.get("false_negative")),
    ]
    bars = [
        Bar(kind.name, kind.gain or 0.0, "–" if kind.gain is None else f"+{kind.gain:.3f}", css)
        for kind, css in ((kind, "rest" if kind.name.startswith("all ") else "bad") for kind in kinds)
    ]
    figure = Figure(
        "What each kind of error costs",
        bar_chart(bars, name="AP50 lost to each kind of error", x_label="AP50 that correcting these would win"),
        "Each bar is the AP50 that would be won if errors of this kind alone were corrected. The two grey ones "
        "overlap with the others, so the bars do not add up.",
    )
    return Breakdown(figure, kinds, table.get("AP50"), errors.get("iou", 0.5), errors.get("background_iou", 0.1))


def size_figure(ground_truth: GroundTruth, verdicts: Verdicts) -> Figure | None:
    """How many objects of each size are found and missed; None without objects."""
    return _size_figure(
        [(a["area"] ** 0.5, n in verdicts.found_by) for n, a in enumerate(ground_truth.annotations) if not a["iscrowd"]]
    )


def _size_figure(objects: Sequence[tuple[float, bool]]) -> Figure | None:
    """Of sizes in px and whether the object is found."""
    if not objects:
        return None
    edges = [*_EDGES, np.inf]
    sizes, is_found = np.array(objects, dtype=np.float64).T
    bins = np.searchsorted(edges[1:], sizes, side="right")
    first, last = int(bins.min()), int(bins.max())
    of_all, of_found = (np.bincount(bins - first, of, last - first + 1).astype(int) for of in (None, is_found))
    columns = []
    for place, (all_, found) in enumerate(zip(of_all.tolist(), of_found.tolist(), strict=True)):
        low, high = edges[first + place : first + place + 2]
        span = f"from {low:,.0f} px" if high == np.inf else f"of {low:,.0f} to {high:,.0f} px"
        columns.append(
            Column(
                place,
                place + 1,
                [(found, "found"), (all_ - found, "missed")],
                f"{100 * found / all_:.0f} %" if all_ else "",
                f"objects {span}: {found:,} found, {all_ - found:,} missed",
            )
        )
    marks = [(place, f"{edge:,.0f}") for place, edge in enumerate(edges[first : last + 2]) if edge < np.inf]
    frame = Frame(
        "Objects by size, found and missed",
        Axis("size of the object: square root of its area, px", 0, len(columns), places=marks),
        Axis("objects", 0, nice_limit(1.08 * int(of_all.max())), whole=True),
    )
    return Figure(
        "Objects by size",
        column_chart(columns, frame),
        "At the threshold in use. Over the columns: the part that is found.",
        [("found", "found"), ("missed", "missed")],
    )


class ConfusedPair(NamedTuple):
    """Objects of one class that were reported as another."""

    labelled: str
    predicted: str
    objects: int
    share: float  # of the labelled class, 0..1


class Confusion(NamedTuple):
    """The matrix.

    Args:
        svg: its picture.
        pairs: the commonest confusions, most frequent first.
        shown: classes in the picture.
        classes: classes there are.
        iou: from which overlap an object and a detection belong together.
        threshold: score from which detections count.
    """

    svg: Markup
    pairs: list[ConfusedPair]
    shown: int
    classes: int
    iou: float
    threshold: float | None


def confusion(metrics: Mapping[str, Any]) -> Confusion | None:
    """The matrix of an evaluation; None if it has none, or nothing to put in it."""
    table = metrics.get("confusion")
    if not table:
        return None
    names, counts = list(table["names"]), np.asarray(table["counts"], dtype=np.int64)
    if not counts.sum():
        return None
    kept = _kept(counts)
    everything = [*kept, len(names) - 1]
    svg = _drawn(
        counts[np.ix_(everything, everything)], [names[number] for number in kept], counts.sum(axis=1)[everything]
    )
    return Confusion(svg, _pairs(counts, names), len(kept), len(names) - 1, table["iou"], table["threshold"])


def _kept(counts: NDArray[np.int64]) -> list[int]:
    """Positions of the classes to show: those that occur; of too many, those with the most errors."""
    off = counts - np.diag(np.diag(counts))
    occurs = (counts.sum(axis=0) + counts.sum(axis=1))[:-1] > 0
    errors = (off.sum(axis=0) + off.sum(axis=1))[:-1]
    present = np.flatnonzero(occurs)
    if len(present) > MOST_CLASSES:
        present = np.sort(present[np.argsort(-errors[present], kind="stable")[:MOST_CLASSES]])
    return [int(number) for number in present]


def _pairs(counts: NDArray[np.int64], names: list[str]) -> list[ConfusedPair]:
    inner = counts[:-1, :-1] - np.diag(np.diag(counts[:-1, :-1]))
    totals = counts.sum(axis=1)
    order = np.argsort(-inner, axis=None, kind="stable")[:_PAIRS]
    rows, columns = np.unravel_index(order, inner.shape)
    return [
        ConfusedPair(names[row], names[column], int(inner[row, column]), float(inner[row, column] / totals[row]))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if inner[row, column]
    ]


def _drawn(counts: NDArray[np.int64], names: list[str], totals: NDArray[np.int64]) -> Markup:
    last, shares = len(names), counts / np.maximum(totals, 1)[:, None]

    def title(row: int, column: int) -> str:
        number, share = int(counts[row, column]), 100 * shares[row, column]
        if row == last:
            what = f"{plural(number, 'detection')} of {names[column]} where nothing is labelled"
        elif column == last:
            what = f"{plural(number, 'object')} of {names[row]} missed"
        else:
            what = f"{plural(number, 'object')} of {names[row]} reported as {names[column]}"
        return f"{what} ({share:.1f} % of the row)"

    return matrix(
        counts,
        shares,
        ([*names, "nothing labelled"], [*names, "missed"]),
        ("labelled", "predicted"),
        name="Confusion matrix: labelled classes in rows, predicted ones in columns",
        title=title,
    )
