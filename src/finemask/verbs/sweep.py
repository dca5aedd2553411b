"""``finemask sweep``: a search for better settings."""

import shlex
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from finemask.config.composing import Asked
from finemask.errors import INTERRUPTED
from finemask.ops.terminal import say, table
from finemask.workflows.several_runs.search_result import BEST, write_search
from finemask.workflows.several_runs.search_settings import run_search
from finemask.workflows.several_runs.search_space import joined_words, short_words

_SHOWN = 10


def main(cfg: DictConfig, asked: Asked) -> int:
    """Runs the verb: keys as in ``configs/sweep.yaml``.

    Raises:
        FinemaskError: a space or a setting that cannot be, or trials that fail.
    """
    search = run_search(cfg, asked)
    if search is None:
        return INTERRUPTED
    content, paths = write_search(search, str(cfg.name), asked.config_dir)
    console = Console(highlight=False)
    _show(console, content)
    for path in paths:
        say(console, f"wrote {path}")
    if search.folder / BEST in paths:
        best = [] if search.best is None else search.words_of(search.best)
        typed = [word for word in joined_words(search.words, best) if word not in best]  # what is typed would win
        words = ["--config-dir", str(search.folder), *typed, "experiment=best"]
        say(console, "To train with the best settings, type:")
        say(console, f"  {shlex.join(['finemask', 'train', *words])}")
    return 0


def _show(console: Console, content: Mapping[str, Any]) -> None:
    ended = [trial for trial in content["trials"] if trial["score"] is not None and trial["state"] != "running"]
    ended.sort(key=lambda trial: (trial["state"] != "complete", -trial["score"]))
    rows = (
        (
            str(trial["number"]),
            trial["score"],
            "" if trial["state"] == "complete" else trial["state"],
            "settings as they are" if trial["is_default"] else short_words(trial["words"]),
        )
        for trial in ended[:_SHOWN]
    )
    metric = content["metric"].replace("_", " ").replace("segm", "mask").replace("bbox", "box")
    headings = ("trial", metric, "", "settings")
    console.print(table(headings, rows, words=("", "settings"), overflow="fold"))
    if len(ended) > _SHOWN:
        say(console, f"{len(ended) - _SHOWN} more in the page")
    if content["importances"]:
        parts = ", ".join(f"{key} {value:.0%}" for key, value in content["importances"].items())
        say(console, f"What decides: {parts}")
    say(console, content["text"])
