"""How ``finemask predict`` shows where it is: a bar on a terminal, one plain line an image anywhere else."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class PredictProgress:
    """Shows progress on stderr.

    Args:
        total: images expected; a video's frame count may be off, so it only guides the bar.
    """

    def __init__(self, total: int) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._done = 0
        self._total = total
        self._bar = Progress(
            TextColumn("predicting"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} images/s"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=total, rate="–")

    def __enter__(self) -> "PredictProgress":
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """Prints a line, above the bar if there is one."""
        self._console.print(line, markup=False, soft_wrap=True)

    def advance(self, line: str) -> None:
        """One image more is done; ``line`` says what came of it, for a log."""
        self._done += 1
        if self._console.is_terminal:
            elapsed = self._bar.tasks[0].elapsed or 0.0
            rate = f"{self._done / elapsed:.1f}" if elapsed else "–"
            self._bar.update(self._task, completed=self._done, rate=rate)
        elif line:
            self.say(f"[{self._done}/{max(self._total, self._done)}] {line}")
