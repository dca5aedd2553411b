"""From the results of single runs to a table that says what is beyond the spread."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

PLAIN = "plain"
BEGIN, END = "<!-- compare_parts: begin -->", "<!-- compare_parts: end -->"
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Result:
    """One run.

    Args:
        variant: what was trained, or done with what was trained.
        seed: of the run.
        bbox: AP of boxes, 0..1.
        segm: AP of masks, 0..1.
        step_ms: median duration of a training step; None where nothing was trained.
    """

    variant: str
    seed: int
    bbox: float
    segm: float
    step_ms: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    """A number over several seeds, beside that of the plain runs with the same seeds."""

    mean: float
    spread: float | None  # standard deviation; None for one seed
    difference: float | None  # from plain; None for plain itself
    bound: float | None  # how large a difference chance makes, at 95 %; None if it cannot be told

    @property
    def verdict(self) -> str:
        """What the difference is worth, in words."""
        if self.difference is None:
            return ""
        if self.bound is None:
            return "one seed: nothing can be said"
        if abs(self.difference) <= self.bound:
            return "no gain here"
        return "gain beyond the spread" if self.difference > 0 else "loss beyond the spread"


@dataclass(frozen=True, slots=True)
class Row:
    """A variant."""

    variant: str
    seeds: int
    bbox: Measured
    segm: Measured
    step_ms: float | None


def rows_of(results: Sequence[Result], order: Sequence[str]) -> list[Row]:
    """A row a variant that has a seed in common with the plain runs.

    Args:
        results: of all runs.
        order: of the rows.
    """
    by_seed = {name: {r.seed: r for r in results if r.variant == name} for name in order}
    plain, rows = by_seed[PLAIN], []
    for name in order:
        seeds = sorted(by_seed[name].keys() & plain.keys())
        if not seeds:
            continue
        own, others = [by_seed[name][seed] for seed in seeds], [plain[seed] for seed in seeds]
        steps = [r.step_ms for r in own if r.step_ms is not None]
        measured = (
            _measured([getattr(r, kind) for r in own], None if name == PLAIN else [getattr(r, kind) for r in others])
            for kind in ("bbox", "segm")
        )
        rows.append(Row(name, len(seeds), *measured, statistics.median(steps) if steps else None))
    return rows


def _measured(values: Sequence[float], plain: Sequence[float] | None) -> Measured:
    spread = statistics.stdev(values) if len(values) > 1 else None
    if plain is None:
        return Measured(statistics.mean(values), spread, None, None)
    difference = statistics.mean(values) - statistics.mean(plain)
    if spread is None:
        return Measured(statistics.mean(values), None, difference, None)
    count = len(values)
    # Student's t for two groups of equal size, spreads pooled: what two trainings of the same thing may differ by.
    error = math.sqrt((spread**2 + statistics.stdev(plain) ** 2) / count)
    bound = float(stats.t.ppf((1 + _CONFIDENCE) / 2, 2 * count - 2)) * error
    return Measured(statistics.mean(values), spread, difference, bound)


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = [
        "| variant | seeds | mask AP | difference | | box AP | difference | | ms a step |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row.variant, str(row.seeds)]
        for measured in (row.segm, row.bbox):
            cells += [_value(measured), _difference(measured), measured.verdict]
        cells.append("" if row.step_ms is None else f"{row.step_ms:.0f}")
        lines.append(f"|{'|'.join(f' {cell} ' if cell else ' ' for cell in cells)}|")
    return "\n".join(lines) + "\n"


def _value(measured: Measured) -> str:
    return f"{measured.mean:.3f}" + ("" if measured.spread is None else f" ± {measured.spread:.3f}")


def _difference(measured: Measured) -> str:
    if measured.difference is None:
        return ""
    return f"{measured.difference:+.3f}" + ("" if measured.bound is None else f" (chance: {measured.bound:.3f})")


def page(content: Mapping[str, Any], order: Sequence[str]) -> str:
    """The section of docs/results.md, from the file of figures."""
    on, results = content["machine"], [Result(**row) for row in content["results"]]
    words = " ".join(content["words"])
    return f"""## Parts compared

`model=light` with plain heads beside each variant: {content["steps"]} steps, the same data, order and weights for the
same seed, one thread a run. ± is the standard deviation over seeds; a difference counts when it is beyond what two
trainings of the same thing differ by (Student's t, 95 %). These are short trainings on little data: a part that gains
nothing here may gain where it was made for, and the other way round. Variants without a time are options of
`finemask evaluate` on the plain models.

{table(rows_of(results, order))}
```
python scripts/compare_parts.py {words} --steps {content["steps"]} --write
```

{on["processor"]}, {on["cores"]} cores; Python {on["python"]}, torch {on["torch"]}, torchvision {on["torchvision"]}.
"""


def put_section(text: str, section: str) -> str:
    """A page with the section between its markers, at the end if there are none yet."""
    marked = f"{BEGIN}\n{section}{END}\n"
    if BEGIN not in text:
        return f"{text.rstrip()}\n\n{marked}"
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(f"{END}\n")
    if not found:
        raise SystemExit(f"the page has {BEGIN} and no {END} after it")
    return f"{before}{marked}{after}"
