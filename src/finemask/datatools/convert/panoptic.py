"""COCO's panoptic format: a PNG an image, whose colours are the ids of segments."""

from pathlib import Path, PurePosixPath
from typing import Any

from finemask.coco.coco_file import CocoDocument
from finemask.datatools.convert.label_map import masks_of, read_numbers
from finemask.datatools.convert.records import ImageRecord, Instance
from finemask.datatools.convert.source import Source, whole_number

_KEYS = ("id", "category_id", "iscrowd")


def is_panoptic(document: CocoDocument) -> bool:
    """Whether annotations hold segments instead of masks."""
    first = document["annotations"][:1]
    return any(isinstance(annotation, dict) and "segments_info" in annotation for annotation in first)


class PanopticImages:
    """Reads the segments of one annotation file.

    Things are taken, background classes (``isthing`` 0) left out; a file without any thing keeps all.

    Args:
        source: where the PNGs are.
        name: of the annotation file; the PNGs lie in the folder of that name beside it, as COCO has it.
        document: its content.
    """

    def __init__(self, source: Source, name: str, document: CocoDocument) -> None:
        self._source = source
        self._folder = PurePosixPath(name).with_suffix("").as_posix()
        categories = document["categories"]
        numbered = {whole_number(category.get("id")): category for category in categories}
        self._names = {number: str(category.get("name")).strip() for number, category in numbered.items()}
        self._things = {number for number, category in numbered.items() if category.get("isthing", 1)}
        if not self._things:
            self._things = set(self._names)
            source.notes.add("files without a class marked isthing=1, of which all classes are taken", name)

    def instances(self, annotation: dict[str, Any], image: ImageRecord) -> list[Instance] | None:
        """The instances of one image; None, noted, if its PNG is of no use."""
        file_name = str(annotation.get("file_name"))
        path = self._png(file_name)
        if path is None:
            self._source.notes.add("images left out whose panoptic PNG is not there", file_name)
            return None
        numbers = read_numbers(path)  # red × 65536 + …; COCO counts from the other end: id = red + green × 256 + …
        ids = (numbers >> 16) + (numbers & 0xFF00) + ((numbers & 0xFF) << 16)
        if numbers.shape != (image.height, image.width):
            self._source.notes.add("images left out whose panoptic PNG has another size", file_name)
            return None
        masks = masks_of(ids)
        found = []
        segments = annotation.get("segments_info")
        for segment in segments if isinstance(segments, list) else ():
            segment = {key: whole_number(segment.get(key)) for key in _KEYS} if isinstance(segment, dict) else {}
            if segment.get("category_id") not in self._things:
                self._source.notes.add("segments of background classes left out", file_name)
                continue
            rle = masks.get(segment["id"] or 0)
            if rle is None:
                self._source.notes.add(
                    "segments left out that the PNG does not show", f"{file_name} {segment.get('id')}"
                )
                continue
            name = self._names[segment["category_id"]]
            found.append(Instance(name, rle=rle, crowd=bool(segment["iscrowd"])))
        return found

    def _png(self, file_name: str) -> Path | None:
        path = self._source.inside(f"{self._folder}/{file_name}")
        if path.is_file():
            return path
        split = PurePosixPath(self._folder).name
        same = [name for name in self._source.images() if name.endswith(f"{split}/{file_name}")]
        return self._source.inside(same[0]) if len(same) == 1 else None
