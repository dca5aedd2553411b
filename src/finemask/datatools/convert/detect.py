"""Which format a source holds, told by the files in it and how they begin."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from finemask.datatools.convert.coco import looks_like_coco
from finemask.datatools.convert.mask_png import looks_like_masks
from finemask.datatools.convert.source import Source
from finemask.datatools.convert.yolo import find_yaml
from finemask.errors import DataError

_LOOKED_AT = 20  # files of each kind: the first tell as much as all
_HEAD_BYTES = 65_536


def detect_format(source: Source) -> tuple[str, str]:
    """Tells the format.

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
        if re.search(rb'"_via_|"shape_attributes"', head) or _is_empty_via(head):
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
    yaml_name = find_yaml(source)
    label = yaml_name or next((name for name in _label_files(source) if _is_label(_head(source, name))), None)
    if label is not None:
        yield "yolo", label


def _label_files(source: Source) -> list[str]:
    stems = {PurePosixPath(name).stem for name in source.images()}
    return [name for name in source.with_suffix(".txt") if PurePosixPath(name).stem in stems][:_LOOKED_AT]


def _is_label(head: bytes) -> bool:
    line = head.split(b"\n", 1)[0].split()
    return len(line) >= 5 and line[0].isdigit() and all(re.fullmatch(rb"-?[\d.]+(e-?\d+)?", word) for word in line)


def _is_empty_via(head: bytes) -> bool:
    return b'"filename"' in head and b'"regions"' in head and b'"file_attributes"' in head


def _head(source: Source, name: str) -> bytes:
    with source.inside(name).open("rb") as file:
        return file.read(_HEAD_BYTES)
