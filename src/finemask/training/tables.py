"""Tables that a run prints: its data, its model, its weights, its results."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from torch import nn

from finemask.model.backbone import count_parameters
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.weights import LoadReport

_PARTS = (
    "backbone.body", "backbone.fpn", "rpn", "roi_heads.box_head", "roi_heads.box_predictor", "roi_heads.mask_head",
          "roi_heads.mask_predictor")  # fmt: skip
_SHOWN_SHAPES = 6


def data_table(splits: Mapping[str, Any], num_categories: int) -> Table:
    """Images and instances of each split; crowd regions are not trained on and not counted.

    Args:
        splits: a ``CocoIndex`` each.
        num_categories: K.
    """
    table = Table(title=f"Data: {num_categories} {'class' if num_categories == 1 else 'classes'}", title_justify="left")
    for heading in ("split", "images", "instances", "most in one image", "file"):
        table.add_column(heading, justify="left" if heading in ("split", "file") else "right")
    for name, index in splits.items():
        table.add_row(
            name,
            f"{len(index):,}",
            f"{index.num_instances:,}",
            f"{index.max_instances_per_image:,}",
            str(index.annotations_path),
        )
    return table


def model_table(model: MaskRCNN, config: Mapping[str, Any]) -> Table:
    """Parameters of each part, trained and frozen, and what happens to an image."""
    shown = model.preprocessing
    sizes = "/".join(str(size) for size in shown.min_size)
    table = Table(
        title=f"Model: {config['name']} ({config['backbone']['name']}, norm {config['backbone']['norm']}); "
        f"shorter side {sizes} px, longer at most {shown.max_size} px; "
        f"at most {config['roi_heads']['detections_per_img']} detections an image",
        title_justify="left",
    )
    for heading in ("part", "parameters", "trained", "frozen"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for name in (*_PARTS, ""):
        part: nn.Module = model.get_submodule(name)
        table.add_row(
            name or "all",
            *(f"{count_parameters(part, trainable):,}" for trainable in (None, True, False)),
            end_section=name == _PARTS[-1],
        )
    return table


def weights_table(report: LoadReport) -> Table:
    """What was loaded, re-initialised and skipped, part by part."""
    table = Table(title=f"Weights: {report.source}", title_justify="left")
    for heading in ("part", "tensors loaded", "re-initialised", "skipped in the file"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    loaded = Counter(_part(name) for name in report.loaded)
    fresh = Counter(_part(name) for name, _, _ in report.reinitialised)
    skipped = Counter(_part(name) for name, _ in report.skipped)
    for part in [*_PARTS, *sorted(set(skipped) - set(_PARTS))]:
        table.add_row(part, *(str(count[part] or "–") for count in (loaded, fresh, skipped)))
    changed = [
        f"{name}: {_shape(found)} in the file, {_shape(shape)} in the model"
        for name, shape, found in report.reinitialised
        if found is not None
    ]
    left_over = [f"{name} {_shape(shape)}: no place for it in the model" for name, shape in report.skipped]
    copies = Counter((_part(name), _part(plain)) for name, plain in report.seeds.items())
    notes = [
        f"{part}: {count} of the tensors loaded are copies of {plain}'s" for (part, plain), count in copies.items()
    ]
    notes += [*changed[:_SHOWN_SHAPES], *left_over[:_SHOWN_SHAPES]]
    hidden = len(changed[_SHOWN_SHAPES:]) + len(left_over[_SHOWN_SHAPES:])
    if hidden:
        notes.append(f"and {hidden} more")
    table.caption = "\n".join(notes) or None
    table.caption_justify = "left"
    return table


def results_table(metrics: Mapping[str, Any], title: str) -> Table:
    """COCO numbers for boxes and masks, and the operating point."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    for name in names:
        table.add_column(name, justify="right")
    for iou_type, heading in (("segm", "masks"), ("bbox", "boxes")):
        if iou_type in metrics:
            table.add_row(heading, *(_number(metrics[iou_type][name]) for name in names))
    point = metrics["operating_point"]
    table.caption = (
        f"at score ≥ {_number(point['threshold'])}: precision {_number(point['precision'])}, "
        f"recall {_number(point['recall'])}, F1 {_number(point['f1'])} "
        f"({point['true_positives']} found, {point['false_positives']} false, {point['false_negatives']} missed)"
    )
    table.caption_justify = "left"
    return table


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _shape(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(str(side) for side in shape) + "]"


def _part(name: str) -> str:
    for part in _PARTS:
        if name.startswith(part + "."):
            return part
    return name.split(".")[0]
