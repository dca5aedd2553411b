"""Interleaved timing of two ways to do the same work, and how the outcome is shown and kept."""

import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from finemask.machine.hardware import cores, package_versions, processor_name
from finemask.ops.files.atomic_files import write_json
from finemask.ops.terminal import table


@dataclass(frozen=True, slots=True)
class Timing:
    """How long each contender took, round by round.

    Args:
        seconds: name of the contender to one duration a round.
    """

    seconds: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        """Median duration of a contender in seconds."""
        return statistics.median(self.seconds[name])

    def ratio(self, baseline: str, name: str) -> float:
        """How many times faster than the baseline: the median of the ratios within a round.

        Within a round the machine was in about the same state for both; between rounds it may not have been.
        """
        pairs = zip(self.seconds[baseline], self.seconds[name], strict=True)
        return statistics.median(slow / quick for slow, quick in pairs)


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Times every contender once a round, in turn, the order reversed from round to round.

    Garbage is collected before each call and not during it, so that nobody pays for another's rubbish.

    Args:
        contenders: name to the work; what it returns is dropped.
        rounds: timed rounds, at least 1.
        warmup: rounds before them that are not timed.
        clock: seconds; ``time.process_time`` counts what the processor did for this process, all threads together,
            whatever else the machine is busy with.

    Raises:
        ValueError: no contender, or no round.
    """
    if not contenders or rounds < 1:
        raise ValueError("there must be a contender and a round")
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(warmup + rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            taken = _timed(contenders[name], clock)
            if number >= warmup:
                seconds[name].append(taken)
    return Timing(seconds)


def _timed(work: Callable[[], object], clock: Callable[[], float]) -> float:
    gc.collect()
    gc.disable()
    try:
        start = clock()
        work()
        return clock() - start
    finally:
        gc.enable()


@dataclass(frozen=True, slots=True)
class Comparison:
    """One piece of work, done both ways.

    Args:
        work: what was done, with its sizes.
        baseline: whose way it was compared with.
        baseline_s: median duration of the customary way, seconds.
        finemask_s: median duration of ours, seconds.
        ratio: how many times faster ours is: the median over rounds, or over pairs of measurements.
        goal: the ratio it should have at least; 0: none, the figure is for information.
        agreement: how far the outcomes differ, in words and numbers.
        memory: peak memory of both, where it was measured.
    """

    work: str
    baseline: str
    baseline_s: float
    finemask_s: float
    ratio: float
    goal: float
    agreement: str
    memory: str = ""

    @classmethod
    def of_timing(
        cls, timing: Timing, work: str, goal: float, agreement: str, baseline: str = "torchvision"
    ) -> "Comparison":
        """What two contenders took, named ``"theirs"`` and ``"finemask"``."""
        return cls(
            work=work,
            baseline=baseline,
            baseline_s=timing.median("theirs"),
            finemask_s=timing.median("finemask"),
            ratio=timing.ratio("theirs", "finemask"),
            goal=goal,
            agreement=agreement,
        )

    @property
    def goal_told(self) -> str:
        """The goal as tables have it; nothing where there is none."""
        return f"{self.goal:g}" if self.goal else ""


def show(comparisons: Iterable[Comparison], console: Console | None = None) -> None:
    """Prints a table."""
    rows = []
    for row in comparisons:
        figures = (seconds(row.baseline_s), seconds(row.finemask_s), f"{row.ratio:.2f}", row.goal_told)
        rows.append((row.work, row.baseline, *figures, "; ".join(filter(None, (row.agreement, row.memory)))))
    headings = ("work", "against", "theirs", "ours", "× faster", "goal", "agreement")
    (console or Console(width=160)).print(table(headings, rows, words=("work", "against", "agreement")))


def write(path: Path, comparisons: Sequence[Comparison], details: Mapping[str, Any] | None = None) -> None:
    """Writes comparisons, with the machine they were made on, as JSON.

    Args:
        path: file to write.
        comparisons: the rows.
        details: what else was measured, for whoever looks into the file.
    """
    content: dict[str, Any] = {"machine": machine(), "comparisons": [asdict(row) for row in comparisons]}
    if details is not None:
        content["details"] = dict(details)
    write_json(path, content)


def read(path: Path) -> tuple[dict[str, Any], list[Comparison]]:
    """Reads what ``write`` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["machine"], [Comparison(**row) for row in content["comparisons"]]


def machine() -> dict[str, Any]:
    """What the figures were measured with."""
    return {
        "processor": processor_name(),
        "cores": cores(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **package_versions(),
    }


def seconds(value: float) -> str:
    """A duration as ``1.25 s`` or ``12.3 ms``."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"
