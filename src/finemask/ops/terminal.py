"""What is printed on a terminal: tables, lines as they are, and one bar for all long work."""

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

from rich import box
from rich import progress as bars
from rich.console import Console, OverflowMethod, RenderableType
from rich.constrain import Constrain
from rich.table import Table
from rich.text import Text

from finemask.ops.wording import fraction

_LINE_EVERY_S = 10.0  # where there is no terminal; what is done sooner leaves no line
_DRAW_EVERY_S = 0.2  # where there is one: a million annotations, or a loss on a device, are not to wait for their bar


def table(
    headings: Sequence[str],
    rows: Iterable[Iterable[Any]],
    *,
    words: Collection[str] | None = None,
    overflow: OverflowMethod = "ellipsis",
    **style: Any,
) -> Table:
    """A table of words, which stand on the left, and of numbers, which stand on the right.

    Args:
        headings: of the columns; they and text in cells stand as they are, brackets are no markup.
        rows: cells of each: a whole number is shown as ``1,489``, another as ``0.412``, ``None`` as a dash; ``rich``'s
            own ``Text`` keeps its style.
        words: headings of the columns of words; by default that of the first.
        overflow: of a word wider than its column: ``"ellipsis"`` cuts it short, ``"fold"`` goes on in the next line.
        style: as ``rich.table.Table`` takes it: ``title``, ``box``.
    """
    made = Table(**{"box": box.SIMPLE_HEAD, "title_justify": "left", **style})
    for heading in headings:
        if heading in (headings[:1] if words is None else words):
            made.add_column(Text(heading), overflow=overflow)
        else:
            made.add_column(Text(heading), justify="right")
    for row in rows:
        made.add_row(*map(_cell, row))
    return made


def facts_table(facts: Iterable[tuple[str, str]]) -> Table:
    """Names in bold, and what there is to say of each, without lines and headings."""
    made = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in facts:
        made.add_row(Text(name), Text(value))
    return made


def say(console: Console, line: str, style: str = "") -> None:
    """Prints a line as it is: however wide, in one colour, brackets are no markup."""
    console.print(Text(line, style), soft_wrap=True)


def _cell(value: Any) -> Text:
    if isinstance(value, Text):
        return value
    if value is None or isinstance(value, float):
        return Text(fraction(value))
    return Text(value if isinstance(value, str) else f"{value:,}")


class TerminalBar(bars.Progress):
    """One line that goes away: words, then columns such as a bar.

    Args:
        *columns: behind the words.
        console: that draws it, and prints lines above it.
        expand: to the width of the terminal.
    """

    def __init__(self, *columns: bars.ProgressColumn, console: Console, expand: bool = False) -> None:
        self._terminal, self._drawn = console, time.monotonic()
        words = bars.TextColumn("{task.description}", markup=False)
        super().__init__(words, *columns, console=console, transient=True, expand=expand)

    def get_renderables(self) -> Iterator[RenderableType]:
        """The line, with room for the ``^C`` that a terminal writes behind it: a second row would stay."""
        yield Constrain(self.make_tasks_table(self.tasks), max(1, self._terminal.width - 3))

    def is_due(self) -> bool:
        """Whether the line is old enough for another."""
        return time.monotonic() - self._drawn > _DRAW_EVERY_S

    def draw(self, done: int, total: float | None, **changes: Any) -> None:
        """So many of so many are done; ``changes`` of the words (``description``) and of the columns' fields."""
        self._drawn = time.monotonic()
        self.update(self.task_ids[0], completed=done, total=total, **changes)


class Progress:
    """Shows how much is done, while the block of its ``with`` lasts.

    Args:
        doing: what, such as ``"cutting"``.
        total: how many there are; None while nobody knows. It only guides the bar and may be off.
        unit: what is counted, such as ``"images"``: the speed is shown in it. Without one, no speed is.
    """

    def __init__(self, doing: str, total: int | None = None, unit: str = "") -> None:
        self._doing, self._done, self._total, self._unit = doing, 0, total, unit
        self._start = self._said = time.monotonic()
        self._console = Console(stderr=True, highlight=False)
        columns = bars.BarColumn(), bars.MofNCompleteColumn(), _Speed(unit), bars.TimeRemainingColumn()
        self._bar = TerminalBar(*columns, console=self._console)
        self._bar.add_task(doing, total=total)

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
            self._bar.remove_task(self._bar.task_ids[0])  # rather than reset: that would keep the total of the old one
            self._bar.add_task(doing, total=total)
        self._count(done)

    def track(self, items: Sequence[Any], doing: str) -> Iterator[Any]:
        """The same items, each counted when the next is asked for."""
        for done, item in enumerate(items):
            self.update(done, len(items), doing)
            yield item
        self.update(len(items), len(items), doing)

    def within(self, part: str) -> None:
        """Something is done of the one that is next, such as ``tile 3 of 20``: shown, not counted."""
        if self._console.is_terminal:
            if self._bar.is_due():
                self._bar.draw(self._done, self._total, description=f"{self._doing}, {part}")
        elif time.monotonic() - self._said > _LINE_EVERY_S:
            self.say(f"{self._doing}: {self._done:,}{self._rest()}; {part}")

    def say(self, line: str) -> None:
        """Prints a line, above the bar if there is one."""
        self._said = time.monotonic()
        say(self._console, line)

    def _count(self, done: int) -> None:
        self._done = done
        if self._console.is_terminal:
            if done == self._total or self._bar.is_due():
                self._bar.draw(done, self._total, description=self._doing)
        elif time.monotonic() - self._said > _LINE_EVERY_S:
            self.say(f"{self._doing}: {done:,}{self._rest()}")

    def _rest(self) -> str:
        """How many there are, and when they will be done."""
        unit = f" {self._unit}" if self._unit else ""
        if self._total is None or not 0 < self._done <= self._total:
            return unit
        taken = time.monotonic() - self._start
        pace = f", {self._done / taken:,.1f}{unit}/s" if unit and taken > 0 else ""
        return f" of {self._total:,}{unit}{pace}, {taken * (self._total / self._done - 1):,.0f} s left"


class _Speed(bars.ProgressColumn):
    """``12.3 images/s``."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: bars.Task) -> Text:
        if not (self._unit and task.completed and task.elapsed):
            return Text()
        return Text(f"{task.completed / task.elapsed:.1f} {self._unit}/s")
