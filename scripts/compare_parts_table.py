"""From the results of single runs to a table that says what is beyond the spread."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

PLAIN = "plain"
_KINDS = ("bbox", "segm", "recall")
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Result:
    """One run.

    Args:
        variant: what was trained, or done with what was trained.
        seed: of the run.
        bbox: AP of boxes, 0..1.
        segm: AP of masks, 0..1.
        recall: AR of boxes, 0..1, with as many detections as the evaluation counts.
        step_ms: median duration of a training step; None where nothing was trained.
    """

    variant: str
    seed: int
    bbox: float
    segm: float
    recall: float
    step_ms: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    """A number over several seeds, beside that of the plain runs with the same seeds."""

    mean: float
    spread: float | None  # standard deviation; None for one seed
    difference: float | None  # from plain, mean over seeds; None for plain itself
    bound: float | None  # how large a difference chance makes, at 95 %; None if it cannot be told

    @property
    def verdict(self) -> str:
        """What the difference is worth, in words."""
        if self.difference is None:
            return ""
        if self.bound is None:
            return "one seed: nothing can be said"
        if abs(self.difference) <= self.bound:
            return "within the spread"
        return "**gain**" if self.difference > 0 else "loss"


@dataclass(frozen=True, slots=True)
class Row:
    """A variant."""

    variant: str
    seeds: int
    bbox: Measured
    segm: Measured
    recall: Measured
    step_ms: float | None  # of the run that was disturbed least


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
            for kind in _KINDS
        )
        rows.append(Row(name, len(seeds), *measured, min(steps, default=None)))
    return rows


def _measured(values: Sequence[float], plain: Sequence[float] | None) -> Measured:
    spread = statistics.stdev(values) if len(values) > 1 else None
    if plain is None:
        return Measured(statistics.mean(values), spread, None, None)
    differences = [mine - its for mine, its in zip(values, plain, strict=True)]
    difference = statistics.mean(differences)
    if spread is None:
        return Measured(statistics.mean(values), None, difference, None)
    # Student's t of the differences: a seed decides order and augmentation alike for both, and some are lucky for all.
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    bound = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(differences) - 1)) * error
    return Measured(statistics.mean(values), spread, difference, bound)


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = [
        "| variant | seeds | mask AP | difference | | box AP | difference | | box AR | difference | | ms a step |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row.variant, str(row.seeds)]
        for measured in (row.segm, row.bbox, row.recall):
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


def shown_words(words: Sequence[str]) -> list[str]:
    """A command line without the folders of one machine: of an absolute path the last part."""
    parts = [(key, value) for key, _, value in (word.partition("=") for word in words)]
    return [f"{key}={Path(value).name if Path(value).is_absolute() else value}" for key, value in parts]


def page(content: Mapping[str, Any], order: Sequence[str], name: str) -> str:
    """The section of docs/results.md, from the file of figures.

    Args:
        content: of the file.
        order: of the rows.
        name: of the dataset, for the heading.
    """
    on, results = content["machine"], [Result(**row) for row in content["results"]]
    rows, words = rows_of(results, order), " ".join(content["words"])
    counted = sum(measured.bound is not None for row in rows for measured in (row.segm, row.bbox, row.recall))
    return f"""## Parts compared: {name}

`model=light` with plain heads beside each variant: {content["steps"]} steps, the same data, order and weights for the
same seed, one thread a run. ± is the standard deviation over seeds. The difference is taken seed by seed, and counts
when it is beyond what those differences scatter by (Student's t, 95 %: of {counted} comparisons {counted / 20:.0f} or
so are beyond it by chance). These are short trainings on little data: a part that gains nothing here may gain where it
was made for, and the other way round. Times are those of the quickest run. Variants without one are options of
`finemask evaluate` on the plain models.

{table(rows)}
```
python scripts/compare_parts.py {words} --steps {content["steps"]} --write
```

{on["processor"]}, {on["cores"]} cores; Python {on["python"]}, torch {on["torch"]}, torchvision {on["torchvision"]}.
"""


def put_section(text: str, section: str, name: str) -> str:
    """A page with the section between the markers of its name, at the end if there are none yet."""
    begin, end = markers(name)
    marked = f"{begin}\n{section}{end}\n"
    if begin not in text:
        return f"{text.rstrip()}\n\n{marked}"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(f"{end}\n")
    if not found:
        raise SystemExit(f"the page has {begin} and no {end} after it")
    return f"{before}{marked}{after}"


def markers(name: str) -> tuple[str, str]:
    """Comments before and after the section of a comparison."""
    return f"<!-- compare_parts {name}: begin -->", f"<!-- compare_parts {name}: end -->"
