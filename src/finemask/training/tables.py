"""Tables that a run prints: its data, its model, its weights, its results."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import HEAVY_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from finemask.model.backbones.norms import norm_notes
from finemask.model.backbones.pyramid import count_parameters
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.pretrained.class_rows import ClassRows
from finemask.model.pretrained.transfer import STAGE_NAMES
from finemask.model.pretrained.weights import LoadReport
from finemask.model.resolve import Boxes, anchor_coverage
from finemask.ops.terminal import table
from finemask.ops.wording import names, plural

_PARTS = (
    "backbone.body", "backbone.fpn", "rpn", "roi_heads.box_head", "roi_heads.box_predictor", "roi_heads.mask_head",
          "roi_heads.mask_predictor")  # fmt: skip
_SHOWN_SHAPES = 6
_SHOWN_CLASSES = 20


def data_table(splits: Mapping[str, Any], num_categories: int, root: Path) -> Group:
    """Images and instances of each split; crowds are not trained on, and named below the table.

    Args:
        splits: a ``CocoIndex`` each.
        num_categories: K.
        root: folder of the dataset; files in it are named from there.
    """
    rows = []
    for name, index in splits.items():
        path = Path(index.annotations_path)
        file = path.relative_to(root) if path.is_relative_to(root) else path
        rows.append((name, len(index), index.num_instances, index.max_instances_per_image, str(file)))
    headings = ("split", "images", "instances", "most in one image", "file")
    made = table(headings, rows, words=("split", "file"), overflow="fold", box=HEAVY_HEAD)
    crowds = [Text(f"  {name} has {index.crowds}") for name, index in splits.items() if index.crowds]
    return Group(titled(f"Data: {root}, {plural(num_categories, 'class', 'classes')}", made), *crowds)


def differences_table(rows: Sequence[tuple[str, str, str]]) -> Group:
    """What a resumed run does otherwise than when it began: setting, then, now."""
    headings = ("setting", "then", "now")
    made = table(headings, rows, words=headings, overflow="fold", box=HEAVY_HEAD)
    return titled("Not as it was when the run began; from here on as it is now", made)


def model_table(model: MaskRCNN, config: Mapping[str, Any], begins: Sequence[int] = ()) -> Group:
    """Parameters of each part, trained and frozen, and what happens to an image.

    Args:
        model: after ``apply_transfer``.
        config: the resolved group ``model``.
        begins: see ``Unfreezing``; what it frees later counts as trained.
    """
    shown = model.preprocessing
    sizes = "/".join(str(size) for size in shown.min_size)
    modules = dict(model.named_modules())  # a backbone of one's own has no pyramid of ours
    rows = [
        (name or "all", *(count_parameters(modules[name], trainable) for trainable in (None, True, False)))
        for name in (*(name for name in _PARTS if name in modules), "")
    ]
    made = table(("part", "parameters", "trained", "frozen"), rows, box=HEAVY_HEAD)
    made.rows[-2].end_section = rows[-2][0] == _PARTS[-1]
    notes = [
        f"images resized: shorter side {sizes} px, longer at most {shown.max_size} px; "
        f"at most {config['roi_heads']['detections_per_img']} detections an image",
        *norm_notes(model),
        *_schedule(begins),
    ]
    backbone = config["backbone"]
    norm = f", norm {backbone['norm']}" if "norm" in backbone else ""
    shown_backbone = f"{backbone.get('name', backbone['_target_'])}{norm}"
    return titled(f"Model: {config['name']} (backbone {shown_backbone})", made, notes)


def _schedule(begins: Sequence[int]) -> list[str]:
    later = [f"{name} from epoch {begin + 1}" for name, begin in zip(STAGE_NAMES[::-1], begins, strict=False) if begin]
    return [f"backbone frozen at first, then trained: {', '.join(later)}"] if later else []


def weights_table(report: LoadReport) -> Group:
    """What was loaded, re-initialised and skipped, part by part."""
    carried = set(report.class_rows.carried) if report.class_rows else set()
    headings = ["tensors of", "loaded", "re-initialised", "skipped"]
    loaded = Counter(_part(name) for name in report.loaded if name not in carried)
    fresh = Counter(_part(name) for name, _, _ in report.reinitialised)
    skipped = Counter(_part(name) for name, _ in report.skipped)
    counts = [loaded, fresh, skipped] + [Counter(map(_part, carried))] * bool(carried)
    rows = (
        (part, *(str(count[part] or "–") for count in counts))
        for part in [*_PARTS, *sorted(set(skipped) - set(_PARTS))]
    )
    made = table(headings + ["by class"] * bool(carried), rows, box=HEAVY_HEAD)
    made.columns[0].no_wrap = True
    changed = [
        f"{name}: {_shape(found)} in the file, {_shape(shape)} in the model"
        for name, shape, found in report.reinitialised
        if found not in (None, shape)
    ]
    copies = Counter((_part(name), _part(plain)) for name, plain in report.seeds.items())
    notes = [
        f"{part}: {number} of the tensors loaded are copies of {plain}'s" for (part, plain), number in copies.items()
    ]
    notes += changed[:_SHOWN_SHAPES]
    if len(changed) > _SHOWN_SHAPES:
        notes.append(f"and {len(changed) - _SHOWN_SHAPES:,} more")
    return titled(f"Weights: {report.source}", made, [*notes, *_left_over([name for name, _ in report.skipped])])


def _left_over(tensors: Sequence[str]) -> list[str]:
    """One sentence on the tensors of a file that the model has no place for."""
    if not tensors:
        return []
    body = _PARTS[0] + "."
    if all(name.startswith(body) for name in tensors):  # a backbone as it was published has its own last layers
        modules = dict.fromkeys(name.removeprefix(body).rpartition(".")[0] for name in tensors)
        return [f"not needed: what the file has to classify whole images ({names(list(modules), _SHOWN_SHAPES)})"]
    return [f"no place in the model for {names(tensors, _SHOWN_SHAPES)} of the file"]


def classes_table(rows: ClassRows) -> Group:
    """Which class began from which rows of the weights' heads."""
    seeded = [(name, sources) for name, sources in rows.taken if sources]
    shown = [
        (name, sources[0] if len(sources) == 1 else f"mean of {', '.join(sources)}")
        for name, sources in seeded[:_SHOWN_CLASSES]
    ]
    if len(seeded) > _SHOWN_CLASSES:
        shown.append((f"and {len(seeded) - _SHOWN_CLASSES} more", ""))
    fresh = [name for name, names in rows.taken if not names]
    if fresh:
        shown.append((names(fresh, _SHOWN_CLASSES), "random rows"))
    shown.append(("(background)", "background" if rows.any else "random rows"))
    headings = ("class", "begins from")
    return titled("Classes: rows of the heads", table(headings, shown, words=headings, box=HEAVY_HEAD), rows.notes)


def titled(title: str, table: Table, notes: Sequence[str] = ()) -> Group:
    """A table with its title and notes, which may be wider than it."""
    return Group("", Text(title, style="bold"), table, *(Text(note, style="dim") for note in notes))


def _shape(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(str(side) for side in shape) + "]"


def _part(name: str) -> str:
    for part in _PARTS:
        if name.startswith(part + "."):
            return part
    return name.split(".")[0]


def anchors_line(before: Mapping[str, Any], after: Mapping[str, Any], boxes: Boxes) -> str | None:
    """One line: the share of the objects that an anchor overlaps by half or more, fitted or not.

    Args:
        before: the group ``model`` as composed.
        after: the same, resolved.
        boxes: as ``trained_boxes`` gives them.

    Returns:
        ``None`` where there is nothing to say: no objects, or anchors of somebody else's.
    """
    now = anchor_coverage(after, boxes)
    if now is None:
        return None
    text = f"{now:.1%} of the training objects have one that overlaps them by half or more (sizes {_anchors_of(after)})"
    if before["anchors"].get("fit", "default") != "auto":
        return f"Anchors: {text}"
    then = anchor_coverage(before, boxes)
    if all(list(before["anchors"][key]) == list(after["anchors"][key]) for key in ("sizes", "aspect_ratios")):
        return f"Anchors, auto: {text}; kept, no others do clearly better"
    return f"Anchors, auto: {text}; before it were {then:.1%} (sizes {_anchors_of(before)})"


def _anchors_of(config: Mapping[str, Any]) -> str:
    sizes, ratios = (
        "[" + ", ".join(f"{value:g}" for value in config["anchors"][key]) + "]" for key in ("sizes", "aspect_ratios")
    )
    return f"{sizes} px, height/width {ratios}"
