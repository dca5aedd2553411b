"""Progress of long work on stderr: a bar on a terminal, a plain line now and then anywhere else."""

import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from rich import progress as bars
from rich.console import Console
from rich.text import Text

_LINE_EVERY_S = 15.0  # where there is no terminal; what is done sooner leaves no line
_DRAW_EVERY_S = 0.1  # where there is one; a million annotations are not to wait for their bar


class Progress:
    """Shows how much is done, while the block of its ``with`` lasts.

    Args:
        doing: what, such as ``"cutting"``.
        total: how many there are; None while nobody knows. It only guides the bar and may be off.
        unit: what is counted, such as ``"images"``: the speed is shown in it. Without one, no speed is.
    """

    def __init__(self, doing: str, total: int | None = None, unit: str = "") -> None:
        self._doing, self._done, self._total, self._unit = doing, 0, total, unit
        self._start = self._said = self._drawn = time.monotonic()
        self._console = Console(stderr=True, highlight=False)
        self._bar = bars.Progress(
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            _Speed(unit),
            bars.TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task(doing, total=total)

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:  # elsewhere it would leave an empty line
            self._bar.stop()

    def advance(self, count: int = 1, line: str = "") -> None:
        """So many more are done.

        Args:
            count: how many.
            line: what came of them; a log shows it, for every call that brings one.
        """
        self._count(self._done + count)
        if line and not self._console.is_terminal:
            self.say(f"[{self._done}/{max(self._total or 0, self._done)}] {line}")

    def update(self, done: int, total: int | None, doing: str | None = None) -> None:
        """So many of so many are done; where ``doing`` is another than before, another step has begun."""
        self._total = total
        if doing is not None and doing != self._doing:
            self._doing, self._start = doing, time.monotonic()
            self._bar.remove_task(self._task)  # rather than reset: that would keep the total of the old one
            self._task = self._bar.add_task(doing, total=total)
        self._count(done)

    def track(self, items: Sequence[Any], doing: str) -> Iterator[Any]:
        """The same items, each counted when the next is asked for."""
        for done, item in enumerate(items):
            self.update(done, len(items), doing)
            yield item
        self.update(len(items), len(items), doing)

    def say(self, line: str) -> None:
        """Prints a line, above the bar if there is one."""
        self._said = time.monotonic()
        self._console.print(line, markup=False, soft_wrap=True)

    def _count(self, done: int) -> None:
        self._done, now = done, time.monotonic()
        if self._console.is_terminal:
            if now - self._drawn > _DRAW_EVERY_S or done == self._total:
                self._drawn = now
                self._bar.update(self._task, completed=done, total=self._total)
        elif now - self._said > _LINE_EVERY_S:
            self.say(f"{self._doing}: {done:,}{self._rest()}")

    def _rest(self) -> str:
        """How many there are, and when they will be done."""
        unit = f" {self._unit}" if self._unit else ""
        if self._total is None or not 0 < self._done <= self._total:
            return unit
        left = (time.monotonic() - self._start) * (self._total / self._done - 1)
        return f" of {self._total:,}{unit}, {left:,.0f} s left"


class _Speed(bars.ProgressColumn):
    """``12.3 images/s``."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: bars.Task) -> Text:
        if not (self._unit and task.completed and task.elapsed):
            return Text()
        return Text(f"{task.completed / task.elapsed:.1f} {self._unit}/s")
