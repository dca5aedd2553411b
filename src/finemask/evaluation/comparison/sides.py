"""The two sides of a comparison: where their detections are, and whether they speak of the same ground truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finemask.errors import ConfigError, DataError
from finemask.evaluation.ground_truth import GroundTruth, load_ground_truth
from finemask.evaluation.results import read_results
from finemask.ops.files import read_json
from finemask.ops.run_folders import find_in_run
from finemask.ops.wording import count, plural

_REMEDY = "Score both with finemask evaluate on one annotation file, then compare those folders."
_NAMED = 3  # ids in a message


@dataclass(frozen=True)
class Side:
    """One side.

    Args:
        path: as it was given.
        file: the COCO results file.
        results: its entries, unchecked.
        annotations: the ground truth that it was evaluated with, by its own record; None without one.
        images: the folder of the images, by its own record; None without one.
        fingerprint: of that ground truth as it was then; None without a record.
    """

    path: Path
    file: Path
    results: list[Any]
    annotations: Path | None
    images: Path | None
    fingerprint: str | None


def load_side(path: Path, split: str = "val") -> Side:
    """Finds and reads the detections of a run, of an evaluation, or of a results file.

    Args:
        path: a run's folder, the folder of all runs of a name for the newest, a folder that ``finemask evaluate``
            wrote, or a COCO results file.
        split: which of a run's predictions, ``"val"`` or ``"test"``.

    Raises:
        DataError: there is nothing to compare, or it cannot be read.
    """
    suffix = "" if split == "val" else f"_{split}"
    name = f"predictions{suffix}.json"
    file = find_in_run(path, name)
    if file.is_dir():
        raise DataError(
            f"there is no {name} in this folder",
            where=path,
            remedy="Give a finished training run, a folder that finemask evaluate wrote, or a COCO results file.",
        )
    record = _record(file)
    return Side(
        path=path,
        file=file,
        results=read_results(file),
        annotations=_path(record.get("annotations")),
        images=_path(record.get("images")),
        fingerprint=record.get("fingerprint"),
    )


def common_ground_truth(a: Side, b: Side, annotations: Path | None) -> GroundTruth:
    """The ground truth that both sides are compared with.

    Args:
        a: one side.
        b: the other.
        annotations: as the user gave it; by default that of the sides' own record.

    Raises:
        ConfigError: it was not given, and neither side has a record of it.
        DataError: the sides were evaluated with different ground truth.
    """
    if a.fingerprint and b.fingerprint and a.fingerprint != b.fingerprint:
        raise DataError(f"a and b were evaluated with different ground truth: {_difference(a, b)}", remedy=_REMEDY)
    path = annotations or a.annotations or b.annotations
    if path is None:
        raise ConfigError(
            "neither a nor b says which annotation file it was evaluated with",
            remedy="Give it with annotations=FILE.",
        )
    truth = load_ground_truth(path)
    for name, side in (("a", a), ("b", b)):
        if side.fingerprint and side.fingerprint != truth.fingerprint:
            raise DataError(
                f"{name} ({side.path}) was evaluated with other ground truth than {path} as it is now"
                + _where(side, path),
                remedy=_REMEDY,
            )
    return truth


def describe_difference(a: GroundTruth, b: GroundTruth, names: tuple[str, str] = ("a", "b")) -> str:
    """The first thing in which two ground truths differ, in words; ``names`` is what they are called there."""
    for what, mine, theirs in (
        (("image", "images"), set(a.images), set(b.images)),
        (("category", "categories"), {c.name for c in a.categories}, {c.name for c in b.categories}),
    ):
        for holder, other, only in ((*names, mine - theirs), (*names[::-1], theirs - mine)):
            if only:
                listed = ", ".join(str(value) for value in sorted(only)[:_NAMED]) + (
                    ", …" if len(only) > _NAMED else ""
                )
                return f"{holder} has {plural(len(only), *what)} that {other} has not ({listed})"
    resized = [id_ for id_ in sorted(a.images) if a.images[id_][1:] != b.images[id_][1:]]
    if resized:
        first = resized[0]
        sizes = " and ".join(f"{truth.images[first].height} × {truth.images[first].width} px" for truth in (a, b))
        return f"image {first} is {sizes} (height × width)"
    if {(c.id, c.name) for c in a.categories} != {(c.id, c.name) for c in b.categories}:
        return "the same categories have other ids"
    if len(a.annotations) != len(b.annotations):
        return f"{names[0]} has {plural(len(a.annotations), 'annotation')}, {names[1]} has {count(len(b.annotations))}"
    for mine_, theirs_ in zip(a.annotations, b.annotations, strict=True):
        if mine_ != theirs_:
            return f"annotations differ, first in image {mine_['image_id']}"
    return "the same annotations in another order"


def _difference(a: Side, b: Side) -> str:
    if not (a.annotations and b.annotations and a.annotations.is_file() and b.annotations.is_file()):
        return f"{a.annotations or 'unknown'} and {b.annotations or 'unknown'}, which are not both there to look at"
    if a.annotations == b.annotations:
        return f"{a.annotations} was changed between the two"
    words = describe_difference(load_ground_truth(a.annotations), load_ground_truth(b.annotations))
    return f"{words}; a: {a.annotations}, b: {b.annotations}"


def _where(side: Side, path: Path) -> str:
    if side.annotations is None or not side.annotations.is_file() or side.annotations.samefile(path):
        return ""
    then, now = load_ground_truth(side.annotations), load_ground_truth(path)
    return f": {describe_difference(then, now, (str(side.annotations), str(path)))}"


def _record(results: Path) -> Mapping[str, Any]:
    """What the ``metrics.json`` beside a ``predictions.json`` says of its ground truth."""
    metrics = results.with_name(results.name.replace("predictions", "metrics", 1))
    if metrics == results or not metrics.is_file():
        return {}
    content = read_json(metrics, "the metrics of an evaluation")
    source = content.get("source") if isinstance(content, dict) else None
    return source if isinstance(source, dict) else {}


def _path(value: Any) -> Path | None:
    return Path(value) if isinstance(value, str) else None
