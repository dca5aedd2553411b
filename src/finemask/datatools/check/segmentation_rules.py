"""Rules on what stands under ``segmentation``: most report what ``read_outlines`` has found."""

from collections.abc import Callable, Iterator

from finemask.coco.entries import sound_box
from finemask.datatools.check.document import Document
from finemask.datatools.check.problems import (
    Edit,
    Finding,
    RemoveEntry,
    RemoveKey,
    Rule,
    SetValue,
    about_annotation,
    each_document,
    error_rule,
)


def _fault_of(rule: str) -> Callable[[Document], Iterator[Finding]]:
    """A check that reports one kind of what ``read_outlines`` found."""

    def check(document: Document) -> Iterator[Finding]:
        for row in document.annotations:
            for fault in row.outline.faults if row.outline else ():
                if fault.rule == rule:
                    edit: Edit = RemoveEntry("annotations", row.position)
                    if fault.repaired is not None:
                        edit = SetValue("annotations", row.position, "segmentation", fault.repaired)
                    elif rule == "polygon-is-box" and row.bbox_xywh is not None:
                        edit = SetValue("annotations", row.position, "segmentation", [])  # its bbox says as much
                    yield about_annotation(document, row, fault.message, edit)

    return check


def _normalised(document: Document) -> Iterator[Finding]:
    if not document.is_normalised:
        return
    edits: list[Edit] = []
    for row in document.annotations:
        sides = (row.image.width, row.image.height)
        segmentation, bbox = row.entry.get("segmentation"), row.entry.get("bbox")
        if isinstance(segmentation, list) and segmentation:
            edits.append(SetValue("annotations", row.position, "segmentation", _scaled_polygons(segmentation, sides)))
            edits.append(RemoveKey("annotations", row.position, "bbox"))
            edits.append(RemoveKey("annotations", row.position, "area"))
        elif (box := sound_box(bbox)) is not None:
            (scaled,) = _scaled_polygons([list(box)], sides)
            edits.append(SetValue("annotations", row.position, "bbox", scaled))
    message = f"all coordinates of {len(document.annotations)} annotations lie between 0 and 1"
    yield Finding(message, document, edits=tuple(edits))


def _scaled_polygons(parts: list[list[float]], sides: tuple[int, int]) -> list[list[float]]:
    return [[round(value * sides[number % 2], 4) for number, value in enumerate(part)] for part in parts]


_REMOVES = "removes the annotation"
_REMOVES_PART = "removes the polygon, and the annotation if it has no other"


def _segmentation_rule(name: str, summary: str, effect: str, repair: str) -> Rule:
    return error_rule(name, summary, effect, each_document(_fault_of(name)), repair=repair)


RULES = (
    _segmentation_rule(
        "segmentation-invalid",
        "segmentation is a list of polygons, or run lengths with size and counts.",
        "Training cannot start: this is no mask.",
        _REMOVES,
    ),
    _segmentation_rule(
        "segmentation-text",
        "segmentation is a list or an object, not text that spells one.",
        "Training cannot start: text is no mask.",
        "reads the text",
    ),
    _segmentation_rule(
        "segmentation-nesting",
        "Polygons are nested as [[x0, y0, x1, y1, …], …], run lengths stand in no list.",
        "Training cannot start, or each number would be taken for a polygon.",
        "nests them properly; joins several run lengths to one",
    ),
    _segmentation_rule(
        "run-lengths-as-polygon",
        "No polygon consists of the counts of run lengths.",
        "Training cannot start, or the mask would be nonsense.",
        "writes them as run lengths",
    ),
    _segmentation_rule(
        "polygon-not-numbers",
        "Polygons hold numbers only.",
        "Training cannot start: this is no outline.",
        f"writes numbers that are text as numbers, else {_REMOVES_PART}",
    ),
    _segmentation_rule(
        "polygon-is-box",
        "No polygon has four numbers.",
        "pycocotools takes it for a box: the whole rectangle would be learned as the object.",
        "removes the polygon, and an annotation that has no other and no bbox",
    ),
    _segmentation_rule(
        "polygon-odd",
        "Polygons have an even number of numbers.",
        "x and y change places from the missing number on: the mask would be nonsense.",
        _REMOVES_PART,
    ),
    _segmentation_rule(
        "polygon-too-few-points",
        "Polygons have at least three points.",
        "Training cannot start: a point or a line covers nothing.",
        _REMOVES_PART,
    ),
    _segmentation_rule(
        "polygon-not-finite",
        "Coordinates are finite: no NaN, no infinity.",
        "The mask would be nonsense, or the program would crash.",
        _REMOVES_PART,
    ),
    _segmentation_rule(
        "polygon-far-away",
        "Coordinates are at most ten image sides away from the image.",
        "The mask would be a sliver that belongs to no object.",
        _REMOVES_PART,
    ),
    _segmentation_rule(
        "polygon-no-area",
        "The points of a polygon do not lie on one line.",
        "There is nothing to learn, and nothing can find it.",
        _REMOVES_PART,
    ),
    _segmentation_rule(
        "rle-size",
        "The size of run lengths is [height, width] of the image.",
        "The mask would be sheared across the image.",
        f"writes the size if it is missing or only height and width changed places, else {_REMOVES}",
    ),
    _segmentation_rule(
        "rle-counts",
        "Run lengths can be read and cover the image exactly.",
        "The mask would be nonsense, or the program would crash.",
        f"takes off Python's b'…', writes whole numbers as such, if that is all; else {_REMOVES}",
    ),
    error_rule(
        "coordinates-normalised",
        "Coordinates are pixels, not fractions of the image.",
        "Every object would be learned as the pixel in the upper left corner.",
        each_document(_normalised),
        repair="multiplies by width and height",
    ),
)
