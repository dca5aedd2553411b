"""Rows of pretrained heads, carried over to classes that go by the same name.

A linear box predictor has a row of scores and four rows of deltas for each class, the mask predictor one row; row 0
is background. Whoever fine-tunes on *car* and *crane* starts *car* from COCO's rows, and *crane* from random ones.
The rows of weights that know *object* alone start every class.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from finemask.errors import ConfigError

_KEY = "model.class_transfer"
# By the name of the layer; the last two are those of PointRend and of mask scoring.
_ROWS_A_CLASS = {"cls_score": 1, "bbox_pred": 4, "mask_fcn_logits": 1, "point_head.logits": 1, "mask_iou.iou": 1}
_HEADS = "roi_heads."
ANY_CLASS = "object"  # the only class of weights that tell objects from background, and no more


@dataclass(frozen=True)
class Classes:
    """Names of the model's classes and of the classes in a file of weights.

    Args:
        names: of the model; the label of a name is its position plus one.
        in_file: likewise of the weights, ``None`` where the file does not tell.
        wish: ``auto``, ``none``, or a mapping of a class to the classes whose rows it takes.
        presumed: names that the file's rows have if there are as many, such as torchvision's COCO list.
    """

    names: Sequence[str]
    in_file: Sequence[str] | None
    wish: str | Mapping[str, str | Sequence[str]] = "auto"
    presumed: Sequence[str] = ()


@dataclass(frozen=True)
class ClassRows:
    """Report of which rows each class took.

    Args:
        taken: each class of the model with the classes of the file whose rows it took, averaged if several; none: its
            rows are random.
        carried: names of the model's tensors in which rows were put by name.
        notes: what else a person should know.
    """

    taken: Sequence[tuple[str, tuple[str, ...]]]
    carried: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def any(self) -> bool:
        """Whether any class took a row; if so, background took the background's."""
        return any(names for _, names in self.taken)


def choose_rows(
    names: Sequence[str], in_file: Sequence[str], wish: str | Mapping[str, str | Sequence[str]] = "auto"
) -> list[tuple[int, ...]]:
    """The rows of the file that each class takes.

    Args:
        names: of the model's classes.
        in_file: of the file's; row = position + 1.
        wish: as in ``Classes``. Classes that a mapping does not list are matched by name too; an empty list leaves a
            class at random.

    Returns:
        For each name the rows, rising; several are to be averaged. A name matches exactly, else without regard to
        upper and lower case.

    Raises:
        ConfigError: the mapping names a class that one of the two does not have, or is no mapping.
    """
    if wish == "none":
        return [() for _ in names]
    if isinstance(wish, str) and wish != "auto":
        raise ConfigError(f"{wish!r} is not auto, none or a mapping", where=_KEY, remedy=_remedy())
    listed = {} if isinstance(wish, str) else {str(mine): _as_list(sources) for mine, sources in wish.items()}
    for mine in listed:
        if mine not in names:
            raise ConfigError(f"there is no class {mine!r} in the data{_nearest(mine, names)}", where=_KEY)
    default = [ANY_CLASS] if list(in_file) == [ANY_CLASS] else None
    return [_rows_of(listed.get(name, default or [name]), in_file, must_exist=name in listed) for name in names]


def carry_class_rows(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], classes: Classes
) -> tuple[dict[str, Tensor], ClassRows | None]:
    """Puts the rows of a file's heads where the model's classes want them.

    Args:
        found: tensors of the file under the model's names.
        wanted: the model's own tensors, freshly initialised.
        classes: of both.

    Returns:
        ``found`` with every tensor that has rows a class in the model's shape, or without it where no row could be
        carried; and the report, ``None`` where the file has no heads.

    Raises:
        ConfigError: the mapping of ``model.class_transfer`` cannot be followed.
    """
    result = dict(found)
    count = next((len(tensor) for name, tensor in found.items() if _layer(name) == "cls_score"), 0)
    if not count:
        if isinstance(classes.wish, Mapping):
            raise ConfigError("these weights have no rows of classes", where=_KEY, remedy=_remedy())
        return result, None
    in_file, notes = _names_in_file(classes, count)
    if in_file is None:
        return _by_position(result, wanted, classes, count)
    rows = choose_rows(classes.names, in_file, classes.wish)
    report = ClassRows(
        [(name, tuple(in_file[row - 1] for row in of)) for name, of in zip(classes.names, rows, strict=True)]
    )
    report.notes.extend(notes)
    sources = [(0,), *rows] if report.any else [(), *rows]
    strangers = set()
    for name, rows_a_class in _per_class(found, count):
        fresh = wanted.get(name)
        fits = (
            fresh is not None and len(fresh) == rows_a_class * len(sources) and fresh.shape[1:] == found[name].shape[1:]
        )
        if fresh is None or not fits or not _alike(name, found, wanted) or not report.any:
            if fresh is not None:
                result.pop(name)  # else the report calls it skipped
                strangers |= {name.rpartition(".")[0]} if report.any else set()
            continue
        result[name] = _gathered(found[name], fresh, sources, rows_a_class)
        report.carried.append(name)
    report.notes.extend(f"{part}: of another kind than in the file, its rows are random" for part in sorted(strangers))
    return result, report


def _names_in_file(classes: Classes, count: int) -> tuple[Sequence[str] | None, list[str]]:
    """The names of rows 1 and up, or ``None``; and how they are known."""
    if classes.in_file is not None and len(classes.in_file) + 1 == count:
        return classes.in_file, []
    known = {name.casefold() for name in classes.presumed}
    if len(classes.presumed) + 1 == count and known & {name.casefold() for name in _asked_for(classes)}:
        return classes.presumed, [f"the file does not name its {count} classes: taken for torchvision's COCO list"]
    return None, []


def _asked_for(classes: Classes) -> Iterator[str]:
    yield from classes.names
    if isinstance(classes.wish, Mapping):
        for sources in classes.wish.values():
            yield from _as_list(sources)


def _by_position(
    found: dict[str, Tensor], wanted: Mapping[str, Tensor], classes: Classes, count: int
) -> tuple[dict[str, Tensor], ClassRows]:
    """The file does not name its classes: rows in order where there are as many, as ``load_state_dict`` does it."""
    if isinstance(classes.wish, Mapping):
        raise ConfigError(
            "the file does not name its classes",
            where=_KEY,
            remedy="Give the model.safetensors of a run, which does, or torchvision's COCO weights.",
        )
    if classes.wish != "none" and count == len(classes.names) + 1:
        taken = [(name, (f"row {row}",)) for row, name in enumerate(classes.names, start=1)]
        note = "the file does not name its classes; there are as many, and rows are taken in order"
        return found, ClassRows(taken, notes=[note])
    for name, _ in _per_class(found, count):
        if name in wanted:
            found.pop(name)
    notes = [f"the file does not name its {count - 1} classes"] if classes.wish != "none" else []
    return found, ClassRows([(name, ()) for name in classes.names], notes=notes)


def _per_class(found: Mapping[str, Tensor], count: int) -> list[tuple[str, int]]:
    """Names of the tensors with rows a class, and how many; class-agnostic layers are none."""
    rows = {name: _ROWS_A_CLASS[layer] for name in found if (layer := _layer(name))}
    return [(name, each) for name, each in rows.items() if len(found[name]) == each * count]


def _layer(name: str) -> str | None:
    """``cls_score`` of ``roi_heads.box_predictor.cls_score.weight``; ``None`` if it has no rows of classes."""
    path = name.rpartition(".")[0]
    return next((k for k in _ROWS_A_CLASS if path.startswith(_HEADS) and path.endswith(f".{k}")), None)


def _alike(name: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    """Whether the layer has the same parameters on both sides: a cosine's rows, without a bias, mean something else."""
    prefix = name.rpartition(".")[0] + "."
    return {key for key in found if key.startswith(prefix)} == {key for key in wanted if key.startswith(prefix)}


def _gathered(found: Tensor, fresh: Tensor, sources: Sequence[tuple[int, ...]], rows_a_class: int) -> Tensor:
    """A tensor in the model's shape, rows from the file where there are any; a single source is copied bit by bit."""
    by_class = found.reshape(-1, rows_a_class, *found.shape[1:])
    result = fresh.detach().clone().reshape(-1, rows_a_class, *fresh.shape[1:])
    for label, rows in enumerate(sources):
        if len(rows) == 1:
            result[label] = by_class[rows[0]]
        elif rows:
            result[label] = torch.stack([by_class[row].double() for row in rows]).mean(dim=0).to(result.dtype)
    return result.reshape(fresh.shape)


def _rows_of(sources: Sequence[str], in_file: Sequence[str], must_exist: bool) -> tuple[int, ...]:
    rows: set[int] = set()
    for source in sources:
        same = [row for row, name in enumerate(in_file, start=1) if name == source]
        same = same or [row for row, name in enumerate(in_file, start=1) if name.casefold() == source.casefold()]
        if not same and must_exist:
            raise ConfigError(f"the weights have no class {source!r}{_nearest(source, in_file)}", where=_KEY)
        rows.update(same)
    return tuple(sorted(rows))


def _as_list(sources: str | Sequence[str]) -> list[str]:
    return [sources] if isinstance(sources, str) else [str(source) for source in sources]


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; similar: {', '.join(close)}" if close else ""


def _remedy() -> str:
    return "It is auto, none, or a mapping such as '{crane: [truck, train]}'."
