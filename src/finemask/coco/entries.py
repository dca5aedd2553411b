"""The entries of an annotation file, judged field by field: the one place that says what is sound.

Training, evaluation, conversion and ``finemask data check`` ask the same functions, so a value has one verdict, under
the name of one rule, wherever it is met.
"""

import re
from collections.abc import Container, Iterator, Mapping
from math import isfinite, nan
from typing import Any, NamedTuple, TypeGuard

from finemask.ops.files.atomic_files import leaves_folder
from finemask.ops.wording import names, plural, word

ID_LIMIT = 2**63
"""Whole numbers from this on, or below minus this, fit no 64-bit column."""

_EXACT_FLOATS = 2**53  # a larger whole number written as a float may have been another


def is_id(value: Any) -> TypeGuard[int]:
    """A whole number of 64 bits, written as such: not 1.0, not true."""
    return type(value) is int and -ID_LIMIT <= value < ID_LIMIT


def is_number(value: Any) -> TypeGuard[float]:
    """A finite int of 64 bits or a finite float; a bool is none."""
    return is_id(value) or (isinstance(value, float) and isfinite(value))


def whole(value: Any) -> int | None:
    """A whole number, also when it is written as 3.0; None for anything else."""
    if is_id(value):
        return value
    return int(value) if type(value) is float and abs(value) < _EXACT_FLOATS and value == int(value) else None


def whole_in_text(value: Any) -> int | None:
    """A whole number written as a number or as text, ``"12"``; None for anything else."""
    if isinstance(value, str) and len(value) < 17 and value.strip().isascii() and value.strip().isdigit():
        return int(value)
    return whole(value)


def number_in_text(value: str) -> int | float | None:
    """The finite number that text spells, ``"54.4"``; None for any other text."""
    try:
        number = float(value) if len(value) <= 40 and "_" not in value else nan
    except ValueError:
        return None
    if not is_number(number):
        return None
    return int(number) if re.fullmatch(r"\s*[+-]?\d+\s*", value, re.ASCII) else number


def is_text(value: Any) -> TypeGuard[str]:
    """A string with something in it that every file and terminal can hold."""
    return isinstance(value, str) and bool(value.strip()) and is_encodable(value)


def is_encodable(text: str) -> bool:
    """No lone surrogate, which JSON can spell and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def show(value: Any) -> str:
    """A value for a message: short, in one line, printable."""
    if isinstance(value, list):
        if len(value) <= 6 and all(item is None or isinstance(item, int | float) for item in value):
            return f"[{', '.join(_scalar(item) for item in value)}]"
        return f"a list of {len(value)}"
    if isinstance(value, float) and value == value // 1 and abs(value) < 1e15:
        return f"{value:.1f}"  # that it is no whole number by type may be the point
    return "an object" if isinstance(value, dict) else _scalar(value)


def _scalar(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):  # Python refuses to write the digits of very long ones
        return str(value) if value.bit_length() < 80 else f"a number of {value.bit_length()} bits"
    text = f"{value:g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…{text[-1]}"


MAX_PIXELS = 2**32
"""Images of more pixels cannot have masks: COCO's run lengths are 32-bit numbers."""

_NUMBERS = frozenset((int, float))
_NAMED_CLASSES = 8  # in a message


class Fault(NamedTuple):
    """What is wrong with an entry or a value in it.

    Args:
        rule: of ``finemask data check`` that reports it.
        message: what is wrong, naming the values seen: ``its id is 1.0, not a whole number``.
        repaired: the value without the fault, where that is plain; None: nothing usable is left.
        training_only: whether only training needs what is missing here: boxes can be measured without.
    """

    rule: str
    message: str
    repaired: Any = None
    training_only: bool = False


def id_fault(value: Any, kind: str) -> Fault | None:
    """What is wrong with the id of an ``image``, ``category`` or ``annotation``.

    Finemask numbers annotations without an id; an image or category without one cannot be referred to.
    """
    if is_id(value):
        return None
    if value is None:
        if kind == "annotation":
            return Fault("annotation-id-missing", "it has no id", training_only=True)
        return Fault(f"{kind}-id-invalid", "it has no id, so nothing can refer to it")
    why = "beyond 64 bits" if type(value) is int else "not a whole number"
    return Fault(f"{kind}-id-invalid", f"its id is {show(value)}, {why}", whole(value))


def image_faults(entry: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with an entry of ``images``, its id aside."""
    if fault := file_name_fault(entry):
        yield fault
    if size_hw(entry) is None:
        height, width = entry.get("height"), entry.get("width")
        seen = f"its size is {show(width)} × {show(height)} px (width × height)"
        if height is None and width is None:
            seen = "it has no height and width"
        yield Fault("image-size-invalid", seen, training_only=height is None or width is None)


def file_name_fault(entry: Mapping[str, Any]) -> Fault | None:
    """What is wrong with the ``file_name`` of an image."""
    name = entry.get("file_name")
    if name is None:
        seen = "its file_name is null" if "file_name" in entry else "it has no file_name"
        return Fault("file-name-invalid", seen, training_only=True)
    if not is_text(name) or "\0" in name:
        return Fault("file-name-invalid", f"its file_name is {show(name)}, which cannot be the name of a file")
    if leaves_folder(name):
        seen = f"file_name {show(name)} leads out of the images folder"
        return Fault("file-name-leaves-folder", seen, training_only=True)
    return None


def size_hw(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width in px of an image; None unless both are whole (480.0 is), positive, and not beyond measure."""
    height, width = whole(entry.get("height")), whole(entry.get("width"))
    if (
        height is None
        or width is None
        or min(height, width) < 1
        or max(height, width) >= 2**31
        or height * width >= MAX_PIXELS
    ):
        return None
    return height, width


def same_image(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two entries describe one image."""
    return all(one.get(key) == other.get(key) for key in ("file_name", "height", "width"))


def category_name_fault(entry: Mapping[str, Any]) -> Fault | None:
    """What is wrong with the ``name`` of a category."""
    if is_text(entry.get("name")):
        return None
    seen = f"its name is {show(entry['name'])}" if "name" in entry else "it has no name"
    return Fault("category-name-invalid", seen)


def reference_fault(
    entry: Mapping[str, Any], key: str, ids: Container[int], names: Mapping[str, int | None]
) -> Fault | None:
    """What is wrong with the ``image_id`` or ``category_id`` of an annotation.

    Args:
        entry: the annotation.
        key: which of the two.
        ids: that there are.
        names: the id of each file name or category name; None for names that several have.
    """
    value = entry.get(key)
    if is_id(value) and value in ids:
        return None
    number = whole_in_text(value)
    if number is None and isinstance(value, str):
        number = names.get(value)
    if number in ids:
        return Fault("reference-not-integer", f"its {key} is {show(value)}, not a whole number", number)
    what = key.removesuffix("_id")
    seen = f"its {key} is {show(value)}; there is no such {what}" if key in entry else f"it has no {key}"
    return Fault(f"annotation-without-{what}", seen)


def crowd_flag(value: Any) -> bool | None:
    """Whether ``iscrowd`` flags a crowd: 0, 1, false, true, or not there; None for anything else."""
    if value is None:
        return False
    return value == 1 if type(value) in (int, float, bool) and value in (0, 1) else None


_TRUTH = {"0": 0, "1": 1, "false": 0, "true": 1, "no": 0, "yes": 1}


def crowd_fault(value: Any) -> Fault | None:
    """What is wrong with ``iscrowd``; words that say 0 or 1 are repaired."""
    if crowd_flag(value) is not None:
        return None
    known = _TRUTH.get(value.strip().lower()) if isinstance(value, str) else None
    return Fault("iscrowd-invalid", f"its iscrowd is {show(value)}, not 0 or 1", known)


def crowds_in_words(counts: Mapping[str, int]) -> str | None:
    """``3 crowds, which are not learned and not measured: person 2, banana 1``; None without any.

    Args:
        counts: crowds of each class that has some.
    """
    if not counts:
        return None
    total = sum(counts.values())
    ordered = [f"{name} {number:,}" for name, number in sorted(counts.items(), key=lambda item: -item[1])]
    classes = names(ordered, _NAMED_CLASSES)
    return f"{plural(total, 'crowd')}, which {word(total, 'is', 'are')} not learned and not measured: {classes}"


def has_segmentation(entry: Mapping[str, Any]) -> bool:
    """Whether there is anything under ``segmentation``, sound or not."""
    segmentation = entry.get("segmentation")
    return segmentation is not None and segmentation != [] and segmentation != {}


def missing_mask_fault(entry: Mapping[str, Any], *, iscrowd: bool) -> Fault | None:
    """What is wrong with an annotation that has no segmentation: a crowd has its box instead, if that is sound."""
    if sound_box(entry.get("bbox")) is None:
        what = "it is a crowd with" if iscrowd else "it has"
        seen = f"{what} neither a segmentation nor a usable bbox ({show(entry.get('bbox'))}); masks are needed"
        return Fault("mask-missing", seen)
    if iscrowd:
        return None
    return Fault("mask-missing", "it has no segmentation, only a bbox; masks are needed", training_only=True)


def is_box(value: Any) -> TypeGuard[list[float]]:
    """A list of four finite numbers."""
    if type(value) is not list or len(value) != 4:
        return False
    if not _NUMBERS.issuperset(map(type, value)) and not all(map(is_number, value)):  # numpy's floats are numbers too
        return False
    try:
        return isfinite(sum(value))
    except OverflowError:  # a whole number beyond all floats
        return False


def sound_box(value: Any) -> tuple[float, float, float, float] | None:
    """A box as four floats; None unless it is a list of four finite numbers."""
    if not is_box(value):
        return None
    x, y, w, h = map(float, value)
    return x, y, w, h


def box_fault(entry: Mapping[str, Any]) -> Fault | None:
    """What is wrong with ``bbox``; one that is not there is no fault."""
    value = entry.get("bbox")
    if value is None:
        return None
    box = sound_box(value)
    if box is None:
        return Fault("box-invalid", f"its bbox is {show(value)}, not four finite numbers")
    if box[2] < 0 or box[3] < 0:
        return Fault("box-degenerate", f"its bbox {show(value)} is {show(box[2])} wide and {show(box[3])} high")
    return None


def area_fault(entry: Mapping[str, Any]) -> Fault | None:
    """What is wrong with ``area``; one that is not there is no fault."""
    area = entry.get("area")
    return None if area is None or is_number(area) else Fault("area-invalid", f"its area is {show(area)}")
