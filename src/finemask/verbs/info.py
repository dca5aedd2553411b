"""``finemask info``: what a model file is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from finemask.config.config_files import allowed_targets
from finemask.export.model_card import architecture, count_numbers, sizes_rows
from finemask.model_file import find_model_file, verify_model_file
from finemask.model_header import ModelHeader, header_to_json
from finemask.named_parts import TRAINING_PARTS, foreign_parts, trust_keys
from finemask.ops.terminal import facts_table, say, table

_SHOWN = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def main(cfg: DictConfig) -> int:
    """Runs the verb: ``model`` and ``json`` as in ``configs/info.yaml``.

    Raises:
        ModelFileError: the file is missing, foreign or damaged, in its tensors too.
    """
    path = find_model_file(cfg.model)
    header, size = _described(path)
    if cfg.json:
        content = header_to_json(header) | {"file": {"path": str(path), **size}}
        print(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        show(Console(), path, header, size)
    return 0


def _described(path: Path) -> tuple[ModelHeader, dict[str, int]]:
    if path.suffix.lower() != ".safetensors":  # what a model file is called; without torch, it is described at once
        from finemask.inference.exported_model import exported_parts, is_exported, open_model

        if is_exported(path):
            return open_model(path)[1], {"bytes": sum(part.stat().st_size for part in exported_parts(path))}
    return verify_model_file(path), {"bytes": path.stat().st_size, "numbers": count_numbers(path)}


def show(console: Console, path: Path, header: ModelHeader, size: Mapping[str, int]) -> None:
    """Prints everything as tables."""
    say(console, str(path), "bold")
    headings = ("label", "class", "category id", "supercategory", "threshold")
    classes = (
        (str(label), one.name, str(one.id), one.supercategory, f"{header.threshold_of(one.name):.2f}")
        for label, one in enumerate(header.categories, start=1)
    )
    console.print(table(headings, classes, words=headings))
    metrics = metrics_table(header.metrics)
    if metrics is not None:
        console.print(metrics)
    console.print(facts_table(rows(header, size)), highlight=False)


def rows(header: ModelHeader, size: Mapping[str, int]) -> list[tuple[str, str]]:
    """The facts that are no tables of their own, in words."""
    preprocessing = header.preprocessing
    sides = ", ".join(str(side) for side in preprocessing.min_size)
    contrast = f"; local contrast equalised, clip limit {preprocessing.clahe:g}" if preprocessing.clahe else ""
    count = f"{size['numbers'] / 1e6:.1f} million numbers, " if "numbers" in size else ""
    found = [
        ("architecture", architecture(header.model)),
        *own_parts_rows(header.model),
        ("size", f"{count}{size['bytes'] / 2**20:.1f} MiB"),
        (
            "input",
            f"uint8 RGB; resized to a shorter side of {sides} px, longer at most {preprocessing.max_size} px{contrast}",
        ),
        *([("image files", str(header.reading))] if str(header.reading) else []),
        (
            "normalised by",
            f"mean {list(preprocessing.image_mean)}, deviation {list(preprocessing.image_std)}",
        ),
        ("threshold", f"{header.thresholds['global']:.2f} for classes without one of their own"),
    ]
    for name, values in header.thresholds.get("points", {}).items():
        if name == "best_f1":  # what the line above shows
            continue
        overall = values.get("global")
        found.append((f"threshold={name}", "reached by none" if overall is None else f"{overall:.2f} over all classes"))
    point = header.metrics.get("operating_point")
    if isinstance(point, Mapping) and point.get("f1") is not None:
        numbers = (f"{key} {_number(point.get(key))}" for key in ("precision", "recall", "f1"))
        found.append(("at threshold", f"{_number(point.get('threshold'))}: {', '.join(numbers)}"))
    found.append(("training data", header.data_fingerprint or "not recorded"))
    if header.training_sizes is not None:
        found.extend(sizes_rows(header.training_sizes))
    if header.training_looks is not None:
        found.append(("training looks", f"of {len(header.training_looks.looks)} images, to notice images unlike them"))
    if header.held_out:
        found.append(("held out", f"part {header.held_out} of the training images, which it has not seen"))
    found.append(("made with", ", ".join(f"{name} {version}" for name, version in header.versions.items())))
    found.extend((f"licence of {name}", note) for name, note in header.licenses.items())
    found.append(
        ("weights SHA-256", f"{header.sha256}, verified")
        if "numbers" in size
        else ("exported from", f"a model file with weights of SHA-256 {header.sha256}")
    )
    return found


def own_parts_rows(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Parts that are not finemask's, and what to type to load them; what only training asks for stands apart."""
    foreign = foreign_parts(config, allowed_targets())
    needed = {target: key for target, key in foreign.items() if key not in TRAINING_PARTS}
    rest = [f"{target} ({key})" for target, key in foreign.items() if target not in needed]
    found = []
    if needed:
        found.append(("parts of your own", ", ".join(f"{target} ({key})" for target, key in needed.items())))
        found.append(("loaded with", trust_keys(needed)[1]))
    return found + ([("not needed to predict", ", ".join(rest))] if rest else [])


def metrics_table(metrics: Mapping[str, Any]) -> Table | None:
    """COCO's numbers for masks and boxes; None if there are none."""
    known = [
        (label, *(_number(numbers.get(key)) for key in _SHOWN))
        for kind, label in (("segm", "masks"), ("bbox", "boxes"))
        if isinstance(numbers := metrics.get(kind), Mapping)
    ]
    return table(("validation", *_SHOWN), known) if known else None


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "–"
