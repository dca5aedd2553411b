"""Reading a source: its files, listed once and found by name, never outside its folder; XML; its list of categories."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from xml.etree.ElementTree import Element

from finemask.coco.entries import number_in_text, whole
from finemask.coco.image_names import FileNames
from finemask.datatools.convert.records import ImageRecord, Notes, Watch, unwatched
from finemask.errors import DataError
from finemask.ops.files.documents import parse_xml, read_bytes, read_json
from finemask.ops.images.image_kinds import image_suffixes, stored_size
from finemask.types import Category

MARKER = ".finemask-convert.json"
"""In a folder that a conversion wrote: the list of its files."""
PREVIEW = "preview.png"
CATEGORIES_FILE = "categories.json"
"""COCO's list of categories beside formats that know only names, or only numbers: written by conversions into them, so
that ids, order, supercategories and classes without objects come back."""

_SPLIT_WORDS = {
    "train": "train", "training": "train", "trn": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a reader may be told.

    Args:
        classes: names, for sources that have numbers only or nothing at all.
        attribute: the attribute that holds the class, in VIA files.
        mask_values: ``"auto"``, ``"instance"`` or ``"class_instance"`` (class × 1000 + number), in label maps.
        image_root: folder of the images, when it lies outside the source.
        crowds: which crowds become single objects, in COCO files: ``"keep"``, ``"objects"`` or ``"all"``.
        remove: whether annotations that cannot be used are left out of COCO files even where an image or a class loses
            its last one.
        with_images: whether images are wanted; without, their sizes are believed where the annotations say them.
    """

    classes: tuple[str, ...] = ()
    attribute: str | None = None
    mask_values: str = "auto"
    image_root: Path | None = None
    crowds: str = "keep"
    remove: bool = False
    with_images: bool = True


@dataclass
class Source:
    """A source that is being read.

    Args:
        path: file or folder, as the user gave it.
        options: what the user said about it.
        notes: gets what is left out.
        watch: shows how far it is.
    """

    path: Path
    options: ReadOptions = field(default_factory=ReadOptions)
    notes: Notes = field(default_factory=Notes)
    watch: Watch = unwatched
    root: Path = field(init=False)
    files: list[str] = field(init=False)
    _image_root: Path = field(init=False)

    def __post_init__(self) -> None:
        if not self.path.exists():
            raise DataError("there is no such file or folder", where=self.path, remedy="Check source=.")
        self.root = folder_of(self.path).resolve()
        self.files = list_files(self.root)
        chosen = self.options.image_root
        if chosen is not None and not chosen.is_dir():
            raise DataError("there is no such folder", where=chosen, remedy="Check image_root=.")
        self._image_root = self.root if chosen is None else chosen.resolve()

    def with_suffix(self, *suffixes: str) -> list[str]:
        """Files that end so, relative to the root; only the source itself, if it is a file."""
        if self.path.is_file():
            return [self.path.resolve().relative_to(self.root).as_posix()]
        return [name for name in self.files if name.lower().endswith(suffixes)]

    def inside(self, name: str) -> Path:
        """The file of a name relative to the root.

        Raises:
            DataError: it leads out of the root, by its name or through a link.
        """
        return _inside(self.root, name)

    def lines_of(self, name: str) -> list[str]:
        """The lines of a UTF-8 text file of the source, stripped."""
        return [line.strip() for line in self.inside(name).read_text(encoding="utf-8-sig").splitlines()]

    def find_image(self, name: str, *, near: str = "", split: str | None = None) -> Path | None:
        """The image that an annotation names.

        Looked for beside the annotation file, in the root, then anywhere below it: annotation files rarely say
        the folder.

        Args:
            name: as the annotation file has it; either kind of slash.
            near: folder of the annotation file, relative to the root.
            split: of several, the one in this split's folder is taken.

        Returns:
            The file; None if there is none, or several of which none is nearer.

        Raises:
            DataError: the name leads out of the source.
        """
        plain = name.replace("\\", "/")
        near = "" if near == "." else near
        if self.options.image_root is None:
            beside = _inside(self.root, f"{near}/{plain}" if near else plain)
            normal = PurePosixPath(os.path.normpath(plain))
            from_root = beside if normal.parts[:1] == ("..",) else _inside(self.root, plain)
            for path in (beside, from_root):
                if _is_file(path):
                    return path
            wanted = PurePosixPath(*(part for part in normal.parts if part != "..")).as_posix()
        else:
            path = self._image_root / plain
            if ".." not in PurePosixPath(plain).parts and _is_file(path):
                return path
            wanted = PurePosixPath(plain).name
        same = self._by_name.get(PurePosixPath(wanted).name, [])
        found = [file for file in same if file == wanted or file.endswith(f"/{wanted}")] or same
        found = found or self._spelt_otherwise(name)
        if len(found) > 1 and split is not None:
            found = [file for file in found if split_of(file) == split] or found
        if len(found) > 1 and near:
            found = [file for file in found if file.startswith(f"{near}/")] or found
        return _inside(self._image_root, found[0]) if len(found) == 1 else None

    def name_of(self, path: Path) -> str:
        """An image's name relative to the folder of images."""
        return path.relative_to(self._image_root).as_posix()

    @cached_property
    def images(self) -> list[str]:
        """All image files, relative to the root."""
        return _images_among(self.files)

    @cached_property
    def _findable(self) -> list[str]:
        """Images that annotations may mean, relative to the folder of images."""
        return self.images if self._image_root == self.root else _images_among(list_files(self._image_root))

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for file in self._findable:
            found.setdefault(PurePosixPath(file).name, []).append(file)
        return found

    @cached_property
    def _by_spelling(self) -> FileNames:
        return FileNames(self._findable)

    def _spelt_otherwise(self, name: str) -> list[str]:
        """The file that another system or tool has spelt so, if there is one."""
        # the usual folder is tried as well, since a name may lack it and be spelt in another way, too
        meant = self._by_spelling.meant_by(name) or self._by_spelling.meant_by(f"images/{name}")
        if meant is None:
            return []
        self.notes.add(f"names of images that differ from their files by {meant.cause}", f"{name} is {meant.file}")
        return [meant.file]

    def record(
        self,
        name: str,
        path: Path | None,
        stated_hw: tuple[int, int] | None = None,
        split: str | None = None,
        where: str | None = None,
    ) -> ImageRecord | None:
        """An image's record, without instances; None, noted, where its size cannot be told.

        Args:
            name: what the annotations call it, for an image that is not there.
            path: the file; None where there is none: then the annotations are believed.
            stated_hw: its size by the annotations, if they say one.
            split: of the image.
            where: the annotations, for the note.
        """
        if path is not None:
            size_hw = self.size_of(path, stated_hw)
            return None if size_hw is None else ImageRecord(self.name_of(path), *size_hw, path, split)
        if stated_hw is None:
            self.notes.add("annotated images that are not there left out", where or name)
            return None
        return ImageRecord(name, *stated_hw, None, split)

    def size_of(self, path: Path, stated_hw: tuple[int, int] | None = None) -> tuple[int, int] | None:
        """Height and width of the pixels that the annotations were made on; None, noted, if there is no telling.

        Args:
            path: the image.
            stated_hw: what the annotations say, if they do. It must be the file's size, upright or raw.
        """
        if stated_hw is not None and not self.options.with_images:
            return stated_hw
        try:
            raw_hw, orientation = stored_size(path)
        except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
            self.notes.add("images that cannot be read left out", f"{self.name_of(path)}: {error}")
            return None
        upright_hw = raw_hw[::-1] if orientation >= 5 else raw_hw
        if stated_hw in (None, upright_hw):
            return upright_hw
        if stated_hw == raw_hw:
            return raw_hw
        self.notes.add(
            "images left out whose size is not what their annotations say",
            f"{self.name_of(path)} is {raw_hw[1]} × {raw_hw[0]}, not {stated_hw[1]} × {stated_hw[0]}",
        )
        return None


def folder_of(path: Path) -> Path:
    """The folder that a source may read from: itself, or what an annotation file belongs to."""
    if path.is_dir():
        return path
    parent = path.resolve().parent
    return parent.parent if parent.name.lower() in ("annotations", "labels") else parent


def list_files(root: Path) -> list[str]:
    """Files below a folder, relative, sorted; hidden ones are left out, linked folders not followed.

    So is the preview of an earlier conversion: it is no image of the dataset.
    """
    ours = (root / MARKER).is_file()
    found: list[str] = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        inside = Path(folder).relative_to(root)
        found.extend((inside / name).as_posix() for name in files if not name.startswith("."))
    return sorted(name for name in found if not (ours and name == PREVIEW))


def _images_among(files: list[str]) -> list[str]:
    return [name for name in files if PurePosixPath(name).suffix.lower() in image_suffixes()]


def split_of(name: str | Iterable[str]) -> str | None:
    """The split that a path tells by a word of one of its folders: ``images/train2017/1.jpg`` is ``train``.

    Args:
        name: of a file, or words to look at.
    """
    parts = PurePosixPath(name).parts[:-1] if isinstance(name, str) else name
    for part in parts:
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in _SPLIT_WORDS:
                return _SPLIT_WORDS[word]
    return None


def whole_number(value: object) -> int | None:
    """A whole number, or text that spells one, also as ``"3.0"``; None for anything else."""
    return whole(number_in_text(value) if isinstance(value, str) else value)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long
        return False


def _inside(root: Path, name: str) -> Path:
    if not (PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or "\0" in name):
        path = Path(os.path.normpath(root / name))
        if path.is_relative_to(root) and path.resolve().is_relative_to(root):
            return path
    raise DataError(
        f"{name!r} leads out of the source folder, so it is not read",
        where=root,
        remedy="Give source= the folder that holds both annotations and images, or image_root= the images' folder",
    )


def read_categories(source: Source) -> list[Category]:
    """The categories in ``categories.json``; none if there is no such file, or something else of that name."""
    if CATEGORIES_FILE not in source.files:
        return []
    document = read_json(source.inside(CATEGORIES_FILE), "a list of categories")
    entries = document.get("categories") if isinstance(document, dict) else None
    try:
        return [
            Category(int(entry["id"]), str(entry["name"]), str(entry.get("supercategory") or ""))
            for entry in entries or []
        ]
    except (TypeError, KeyError, ValueError, AttributeError):
        return []


def read_xml(path: Path, what: str) -> Element:
    """Parses a file; see ``parse_xml``.

    Args:
        path: the file.
        what: what it should be, for messages.

    Raises:
        DataError: it cannot be read, is no XML, or declares a document type.
    """
    return parse_xml(read_bytes(path, what), path, what)


def text_of(element: Element, tag: str) -> str:
    """The text of a child, stripped; empty if there is none."""
    return (element.findtext(tag) or "").strip()
