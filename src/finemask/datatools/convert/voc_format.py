"""Pascal VOC: ``JPEGImages``, ``Annotations``, ``SegmentationObject``, ``SegmentationClass`` and ``ImageSets``.

In ``SegmentationObject`` pixel value n is the n-th object of the XML file, 0 is background and 255 the unlabelled rim
that VOC draws round its objects: it belongs to none. PNGs are palettes or the palette's colours. An object's class is
that of its pixels in ``SegmentationClass``, where that is there and its classes are known, else the XML's.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from finemask.datatools.convert.mask_png_format import label_map_rles, read_label_map
from finemask.datatools.convert.records import Dataset, ImageRecord, Instance, names_used, number_categories, rectangle
from finemask.datatools.convert.source_files import Source, read_xml, split_of, text_of
from finemask.ops.images.image_kinds import image_suffixes

VOID = 255
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def read_voc(source: Source) -> Dataset:
    """Reads a VOC folder, or one XML file.

    Where ``SegmentationObject`` holds anything, only images with a PNG there, and those in
    ``ImageSets/Segmentation``, are taken; else every image with an XML file, with boxes alone.
    """
    layout = _Layout(source)
    stems = source.watch(layout.stems(), "reading annotations")
    images = [record for stem in stems if (record := layout.image(stem)) is not None]
    used, listed = names_used(images), [name for name in layout.class_names.values() if name]
    names = used if set(used) <= set(VOC_CLASSES) else [*listed, *used]
    return Dataset(number_categories(names), images)


@dataclass(slots=True)
class _Layout:
    source: Source
    xmls: dict[str, str] = field(default_factory=dict)
    objects: dict[str, str] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)
    class_names: dict[int, str] = field(default_factory=dict)  # by index in SegmentationClass
    splits: dict[str, str] = field(default_factory=dict)  # by stem

    def __post_init__(self) -> None:
        for name in self.source.files:
            path = PurePosixPath(name)
            folders = path.parts[:-1]
            if "SegmentationObject" in folders:
                self.objects[path.stem] = name
            elif "SegmentationClass" in folders:
                self.classes[path.stem] = name
            elif path.suffix.lower() == ".xml":
                self.xmls[path.stem] = name
            elif path.suffix.lower() in image_suffixes() and not any("Segmentation" in part for part in folders):
                self.pictures.setdefault(path.stem, name)
        if self.source.path.is_file():
            only = self.source.path.stem
            self.xmls = {only: self.source.path.resolve().relative_to(self.source.root).as_posix()}
        self.class_names = self._class_names()
        self.splits = self._read_splits()

    def stems(self) -> list[str]:
        """Images to take, and notes about those that have no annotation."""
        if self.source.path.is_file():
            return list(self.xmls)
        if not self.objects:
            return sorted(self.xmls)
        stems = set(self.objects)
        for stem in sorted(set(self.splits) - stems):
            if stem not in self.xmls:
                self.source.notes.add("images listed in ImageSets without an annotation left out", stem)
        for stem in sorted(set(self.xmls) - stems):
            self.source.notes.add("images with an XML file but nothing in SegmentationObject left out", stem)
        return sorted(stems)

    def _read_splits(self) -> dict[str, str]:
        """Split of each listed image; train, val and test before the lists that join them."""
        folder = "Segmentation" if self.objects else "Main"
        found: dict[str, str] = {}
        names = [name for name in self.source.files if name.endswith(".txt") and f"ImageSets/{folder}/" in f"/{name}"]
        for name in sorted(names, key=lambda name: PurePosixPath(name).stem not in ("train", "val", "test")):
            stem = PurePosixPath(name).stem
            if stem not in ("train", "val", "test", "trainval") and split_of([stem]) != stem:
                continue  # lists of one class: cat_train.txt
            for line in self.source.lines_of(name):
                if line:
                    found.setdefault(PurePosixPath(line.split()[0]).name, "train" if stem == "trainval" else stem)
        return found

    def image(self, stem: str) -> ImageRecord | None:
        """One image with its objects."""
        xml = read_xml(self.source.inside(self.xmls[stem]), "a VOC annotation file") if stem in self.xmls else None
        if xml is not None and xml.tag != "annotation":
            self.source.notes.add("XML files left out that are not VOC's", self.xmls[stem])
            return None
        file_name = text_of(xml, "filename") if xml is not None else ""
        path = self.source.inside(self.pictures[stem]) if stem in self.pictures else None
        if path is None and file_name:
            path = self.source.find_image(file_name)
        objects = self._numbers(self.objects[stem]) if stem in self.objects else None
        stated_hw = _stated_size(xml) if objects is None else (objects.shape[0], objects.shape[1])
        name = file_name or f"{stem}.jpg"
        record = self.source.record(name, path, stated_hw, self.splits.get(stem), where=stem)
        if record is None:
            return None
        if path is not None:
            record.split = record.split or split_of(record.name)
        boxes = [] if xml is None else list(_boxes(xml))
        record.instances = boxes if objects is None else self._masks(stem, objects, boxes)
        return record

    def _masks(self, stem: str, objects: NDArray[np.int64], boxes: list[Instance]) -> list[Instance]:
        known = {box.category for box in boxes}
        names = self.class_names
        if not names and known <= set(VOC_CLASSES):
            names = dict(enumerate(VOC_CLASSES, start=1))
        classes = self._numbers(self.classes[stem]) if stem in self.classes and names else None
        if classes is not None and classes.shape != objects.shape:
            classes = None
        instances = []
        masks = label_map_rles(np.where(objects == VOID, 0, objects))
        for number, rle in masks.items():
            listed = boxes[number - 1].category if number <= len(boxes) else None
            category = listed
            if classes is not None:
                inside = Counter(classes[objects == number].tolist())
                category = names.get(inside.most_common(1)[0][0]) or listed
            if category is None:
                self.source.notes.add("objects left out whose class nothing tells", f"{stem}, object {number}")
                continue
            if listed is not None and listed != category:
                self.source.notes.add("objects whose class differs in SegmentationClass (taken) and XML", stem)
            instances.append(Instance(category, rle=rle))
        return instances + [box for number, box in enumerate(boxes, start=1) if number not in masks]

    def _numbers(self, name: str) -> NDArray[np.int64]:
        path = self.source.inside(name)
        numbers = read_label_map(path)
        return palette_index(numbers) if _is_rgb(path) else numbers

    def _class_names(self) -> dict[int, str]:
        """From labelme's ``class_names.txt`` or CVAT's ``labelmap.txt``; none if there is neither."""
        for name in self.source.files:
            path = PurePosixPath(name)
            if path.name not in ("class_names.txt", "labelmap.txt"):
                continue
            lines = self.source.lines_of(name)
            if path.name == "class_names.txt":
                entries = [line for line in lines if line and line != "__ignore__"]
                return {number: entry for number, entry in enumerate(entries) if number}
            found = {}
            for line in lines:
                label, _, rest = line.partition(":")
                colour = rest.split(":")[0].split(",")
                if line.startswith("#") or len(colour) != 3 or label == "background":
                    continue
                red, green, blue = (int(value) for value in colour)
                code = np.array([(red << 16) + (green << 8) + blue], dtype=np.int64)
                found[int(palette_index(code)[0])] = label
            return found
        return {}


def _boxes(xml: Element) -> list[Instance]:
    """Objects of an XML file, as boxes. VOC counts pixels from 1, and the last one is inside."""
    boxes = []
    for element in xml.iterfind("object"):
        box = element.find("bndbox")
        name = text_of(element, "name")
        if box is None or not name:
            continue
        try:
            x0, y0, x1, y1 = (float(text_of(box, tag)) for tag in ("xmin", "ymin", "xmax", "ymax"))
        except ValueError:
            continue
        boxes.append(Instance(name, [rectangle(x0 - 1, y0 - 1, x1, y1)], is_box=True))
    return boxes


def _stated_size(xml: Element | None) -> tuple[int, int] | None:
    size = xml.find("size") if xml is not None else None
    try:
        height, width = (int(float(text_of(size, tag))) for tag in ("height", "width")) if size is not None else (0, 0)
    except (ValueError, OverflowError):
        return None
    return (height, width) if height > 0 and width > 0 else None  # some tools write 0


def palette_index(rgb: NDArray[np.int64]) -> NDArray[np.int64]:
    """The index that a colour has in Pascal VOC's palette; other colours give some number too.

    Args:
        rgb: as ``read_label_map`` gives it for RGB pictures.
    """
    index = np.zeros_like(rgb)
    for bit in range(8):  # bit 3 i + c of the index is bit 7 - i of channel c
        for channel, shift in enumerate((16, 8, 0)):
            place = 3 * (7 - bit) + channel
            if place < 8:
                index |= ((rgb >> (shift + bit)) & 1) << place
    return index


def _is_rgb(path: Path) -> bool:
    with Image.open(path) as image:
        return image.mode not in ("L", "P", "1", "F", "LA", "La") and not image.mode.startswith("I")
