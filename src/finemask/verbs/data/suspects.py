"""``finemask data suspects``: labels that a model's detections contradict, ranked."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from finemask.coco.index import CocoIndex
from finemask.config import plain
from finemask.datatools.suspects.label_faults import RULES, Suspect, find_suspects
from finemask.datatools.suspects.matched_labels import Scene, build_scenes
from finemask.datatools.suspects.suspects_list import listing, refuse_to_lose
from finemask.errors import ConfigError, DataError
from finemask.ops.files import write_json, write_text
from finemask.ops.wording import count, plural, word
from finemask.pages.shell import refuse_foreign_page
from finemask.reports.suspects_page import EYEBROW, draw_suspects, suspects_page
from finemask.workflows.find_suspects import model_source, results_source
from finemask.workflows.progress import Progress

LIST, PAGE = "suspects.json", "index.html"
_SHOWN = 20
_DOUBTFUL_RECALL = 0.7  # of a model that misses more, the list says more about the model than about the labels


def main(cfg: DictConfig) -> int:
    """Runs the verb.

    Args:
        cfg: keys as in ``configs/data_suspects.yaml``.

    Returns:
        0.

    Raises:
        ConfigError: keys that contradict one another, or a value out of range.
        DataError: a file that cannot be used, or one that would be overwritten.
    """
    options = plain(cfg)
    output = Path(options["output"])
    _check_keys(options)
    refuse_foreign_page(output / PAGE, EYEBROW)
    refuse_to_lose(output / LIST)
    source = model_source(options) if options["model"] is not None else results_source(options)
    with Progress("comparing", len(source.index), "images") as progress:
        scenes = []
        for scene in build_scenes(source.index, source.results):
            scenes.append(scene)
            progress.advance()
    found = find_suspects(scenes, options["min_score"])
    suspects = found[: options["max_suspects"]]
    left_out, agreement = len(found) - len(suspects), _agreement(scenes)
    notes = [*source.notes, *_lines(agreement, left_out, several=isinstance(source.facts.get("model"), list))]
    content = listing(suspects, source.index, {**source.facts, "agreement": agreement, "left_out": left_out})
    pairs, unread = _pictures(source.index, suspects)
    annotations = source.index.annotations_path
    write_json(output / LIST, content)
    title = f"{annotations.name}: suspects"
    write_text(output / PAGE, suspects_page(content, pairs, title, notes, source.footer))
    _show(Console(highlight=False), content["suspects"], notes)
    for name in unread:
        print(f"{name} could not be read; its entries have no picture")
    print(f"wrote {output / LIST} and {output / PAGE}")
    if suspects:
        fixed = annotations.with_name(f"{annotations.stem}_fixed.json")
        words = [f"annotations={annotations}", f"suspects={output / LIST}", f"fix={fixed}"]
        print(f"To apply what you accepted: finemask data check {shlex.join(words)}")
    return 0


def _check_keys(options: Mapping[str, Any]) -> None:
    if (options["model"] is None) == (options["predictions"] is None):
        raise ConfigError(
            "give either model= or predictions=" + ("" if options["model"] is None else ", not both at once"),
            remedy="finemask data suspects --help shows an example of each.",
        )


def _agreement(scenes: Sequence[Scene]) -> dict[str, Any]:
    """How far model and labels agree at all, at IoU 0.25: a mask drawn badly is found nevertheless."""
    labels = sum(len(scene.label_ids) for scene in scenes)
    found = sum(int((scene.matches >= 0).sum()) for scene in scenes)
    return {"labels": labels, "found": found, "recall": found / labels if labels else None}


def _lines(agreement: Mapping[str, Any], left_out: int, several: bool) -> list[str]:
    labels, found, recall = (agreement[key] for key in ("labels", "found", "recall"))
    who = "The models find" if several else "The model finds"
    lines = [
        f"{who} {count(found)} of the {plural(labels, 'label')}, with the class {word(labels, 'it has', 'they have')}."
    ]
    if recall is not None and recall < _DOUBTFUL_RECALL:
        lines.append(
            "That is little: many labels are contradicted because they were not learned. Take the list for what it is, "
            "or train longer first."
        )
    if left_out:
        lines.append(
            f"{plural(left_out, 'less sure suspect is', 'less sure suspects are')} left out: raise max_suspects to see "
            "more."
        )
    return lines


def _pictures(index: CocoIndex, suspects: Sequence[Suspect]) -> tuple[list[list[tuple[str, str]] | None], list[str]]:
    """Pictures of each suspect, and the names of images that could not be read."""
    by_image: dict[int, list[int]] = {}
    for k, suspect in enumerate(suspects):
        by_image.setdefault(suspect.scene.image, []).append(k)
    pairs: list[list[tuple[str, str]] | None] = [None] * len(suspects)
    unread = []
    with Progress("drawing", len(by_image), "images") as progress:
        for image, numbers in by_image.items():
            try:
                drawn = draw_suspects(index, [suspects[k] for k in numbers])
            except DataError:
                unread.append(index.columns.file_names[image])
            else:
                for k, pair in zip(numbers, drawn, strict=True):
                    pairs[k] = pair
            progress.advance()
    return pairs, unread


def _cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """A row that is one line on most terminals; the whole sentence is in the files."""
    ids, detection = ", ".join(map(str, entry["annotation_ids"])) or "–", entry["detection"]
    seen, iou = f"{detection['category']} {detection['score']:.2f}", detection["iou"]
    overlap = "" if iou is None else f"{iou:.2f}"
    return str(entry["id"]), f"{entry['score']:.2f}", entry["rule"], entry["file_name"], ids, seen, overlap


def _show(console: Console, entries: Sequence[Mapping[str, Any]], lines: Sequence[str]) -> None:
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    counts = Counter(entry["rule"] for entry in entries)
    if not entries:
        console.print("None of the labels is contradicted.")
        return
    console.print(Text(", ".join(f"{count(counts[rule])} {rule}" for rule in RULES if counts[rule])), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for heading in ("", "score", "rule", "image", "label id", "model sees", "IoU"):
        table.add_column(heading, justify="right" if heading in ("", "score") else "left", overflow="fold")
    for entry in entries[:_SHOWN]:
        table.add_row(*(Text(cell) for cell in _cells(entry)))
    if len(entries) > _SHOWN:
        table.add_row("", "", Text(f"and {count(len(entries) - _SHOWN)} more", style="dim"), "", "", "", "")
    console.print(table)
