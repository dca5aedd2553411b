"""``finemask data suspects``: labels that a model's detections contradict, ranked."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.text import Text

from finemask.config import plain
from finemask.datatools.suspects.label_faults import RULES
from finemask.ops.terminal import say, table
from finemask.workflows.data.find_suspects import write_suspects

_SHOWN = 20


def main(cfg: DictConfig) -> int:
    """Runs the verb: keys as in ``configs/data_suspects.yaml``.

    Raises:
        ConfigError: keys that contradict one another, or a value out of range.
        DataError: a file that cannot be used, or one that would be overwritten.
    """
    found = write_suspects(plain(cfg))
    _show(Console(highlight=False), found.content["suspects"], found.notes)
    for name in found.unread:
        print(f"{name} could not be read; its entries have no picture")
    print(f"wrote {found.list_path} and {found.page_path}")
    if found.command is not None:
        print(f"To apply what you accepted: {found.command}")
    return 0


def _cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """A row that is one line on most terminals; the whole sentence is in the files."""
    ids, detection = ", ".join(map(str, entry["annotation_ids"])) or "–", entry["detection"]
    seen, iou = f"{detection['category']} {detection['score']:.2f}", detection["iou"]
    overlap = "" if iou is None else f"{iou:.2f}"
    return str(entry["id"]), f"{entry['score']:.2f}", entry["rule"], entry["file_name"], ids, seen, overlap


def _show(console: Console, entries: Sequence[Mapping[str, Any]], lines: Sequence[str]) -> None:
    for line in lines:
        say(console, line)
    counts = Counter(entry["rule"] for entry in entries)
    if not entries:
        console.print("None of the labels is contradicted.")
        return
    say(console, ", ".join(f"{counts[rule]:,} {rule}" for rule in RULES if counts[rule]))
    rows: list[Sequence[str | Text]] = [_cells(entry) for entry in entries[:_SHOWN]]
    if len(entries) > _SHOWN:
        rows.append(("", "", Text(f"and {len(entries) - _SHOWN:,} more", style="dim"), *[""] * 4))
    words = ("rule", "image", "label id", "model sees", "IoU")
    console.print(
        table(("", "score", *words), rows, words=words, overflow="fold", collapse_padding=True, pad_edge=False)
    )
