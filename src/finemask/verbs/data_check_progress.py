"""How ``finemask data check`` shows where it is: a bar on a terminal, now and then a line anywhere else."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from finemask.datatools.check.problems import Rule

_SECONDS_BETWEEN_LINES = 15.0


class CheckProgress:
    """Shows progress on stderr, and nothing at all when the check is quick."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("checking", total=None)
        self._said = time.monotonic()

    def __enter__(self) -> "CheckProgress":
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def rule(self, rule: Rule) -> None:
        """A rule begins."""
        if self._console.is_terminal:
            self._bar.update(self._task, description=rule.name, completed=0, total=None)

    def advance(self, what: str, done: int, total: int) -> None:
        """A rule that takes long is under way: ``what`` it does, how much is done, of how much."""
        if self._console.is_terminal:
            self._bar.update(self._task, description=what, completed=done, total=total)
        elif time.monotonic() - self._said > _SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            self._console.print(f"{what}: {done:,} of {total:,}", markup=False, soft_wrap=True)
