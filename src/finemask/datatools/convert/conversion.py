"""A whole conversion: recognise the format, read, leave out what finemask cannot use, write, draw a preview."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from finemask.datatools.check.problems import BOXES, CROWDS
from finemask.datatools.convert.coco_format import looks_like_coco, read_coco, write_coco
from finemask.datatools.convert.conversion_preview import draw_preview
from finemask.datatools.convert.cvat_format import read_cvat
from finemask.datatools.convert.labelme_format import read_labelme, write_labelme
from finemask.datatools.convert.mask_png_format import looks_like_masks, read_mask_png, write_mask_png
from finemask.datatools.convert.output_folder import Output
from finemask.datatools.convert.records import Dataset, ImageRecord, Instance, Notes, Watch, is_polygon, unwatched
from finemask.datatools.convert.source_files import PREVIEW, ReadOptions, Source
from finemask.datatools.convert.via_format import read_via
from finemask.datatools.convert.voc_format import read_voc
from finemask.datatools.convert.yolo_format import find_yaml, read_yolo, write_yolo
from finemask.errors import ConfigError, DataError
from finemask.ops.rle import rle_area

READERS: dict[str, Callable[[Source], Dataset]] = {
    "coco": read_coco,
    "yolo": read_yolo,
    "voc": read_voc,
    "labelme": read_labelme,
    "cvat": read_cvat,
    "via": read_via,
    "mask_png": read_mask_png,
}

WRITERS: dict[str, Callable[[Dataset, Output], None]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "labelme": write_labelme,
    "mask_png": write_mask_png,
}

FOLDER_A_SPLIT = frozenset({"yolo", "labelme", "mask_png"})
"""Formats whose images lie in a folder for each split, with a file of the image's name beside or parallel to each."""

_IMAGES = ("link", "copy", "none")
_MAX_PIXELS = 2**32  # COCO's run lengths are 32-bit
_LOOKED_AT = 20  # files of each kind: the first tell as much as all
_HEAD_BYTES = 65_536


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    Args:
        format: of the source.
        recognised_by: the file that told it; None where the user said it.
        dataset: as it was written.
        output: where it is, how many images were linked and copied.
        notes: what was left out, or chosen.
        num_boxes: objects that were boxes in the source.
        has_splits: whether the source has splits.
        preview: the picture; None if there are no images to show.
    """

    format: str
    recognised_by: str | None
    dataset: Dataset
    output: Output
    notes: Notes
    num_boxes: int
    has_splits: bool
    preview: Path | None = None

    @cached_property
    def instances(self) -> Counter[str]:
        """Instances of each category."""
        return Counter(instance.category for image in self.dataset.images for instance in image.instances)


def convert(
    source: Path,
    output: Path,
    *,
    format: str = "auto",
    to: str = "coco",
    images: str = "link",
    boxes: str = "keep",
    tolerance_px: float = 0.0,
    options: ReadOptions | None = None,
    watch: Watch = unwatched,
    preview: bool = True,
) -> Conversion:
    """Converts a dataset.

    Args:
        source: file or folder.
        output: folder to write; new, empty, or of an earlier conversion.
        format: of the source; ``"auto"`` looks.
        to: format to write.
        images: ``"link"``, ``"copy"`` or ``"none"``.
        boxes: what becomes of objects that have a box and no outline: ``"keep"`` (a box without a mask),
            ``"rectangle"`` (the rectangle as mask), ``"drop"``.
        tolerance_px: how far outlines made from masks may run from the exact ones.
        options: what readers may be told.
        watch: shows progress.
        preview: whether to draw ``preview.png``.

    Raises:
        ConfigError: a value that there is not.
        DataError: a source that cannot be used, or an output that holds something else.
    """
    options = replace(options or ReadOptions(), with_images=images != "none")
    for key, value, allowed in (
        ("format", format, ("auto", *READERS)),
        ("to", to, WRITERS),
        ("images", images, _IMAGES),
        ("boxes", boxes, BOXES),
        ("crowds", options.crowds, CROWDS),
    ):
        if value not in allowed:
            raise ConfigError(f"{key}={value} is not known", remedy=f"There is: {', '.join(allowed)}.")
    if not 0 <= tolerance_px < 100:
        raise ConfigError(f"tolerance_px={tolerance_px}", remedy="It is a number of px, 0 for exact outlines.")
    notes = Notes()
    opened = Source(source, options, notes, watch)
    _refuse_nested(opened.root, output)
    name, sign = (format, None) if format != "auto" else detect_format(opened)
    dataset = READERS[name](opened)
    _drop_impossible(dataset, notes)
    num_boxes = _settle_boxes(dataset, boxes)
    if images != "none":
        _drop_missing(dataset, notes)
    _refuse_nothing(dataset, opened, num_boxes)
    has_splits = _settle_splits(dataset, notes)
    target = Output(output, images, notes, watch, tolerance_px)
    target.open()
    groups = list(dataset.splits().values()) if to in FOLDER_A_SPLIT else [dataset.images]
    target.name_images(groups, by_stem=to in FOLDER_A_SPLIT)
    WRITERS[to](dataset, target)
    picture = draw_preview(dataset, name) if preview and images != "none" else None
    if picture is not None:
        target.write_picture(PREVIEW, picture)
    target.close()
    drawn = None if picture is None else output / PREVIEW
    return Conversion(name, sign, dataset, target, notes, num_boxes, has_splits, drawn)


def _drop_impossible(dataset: Dataset, notes: Notes) -> None:
    """Leaves out shapes and images that nothing could draw."""
    for image in dataset.images:
        sound = [instance for instance in image.instances if all(map(is_polygon, instance.polygons))]
        for _ in range(len(image.instances) - len(sound)):
            notes.add("shapes left out whose coordinates are not finite, or beyond a million px", image.name)
        image.instances = sound
    usable = []
    for image in dataset.images:
        if min(image.height, image.width) > 0 and image.height * image.width < _MAX_PIXELS:
            usable.append(image)
        else:
            notes.add("images left out whose size is impossible", f"{image.name}: {image.width} × {image.height}")
    dataset.images = usable


def _settle_boxes(dataset: Dataset, boxes: str) -> int:
    """Keeps, drops or turns into masks the objects that are boxes; how many there were."""
    found = [instance for image in dataset.images for instance in image.instances if instance.is_box]
    if boxes == "drop":
        for image in dataset.images:
            image.instances = [instance for instance in image.instances if not instance.is_box]
    elif boxes == "rectangle":
        for instance in found:
            instance.is_box = False
    return len(found)


def _drop_missing(dataset: Dataset, notes: Notes) -> None:
    """Leaves out images that are not there."""
    for image in dataset.images:
        if not image.has_pixels:
            notes.add("annotated images that are not there left out", image.name)
    dataset.images = [image for image in dataset.images if image.has_pixels]


def _refuse_nothing(dataset: Dataset, source: Source, num_boxes: int) -> None:
    """Refuses a conversion without images, or of which every object would be lost; a source may have no objects."""
    if not dataset.images:
        lines = "; ".join(source.notes.lines())
        links = sorted(path.name for path in source.root.iterdir() if path.is_symlink() and path.is_dir())
        where = f"{links[0]} is a link, which is not followed: image_root={source.root / links[0]}" if links else ""
        raise DataError(
            "nothing is left to convert" + (f": {lines}" if lines else ""),
            where=source.path,
            remedy=f"{where or 'image_root=DIR says where images lie'}; images=none converts the annotations alone",
        )
    found = [(image, instance) for image in dataset.images for instance in image.instances]
    if any(_is_visible(instance, image) for image, instance in found):
        return
    lost = [f"objects without a single pixel: {len(found):,}"] if found else []
    lost += [f"boxes without an outline, which boxes=drop leaves out: {num_boxes:,}"] if num_boxes and not found else []
    lost += [line for line in source.notes.lines() if "left out" in line]
    if lost:
        raise DataError(
            f"every object would be lost, so nothing is written: {'; '.join(lost)}",
            where=source.path,
            remedy="finemask reads outlines and masks; what else the source holds has to become one first",
        )


def _is_visible(instance: Instance, image: ImageRecord) -> bool:
    return instance.is_box or rle_area(instance.mask_rle(image.height, image.width)) > 0


def _settle_splits(dataset: Dataset, notes: Notes) -> bool:
    without = [image for image in dataset.images if image.split is None]
    if len(without) == len(dataset.images):
        return False
    for image in without:
        notes.add("images without a split taken for training", image.name)
        image.split = "train"
    return True


def _refuse_nested(root: Path, output: Path) -> None:
    target = output.resolve()
    if target == root or target.is_relative_to(root):
        raise DataError(
            "the output lies inside the source, and would be read as part of it the next time",
            where=output,
            remedy="Choose a folder beside the source with output=.",
        )


def detect_format(source: Source) -> tuple[str, str]:
    """Tells which format a source has, by its files and how they begin.

    Pictures of masks decide only where no annotation file does: many formats have such pictures too.

    Args:
        source: a file or folder.

    Returns:
        The format's name, and the file that gave it away.

    Raises:
        DataError: none is recognised, or several.
    """
    found: dict[str, str] = {}
    for name, file in _signs(source):
        found.setdefault(name, file)
    if "voc" in found and "SegmentationObject" in found["voc"]:
        found = {"voc": found["voc"]}  # its PNGs and lists look like other formats' too
    if not found and looks_like_masks(source):
        found["mask_png"] = "pictures of masks"
    if len(found) == 1:
        return next(iter(found.items()))
    if found:
        listed = "; ".join(f"{name} ({file})" for name, file in found.items())
        raise DataError(f"several formats are here: {listed}", where=source.path, remedy="Say which with format=.")
    raise DataError(
        f"no known format among {len(source.files):,} files",
        where=source.path,
        remedy="It can be coco, yolo, voc, labelme, cvat, via or mask_png; say which with format=.",
    )


def _signs(source: Source) -> Iterator[tuple[str, str]]:
    for name in source.with_suffix(".json")[:_LOOKED_AT]:
        head = _head(source, name)
        is_empty_via = all(key in head for key in (b'"filename"', b'"regions"', b'"file_attributes"'))
        if is_empty_via or re.search(rb'"_via_|"shape_attributes"', head):
            yield "via", name
        elif b'"shapes"' in head and re.search(rb'"(imagePath|imageData|version|flags)"', head):
            yield "labelme", name
        elif looks_like_coco(source, name):
            yield "coco", name
    for name in source.with_suffix(".csv")[:_LOOKED_AT]:
        if b"region_shape_attributes" in _head(source, name):
            yield "via", name
    for name in source.with_suffix(".xml")[:_LOOKED_AT]:
        tag = re.search(rb"<(annotations?)[\s>]", _head(source, name))
        if tag:
            yield ("cvat" if tag[1] == b"annotations" else "voc"), name
    if source.path.is_dir():
        masks = [name for name in source.files if "SegmentationObject" in PurePosixPath(name).parts]
        if masks:
            yield "voc", masks[0]
    # a single file is taken for YAML unless its name says otherwise: parsing JSON as YAML takes minutes
    yaml_name = None if source.path.suffix.lower() in (".json", ".xml", ".csv") else find_yaml(source)[0]
    label = yaml_name or next((name for name in _label_files(source) if _is_label(_head(source, name))), None)
    if label is not None:
        yield "yolo", label


def _label_files(source: Source) -> list[str]:
    stems = {PurePosixPath(name).stem for name in source.images}
    return [name for name in source.with_suffix(".txt") if PurePosixPath(name).stem in stems][:_LOOKED_AT]


def _is_label(head: bytes) -> bool:
    line = head.split(b"\n", 1)[0].split()
    return len(line) >= 5 and line[0].isdigit() and all(re.fullmatch(rb"-?[\d.]+(e-?\d+)?", word) for word in line)


def _head(source: Source, name: str) -> bytes:
    with source.inside(name).open("rb") as file:
        return file.read(_HEAD_BYTES)
