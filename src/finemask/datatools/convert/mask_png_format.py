"""Folders of mask pictures: one an instance, or one label map an image; and back.

Which files are masks is told by names of folders (``masks``, ``labels``, ``instances``, ``gtFine``, ``PedMasks``, …) or
ends of names (``1_mask.png``). A mask belongs to the image of the same name (``images/1.jpg``, ``masks/1.png``), or all
masks in a folder belong to the image that the folder is named after (``masks/1/0001_cat.png``) or lies beside
(``ID/images/ID.png``, ``ID/masks/*.png``, as in the Data Science Bowl 2018).
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from finemask.datatools.convert.output_folder import Output
from finemask.datatools.convert.records import Dataset, ImageRecord, Instance, names_used, number_categories
from finemask.datatools.convert.source_files import Source, read_categories, split_of
from finemask.errors import ConfigError, DataError
from finemask.ops.files.atomic_files import safe_file_name
from finemask.ops.rle import crop_to_rle, mask_to_rle, rle_to_mask
from finemask.types import Rle

CLASS_FACTOR = 1000  # Cityscapes and MOTS: class × 1000 + number

CITYSCAPES_THINGS = {
    24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 29: "caravan", 30: "trailer", 31: "train",
    32: "motorcycle", 33: "bicycle",
}  # fmt: skip
"""Classes of Cityscapes that have instances, by their ids."""

_MASK_FOLDER = re.compile(r"mask|label|instance|gtfine|ground_?truth|annotation|^gts?$|^seg", re.IGNORECASE)
_MASK_STEM = re.compile(
    r"[_\-.](gtFine_instanceIds|instanceIds|(cp_)?masks?|labels?|instances?|seg|gt)$", re.IGNORECASE
)
_IMAGE_FOLDER = re.compile(r"(image|img|photo|picture|input)s?$|^leftImg8bit$|^raw$|^x$", re.IGNORECASE)
_IMAGE_STEM = re.compile(r"[_\-](leftImg8bit|image|img|raw)$", re.IGNORECASE)
_LOSSLESS = (".png", ".tif", ".tiff", ".bmp", ".gif", ".webp")
_NO_CLASS = "object"
_IGNORED_CLASS = 10  # MOTS: 10000 marks regions to ignore


@dataclass(frozen=True, slots=True)
class _Pair:
    image: str
    label_map: str | None
    masks: tuple[str, ...]


def read_mask_png(source: Source) -> Dataset:
    """Reads a folder of images with masks.

    Raises:
        DataError: no mask belongs to any image.
        ConfigError: ``mask_values`` is none of auto, instance, class_instance.
    """
    if source.options.mask_values not in ("auto", "instance", "class_instance"):
        raise ConfigError(f"mask_values={source.options.mask_values}", remedy="It is auto, instance or class_instance.")
    known = read_categories(source)
    pairs = _pairs(source, empty_ones=bool(known))
    reader = _Reader(source, _slugs([category.name for category in known]), *_class_names(source, pairs))
    watched = source.watch(pairs, "reading masks")
    images = [record for pair in watched if (record := reader.image(pair)) is not None]
    if not known and not source.options.classes:
        _hint_at_names(source, images)
    order = [*source.options.classes, *(reader.names or {}).values()] if not known else []
    return Dataset(number_categories([*order, *names_used(images)], known), images)


def _hint_at_names(source: Source, images: list[ImageRecord]) -> None:
    """Says that pictures tell no names of classes, where a person could tell them."""
    for category in (instance.category for image in images for instance in image.instances):
        if category == _NO_CLASS:
            source.notes.add(f"objects called {_NO_CLASS!r}, for masks tell no class ('classes=[NAME]' names it)")
        elif re.fullmatch(r"class_\d+", category):
            what = "objects whose class is called after its number ('classes=[NAME,…]' names class 1, 2, …)"
            source.notes.add(what, category)


def looks_like_masks(source: Source) -> bool:
    """Whether masks can be told apart from images."""
    return any(pair.label_map or pair.masks for pair in _pairs(source, empty_ones=False, quiet=True))


@dataclass(slots=True)
class _Reader:
    source: Source
    slugs: dict[str, str]
    by_class: bool
    names: dict[int, str] | None  # by class number; None: classes have no names

    @property
    def only_class(self) -> str:
        """Of masks that tell no class."""
        return next(iter(self.source.options.classes), _NO_CLASS)

    def image(self, pair: _Pair) -> ImageRecord | None:
        instances: list[Instance] = []
        size: tuple[int, int] | None = None
        if pair.label_map is not None:
            numbers = read_label_map(self.source.inside(pair.label_map))
            size = (numbers.shape[0], numbers.shape[1])
            for number, rle in label_map_rles(numbers).items():
                instance = self._of_number(number, pair.label_map)
                if instance is not None:
                    instance.rle = rle
                    instances.append(instance)
        for name in pair.masks:
            numbers = read_label_map(self.source.inside(name))
            mask = numbers != 0
            if mask.any() and numbers[mask].min() != numbers.max():
                self.source.notes.add("masks of one instance that hold several numbers, taken as one", name)
            shape = (mask.shape[0], mask.shape[1])
            if size not in (None, shape):
                raise DataError(f"masks of one image differ in size: {size} and {shape}", where=self.source.root / name)
            size = shape
            if mask.any():
                category, crowd = self._of_file(name)
                instances.append(Instance(category, rle=mask_to_rle(mask), crowd=crowd))
            else:
                self.source.notes.add("empty masks left out", name)
        record = self.source.record(pair.image, self.source.inside(pair.image), size, split_of(pair.image))
        if record is not None:
            record.instances = instances
        return record

    def _of_number(self, number: int, where: str) -> Instance | None:
        if not self.by_class:
            return Instance(self.only_class)
        crowd = number < CLASS_FACTOR
        class_number = number if crowd else number // CLASS_FACTOR
        if self.names is None and class_number == _IGNORED_CLASS:
            self.source.notes.add("regions to ignore (10000) left out", where)
            return None
        name = f"class_{class_number}" if self.names is None else self.names.get(class_number)
        if name is None or (crowd and self.names is not CITYSCAPES_THINGS):
            self.source.notes.add("regions without instances (background classes) left out", where)
            return None
        return Instance(name, crowd=crowd)

    def _of_file(self, name: str) -> tuple[str, bool]:
        """Class and crowd flag of ``0001_cat.png`` and ``0002_cat.crowd.png``."""
        stem = _MASK_STEM.sub("", PurePosixPath(name).stem)
        plain = stem.removesuffix(".crowd")
        match = re.fullmatch(r"\d{1,6}_(.*[A-Za-z].*)", plain)
        if match and (match[1] in self.slugs or not _MASK_FOLDER.search(match[1])):
            return self.slugs.get(match[1], match[1]), plain != stem
        return self.only_class, plain != stem


def _class_names(source: Source, pairs: list[_Pair]) -> tuple[bool, dict[int, str] | None]:
    """Whether label maps hold class × 1000 + number, and the names of those classes."""
    maps = [pair.label_map for pair in pairs if pair.label_map]
    chosen = source.options.mask_values
    cityscapes = any(PurePosixPath(name).stem.endswith("instanceIds") for name in maps)
    if chosen == "instance" or (chosen == "auto" and not (maps and (cityscapes or _all_large(source, maps)))):
        return False, None
    lists = [name for name in source.files if PurePosixPath(name).name == "labels.txt"]
    names = source.options.classes or tuple(line for name in lists[:1] for line in source.lines_of(name) if line)
    if names:
        return True, dict(enumerate(names, start=1))
    return True, CITYSCAPES_THINGS if cityscapes else None


def _all_large(source: Source, maps: list[str]) -> bool:
    """Whether no number lies between background and 1000: plain label maps count from 1."""
    largest = 0
    for name in maps[:20]:
        numbers = read_label_map(source.inside(name))
        if ((numbers > 0) & (numbers < CLASS_FACTOR)).any():
            return False
        largest = max(largest, int(numbers.max(initial=0)))
    return CLASS_FACTOR <= largest < 2**16


def _pairs(source: Source, *, empty_ones: bool, quiet: bool = False) -> list[_Pair]:
    """Images with their masks, in the order of the images."""
    masks, images = _masks_and_images(source.images)
    by_key = {_key(name, _IMAGE_FOLDER, _IMAGE_STEM): name for name in images}
    by_folder: dict[str, list[str]] = {}
    for key, name in by_key.items():
        by_folder.setdefault(PurePosixPath(key).parent.as_posix(), []).append(name)
    label_maps: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    for mask in masks:
        key = _key(mask, _MASK_FOLDER, _MASK_STEM)
        folder = PurePosixPath(key).parent.as_posix()
        if key in by_key:
            label_maps[by_key[key]] = mask
        elif folder in by_key:
            groups.setdefault(by_key[folder], []).append(mask)
        elif len(by_folder.get(folder, ())) == 1:
            groups.setdefault(by_folder[folder][0], []).append(mask)
        elif not quiet:
            source.notes.add("masks without an image left out", mask)
    found = []
    for name in images:
        if name in label_maps or name in groups or empty_ones:
            found.append(_Pair(name, label_maps.get(name), tuple(groups.get(name, ()))))
        elif not quiet:
            source.notes.add("images without a mask left out", name)
    if not quiet and not any(pair.label_map or pair.masks for pair in found):
        raise DataError(
            f"none of {len(images)} images has a mask among {len(masks)} mask files",
            where=source.root,
            remedy="Masks are expected as masks/NAME.png beside images/NAME.jpg, or as masks/NAME/*.png",
        )
    return found


def _masks_and_images(names: list[str]) -> tuple[list[str], list[str]]:
    """Masks and images among pictures."""
    masks, images = [], []
    cityscapes = any(name.endswith("_instanceIds.png") for name in names)
    for name in names:
        path = PurePosixPath(name)
        in_mask_folder = any(_MASK_FOLDER.search(part) for part in path.parts[:-1])
        if cityscapes and in_mask_folder and not path.stem.endswith("instanceIds"):
            continue  # gtFine holds pictures for other tasks too
        if (in_mask_folder or _MASK_STEM.search(path.stem)) and name.lower().endswith(_LOSSLESS):
            masks.append(name)
        elif not in_mask_folder:
            images.append(name)
    return masks, images


def _key(name: str, folder_words: re.Pattern[str], stem_words: re.Pattern[str]) -> str:
    """A name without suffix, and without what tells images from masks."""
    path = PurePosixPath(name)
    folders = [part for part in path.parts[:-1] if not folder_words.search(part)]
    return PurePosixPath(*folders, stem_words.sub("", path.stem)).as_posix()


def read_label_map(path: Path) -> NDArray[np.int64]:
    """Reads a label map: a picture whose pixels are numbers.

    Args:
        path: grey of 1, 8, 16 or 32 bits, palette (the index counts, not the colour), or RGB, where every colour
            is a number: red × 65536 + green × 256 + blue.

    Returns:
        int64 [H, W].

    Raises:
        DataError: it cannot be read, or holds fractions.
    """
    try:
        with Image.open(path) as image:
            if image.mode in ("LA", "La"):
                values = np.asarray(image.convert("LA").convert("L"))
            elif image.mode in ("L", "P", "1", "F") or image.mode.startswith("I"):
                values = np.asarray(image)
            else:
                rgb = np.asarray(image.convert("RGB"), dtype=np.int64)
                return (rgb[..., 0] << 16) + (rgb[..., 1] << 8) + rgb[..., 2]
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        raise DataError(f"this mask cannot be read ({error})", where=path) from error
    numbers = values.astype(np.int64)
    if values.dtype.kind == "f" and not np.array_equal(numbers, values):
        raise DataError("this mask holds fractions, numbers of instances were expected", where=path)
    return numbers


def label_map_rles(numbers: NDArray[np.int64]) -> dict[int, Rle]:
    """Masks of a label map, one for every number but 0.

    Args:
        numbers: [H, W].

    Returns:
        Number to mask, ascending.
    """
    height, width = numbers.shape
    values, ranks = np.unique(numbers, return_inverse=True)
    ranks = ranks.reshape(numbers.shape)
    found = {}
    for rank, window in enumerate(ndimage.find_objects(ranks + 1)):
        value = int(values[rank])
        if value != 0 and window is not None:
            crop = ranks[window] == rank
            found[value] = crop_to_rle(crop, window[1].start, window[0].start, height, width)
    return found


def _slugs(names: list[str]) -> dict[str, str]:
    """What stands for each class in file names, both ways unique."""
    slugs: dict[str, str] = {}
    for name in names:
        plain = safe_file_name(name)
        slug, number = plain, 1
        while slug in slugs or not re.search("[A-Za-z]", slug):
            number += 1
            slug = f"{plain}-x{number}"
        slugs[slug] = name
    return slugs


def write_mask_png(dataset: Dataset, output: Output) -> None:
    """Writes ``images/NAME.jpg`` and ``masks/NAME/0001_CLASS.png``, 255 on the instance, in a folder a split.

    One file an instance keeps overlaps, which a label map cannot.
    """
    slugs = {name: slug for slug, name in _slugs([category.name for category in dataset.categories]).items()}
    splits = dataset.splits()
    for split, images in splits.items():
        prefix = f"{split}/" if any(image.split for image in images) else ""
        for image in output.watch(images, f"writing {split}"):
            stem = output.place_image(image, f"{prefix}images").rpartition(".")[0]
            for number, instance in enumerate(image.instances, start=1):
                if instance.is_box:
                    output.notes.add("boxes left out, which a picture of a mask cannot tell", image.name)
                    continue
                mask = rle_to_mask(instance.mask_rle(image.height, image.width))
                crowd = ".crowd" if instance.crowd else ""
                name = f"{prefix}masks/{stem}/{number:04d}_{slugs[instance.category]}{crowd}.png"
                output.write_picture(name, Image.fromarray(np.asarray(mask * 255, dtype=np.uint8)))
    output.write_categories(dataset.categories)
