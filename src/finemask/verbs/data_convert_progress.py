"""How ``finemask data convert`` shows where it is: a bar a step on a terminal, a line a step anywhere else."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from finemask.datatools.convert.records import Watch

_QUIET_S = 2.0  # steps shorter than this leave no line in a log
_EVERY_S = 30.0


@contextmanager
def watching() -> Iterator[Watch]:
    """A ``Watch`` that shows progress on stderr while the block lasts."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda items, doing: _lines(console, items, doing)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield lambda items, doing: progress.track(items, total=len(items), description=doing)


def _lines(console: Console, items: Sequence[Any], doing: str) -> Iterator[Any]:
    start = said = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - said > (_EVERY_S if said > start else _QUIET_S):
            console.print(f"{doing}: {done:,} of {len(items):,}", markup=False, soft_wrap=True)
            said = now
        yield item
