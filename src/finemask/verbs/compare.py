"""``finemask compare``: two runs or results files on one ground truth, and whether they differ."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from finemask.config import plain
from finemask.evaluation.numbers.coco_numbers import COCO_KEYS
from finemask.evaluation.uncertainty.model_comparison import difference_text, p_text, summary, wins_text
from finemask.ops.terminal import say, table
from finemask.ops.wording import plural
from finemask.reports.comparison_page import NOUNS
from finemask.workflows.compare_models import compare_models

_SHOWN = COCO_KEYS[:6]


def main(cfg: DictConfig) -> int:
    """Runs the verb: keys as in ``configs/compare.yaml``.

    Raises:
        FinemaskError: files that cannot be used, or that were evaluated with different ground truth.
    """
    content, paths = compare_models(plain(cfg))
    show(Console(), content)
    for path in paths:
        print(f"wrote {path}")
    return 0


def show(console: Console, content: Mapping[str, Any]) -> None:
    """Prints the differences and what may be said of them."""
    for name in "ab":
        side = content[name]
        text = f"{name}: {side['path']}: {plural(side['detections'], 'detection')} in "
        text += plural(side["images_with_detections"], "image")
        if side["seeds"] > 1:
            text += f"; its numbers are means over {side['seeds']} seeds"
        say(console, text)
    for kind in (kind for kind in NOUNS if kind in content):
        rows = (
            (key, row["a"], row["b"], difference_text(row), p_text(row["p_value"])) if row else (key, *[None] * 4)
            for key, row in ((key, content[kind][key]) for key in _SHOWN)
        )
        console.print(table(("", "a", "b", "b - a (95 % interval)", "p"), rows, title=NOUNS[kind]), highlight=False)
    for kind in (kind for kind in NOUNS if kind in content):
        say(console, summary(f"AP of {NOUNS[kind]}", content[kind]["AP"], content["images"]))
        if len(content["per_class"]) > 1:
            say(console, f"AP of {NOUNS[kind]}: {wins_text(content['wins'][kind])}")
