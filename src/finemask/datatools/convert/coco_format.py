"""COCO: annotation files of instances or panoptic segments, in COCO's layout or Roboflow's; and back."""

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from finemask.coco.coco_file import CocoDocument, is_standard, save_coco
from finemask.coco.entries import has_segmentation
from finemask.datatools.check.document import AnnotationRow, Document
from finemask.datatools.convert.coco_repairs import is_panoptic, read_repaired, with_true_name
from finemask.datatools.convert.mask_png_format import label_map_rles, read_label_map
from finemask.datatools.convert.output_folder import Output
from finemask.datatools.convert.records import Dataset, ImageRecord, Instance, rectangle
from finemask.datatools.convert.source_files import Source, split_of, whole_number
from finemask.errors import DataError
from finemask.ops.rle import rle_area, rle_box_xywh, rle_from_segmentation
from finemask.types import Category

_OTHER_TASKS = re.compile(r"caption|keypoint|stuff|image_info|unlabeled", re.IGNORECASE)
_OWN_KEYS = ("id", "file_name", "height", "width")


def read_coco(source: Source) -> Dataset:
    """Reads one annotation file, or all of a folder, each being a split.

    Raises:
        DataError: no annotation file, or two for one split; one that is none; entries that contradict one another.
    """
    reader = _Reader(source)
    images: list[ImageRecord] = []
    info: dict[str, Any] = {}
    for name, split in _annotation_files(source).items():
        document = read_repaired(source, name)
        kept = {key: document.raw.get(key) for key in ("info", "licenses")}
        info = info or {key: value for key, value in kept.items() if value and is_standard(value)}
        images += reader.images(name, split, document)
    ids = [image.id for image in images]
    if None in ids or len(set(ids)) < len(ids):  # ids stay if all have one and no two the same
        for image in images:
            image.id = None
    return Dataset(list(reader.categories.values()), images, info)


def _annotation_files(source: Source) -> dict[str, str | None]:
    """Annotation files and the split of each."""
    names = [name for name in source.with_suffix(".json") if looks_like_coco(source, name)]
    if len(names) > 1:
        names = [name for name in names if not _OTHER_TASKS.search(PurePosixPath(name).name)] or names
    if len(names) > 1:
        names = [name for name in names if "panoptic" not in PurePosixPath(name).name] or names
    if not names:
        raise DataError("no COCO annotation file is here", where=source.path, remedy="Give the JSON file as source=.")
    splits = {name: split_of([PurePosixPath(name).stem]) or split_of(PurePosixPath(name).parts[:-1]) for name in names}
    if len(names) > 1 and (None in splits.values() or len(set(splits.values())) < len(names)):
        raise DataError(
            f"several annotation files, and their names do not tell which split each is: {', '.join(names[:6])}",
            where=source.path,
            remedy="Give one of them as source=.",
        )
    return splits


def looks_like_coco(source: Source, name: str) -> bool:
    """Whether the beginning of a JSON file has the keys of an annotation file."""
    with source.inside(name).open("rb") as file:
        head = file.read(2**21)
    if b'"shapes"' in head[:4096] or b'"shape_attributes"' in head:
        return False
    return bool(re.search(rb'"(images|annotations)"\s*:\s*\[', head))


@dataclass(slots=True)
class _Reader:
    source: Source
    categories: dict[str, Category] = field(default_factory=dict)

    def images(self, name: str, split: str | None, document: Document) -> list[ImageRecord]:
        """The images of one file with their instances."""
        where, raw = self.source.root / name, document.raw
        names = self._categories(raw)
        records: dict[int | None, ImageRecord | None] = {}
        folder = PurePosixPath(name).parent.as_posix()
        for entry in self.source.watch(raw["images"], f"reading images of {PurePosixPath(name).name}"):
            record = self._image(with_true_name(entry), folder, split, f"{where}, image {entry.get('id')}")
            number = whole_number(entry.get("id"))
            if number is None or number in records:
                fault = "is no number" if number is None else "is there twice"
                raise DataError(f"image id {entry.get('id')} {fault}", where=where, remedy="Number images one by one")
            records[number] = record
        if is_panoptic(raw):
            self._read_segments(name, raw, records)
        else:
            for row in self.source.watch(document.annotations, "reading annotations"):
                image = records[row.image.id]
                if image is not None:
                    image.instances.append(_instance(row, names[row.category_id]))
        return [record for record in records.values() if record is not None]

    def _read_segments(self, name: str, raw: CocoDocument, records: dict[int | None, ImageRecord | None]) -> None:
        """Instances of a panoptic annotation file; images without a usable PNG become None."""
        panoptic = _Panoptic(self.source, name, raw["categories"])
        for annotation in self.source.watch(raw["annotations"], "reading annotations"):
            image_id = whole_number(annotation.get("image_id"))
            image = records.get(image_id)
            if image is not None:
                found = panoptic.instances(annotation, image)
                if found is None:
                    records[image_id] = None
                else:
                    image.instances += found
            elif image_id not in records:
                self.source.notes.add("annotations left out whose image is not in the file", annotation.get("id"))

    def _categories(self, document: CocoDocument) -> dict[int | None, str]:
        """Names by id; adds new ones to those of the other files."""
        entries = document["categories"]
        used = {whole_number(annotation.get("category_id")) for annotation in document["annotations"]}
        names: dict[int | None, str] = {}
        for entry in entries:
            name, number = str(entry.get("name") or "").strip(), whole_number(entry.get("id"))
            if not name or number is None:
                continue
            others = [other for other in entries if other is not entry]
            if number not in used and others and all(o.get("supercategory") == name for o in others):
                self.source.notes.add("class left out that only groups the others, as Roboflow writes it", name)
                continue
            names[number] = name
            if name in self.categories:
                continue
            taken = {category.id for category in self.categories.values()}
            if number in taken:
                number = max(taken, default=0) + 1
            self.categories[name] = Category(number, name, str(entry.get("supercategory") or ""))
        return names

    def _image(self, entry: dict[str, Any], folder: str, split: str | None, where: str) -> ImageRecord | None:
        file_name = entry.get("file_name")
        if not isinstance(file_name, str) or not file_name:
            raise DataError("'file_name' is missing", where=where)
        path = self.source.find_image(file_name, near=folder, split=split)
        height, width = whole_number(entry.get("height")), whole_number(entry.get("width"))
        stated = (height, width) if height and width else None
        if path is None and stated is None:
            raise DataError("'height' and 'width' are missing, and so is the image", where=where)
        name = PurePosixPath(file_name.replace("\\", "/")).as_posix()
        record = self.source.record(name, path, stated, split)
        if record is not None:
            record.id = whole_number(entry.get("id"))
            record.extra = {key: value for key, value in entry.items() if key not in _OWN_KEYS and is_standard(value)}
        return record


def _instance(row: AnnotationRow, category: str) -> Instance:
    segmentation = row.entry.get("segmentation") if has_segmentation(row.entry) else None
    if isinstance(segmentation, list):
        polygons = [[float(value) for value in part] for part in segmentation]
        return Instance(category, polygons, crowd=row.iscrowd)
    if segmentation is not None:
        rle = rle_from_segmentation(segmentation, row.image.height, row.image.width)
        return Instance(category, rle=rle, crowd=row.iscrowd)
    assert row.bbox_xywh is not None  # what has neither is repaired away
    x, y, w, h = row.bbox_xywh
    return Instance(category, [rectangle(x, y, x + w, y + h)], is_box=True, crowd=row.iscrowd)


def write_coco(dataset: Dataset, output: Output) -> None:
    """Writes ``images/`` and ``annotations/SPLIT.json``, as ``finemask train data.root=…`` takes them.

    Polygons stay polygons, masks become RLE; boxes, areas and annotation ids are made anew.
    """
    categories = [category._asdict() for category in dataset.categories]
    ids = {category.name: category.id for category in dataset.categories}
    number = 0
    for split, images in dataset.splits().items():
        entries: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image in output.watch(images, f"writing {split}"):
            number += 1
            image_id = image.id if image.id is not None else number
            name = output.place_image(image, "images")
            size = {"height": image.height, "width": image.width}
            entries.append({"id": image_id, "file_name": name, **size, **image.extra})
            for instance in image.instances:
                found = _shape(instance, image)
                if found is None:
                    output.notes.add("instances without a single pixel left out", image.name)
                else:
                    head = {"id": len(annotations) + 1, "image_id": image_id, "category_id": ids[instance.category]}
                    annotations.append({**head, "iscrowd": int(instance.crowd), **found})
        document = {**dataset.info, "images": entries, "annotations": annotations, "categories": categories}
        save_coco(output.root / "annotations" / f"{split}.json", document)
        output.written.append(f"annotations/{split}.json")


def _shape(instance: Instance, image: ImageRecord) -> dict[str, Any] | None:
    if instance.is_box:
        x0, y0, x1, y1 = instance.box_xyxy()
        x0, x1 = (min(max(value, 0.0), float(image.width)) for value in (x0, x1))
        y0, y1 = (min(max(value, 0.0), float(image.height)) for value in (y0, y1))
        if x0 >= x1 or y0 >= y1:
            return None
        box = [x0, y0, x1 - x0, y1 - y0]
        return {"bbox": box, "area": box[2] * box[3], "segmentation": []}
    rle = instance.mask_rle(image.height, image.width)
    area = rle_area(rle)
    if not area:
        return None
    segmentation: Any = instance.polygons if instance.rle is None else rle
    return {"bbox": rle_box_xywh(rle), "area": area, "segmentation": segmentation}


_KEYS = ("id", "category_id", "iscrowd")


class _Panoptic:
    """Segments of COCO's panoptic format: a PNG an image, whose colours are their ids.

    Things are taken, background classes (``isthing`` 0) left out; a file without any thing keeps all.

    Args:
        source: where the PNGs are.
        name: of the annotation file; the PNGs lie in the folder of that name beside it, as COCO has it.
        categories: of the file.
    """

    def __init__(self, source: Source, name: str, categories: list[dict[str, Any]]) -> None:
        self._source = source
        self._folder = PurePosixPath(name).with_suffix("").as_posix()
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
        numbers = read_label_map(path)  # red × 65536 + …; COCO counts from the other end: id = red + green × 256 + …
        ids = (numbers >> 16) + (numbers & 0xFF00) + ((numbers & 0xFF) << 16)
        if numbers.shape != (image.height, image.width):
            self._source.notes.add("images left out whose panoptic PNG has another size", file_name)
            return None
        masks = label_map_rles(ids)
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
        same = [name for name in self._source.images if name.endswith(f"{split}/{file_name}")]
        return self._source.inside(same[0]) if len(same) == 1 else None
