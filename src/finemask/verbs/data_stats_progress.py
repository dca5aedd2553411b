"""How ``finemask data stats`` and ``finemask data preview`` show where they are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINES = 5  # where there is no terminal
_FEW = 500  # images, for which a log needs no lines


@contextmanager
def counting(doing: str, total: int) -> Iterator[Callable[[], object]]:
    """Yields what is to be called after each of ``total`` images: a bar on a terminal, a few lines anywhere else."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        done = 0

        def say() -> None:
            nonlocal done
            done += 1
            if total > _FEW and done * _LINES // total > (done - 1) * _LINES // total:
                console.print(f"{doing}: {done} of {total} images", markup=False, soft_wrap=True)

        yield say
        return
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn("images"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
