"""``finemask compare``: two runs or results files on one ground truth, and whether they differ."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table

from finemask.config import plain
from finemask.evaluation.numbers.coco_numbers import COCO_KEYS
from finemask.evaluation.uncertainty.model_comparison import difference_text, p_text, summary, wins_text
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
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    for kind in (kind for kind in NOUNS if kind in content):
        table = Table("", box=box.SIMPLE_HEAD, title=NOUNS[kind], title_justify="left")
        for heading in ("a", "b", "b - a (95 % interval)", "p"):
            table.add_column(heading, justify="right")
        for key in _SHOWN:
            row = content[kind][key]
            if row is None:
                table.add_row(key, "–", "–", "–", "–")
            else:
                shown = (f"{row['a']:.3f}", f"{row['b']:.3f}", difference_text(row), p_text(row["p_value"]))
                table.add_row(key, *shown)
        console.print(table, highlight=False)
    for kind in (kind for kind in NOUNS if kind in content):
        text = summary(f"AP of {NOUNS[kind]}", content[kind]["AP"], content["images"])
        console.print(text, highlight=False, soft_wrap=True)
        if len(content["per_class"]) > 1:
            console.print(f"AP of {NOUNS[kind]}: {wins_text(content['wins'][kind])}", highlight=False, soft_wrap=True)
