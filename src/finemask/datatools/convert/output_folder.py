"""The output folder of a conversion: never over anything else; images linked or copied; all that is written listed."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

from finemask.datatools.convert.records import ImageRecord, Notes, Watch, unwatched
from finemask.datatools.convert.source_files import CATEGORIES_FILE, MARKER
from finemask.errors import DataError
from finemask.ops.files.atomic_files import atomic_path, copy_file, earlier_files, link_file, write_json, write_text
from finemask.types import Category


@dataclass(slots=True)
class Output:
    """Where a conversion writes.

    Args:
        root: the folder.
        images: ``"link"`` (hard links; copied where that is impossible), ``"copy"`` or ``"none"``.
        notes: gets what the format cannot hold.
        watch: shows how far it is.
        tolerance_px: how far outlines made from masks may run from the exact ones.
    """

    root: Path
    images: str = "link"
    notes: Notes = field(default_factory=Notes)
    watch: Watch = unwatched
    tolerance_px: float = 0.0
    linked: int = 0
    copied: int = 0
    written: list[str] = field(default_factory=list)
    _names: dict[int, str] = field(default_factory=dict)

    def open(self) -> None:
        """Makes the folder; takes away what an earlier conversion wrote there.

        Raises:
            DataError: it holds something else.
        """
        if self.root.exists() and not self.root.is_dir():
            raise DataError("this is a file, a folder is needed", where=self.root, remedy="Choose another output=.")
        marker = self.root / MARKER
        present = sorted(path.name for path in self.root.iterdir()) if self.root.is_dir() else []
        if present and MARKER not in present:
            shown = ", ".join(present[:4]) + (", …" if len(present) > 4 else "")
            raise DataError(
                f"this folder already holds something else: {shown}",
                where=self.root,
                remedy="Choose another folder with output=.",
            )
        for name in earlier_files(marker) or ():
            (self.root / name).unlink(missing_ok=True)
        self.root.mkdir(parents=True, exist_ok=True)
        write_json(marker, {"files": []})

    def close(self) -> None:
        """Writes down what was written, so that the next conversion into this folder can replace it."""
        write_json(self.root / MARKER, {"files": self.written})

    def name_images(self, groups: Iterable[Sequence[ImageRecord]], *, by_stem: bool) -> None:
        """Settles file names: those of the source, less the folders that all of a group share, each once.

        Args:
            groups: images that will lie in one folder.
            by_stem: whether names must differ before their suffix, because a file beside each image takes it.
        """
        for records in groups:
            shared = _shared_folders([PurePosixPath(record.name).parent.parts for record in records])
            taken: dict[str, Path | None] = {}
            for record in records:
                path = PurePosixPath(*PurePosixPath(record.name).parts[shared:])
                candidate, number = path, 1
                while True:
                    key = (candidate.with_suffix("") if by_stem else candidate).as_posix().lower()
                    if key not in taken or (record.path is not None and taken[key] == record.path):
                        break
                    number += 1
                    candidate = path.with_stem(f"{path.stem}_{number}")
                taken[key] = record.path
                self._names[id(record)] = candidate.as_posix()

    def name_of(self, record: ImageRecord) -> str:
        """The file name settled for an image."""
        return self._names[id(record)]

    def place_image(self, record: ImageRecord, folder: str) -> str:
        """Links or copies an image.

        Args:
            record: one that ``name_images`` has seen.
            folder: relative to the root.

        Returns:
            Its name, relative to the folder.
        """
        name = self.name_of(record)
        if self.images == "none" or not record.has_pixels:
            return name
        target = self.root / folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        self.written.append(f"{folder}/{name}")
        if self.images == "link" and record.path is not None and link_file(record.path, target):
            self.linked += 1
            return name
        if record.path is not None:
            copy_file(record.path, target)
        else:
            with atomic_path(target) as temporary:
                temporary.write_bytes(record.embedded or b"")
        self.copied += 1
        return name

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file."""
        write_text(self.root / name, text)
        self.written.append(name)

    def write_picture(self, name: str, picture: Image.Image) -> None:
        """Writes a PNG."""
        with atomic_path(self.root / name) as temporary:
            picture.save(temporary, compress_level=2)
        self.written.append(name)

    def write_categories(self, categories: Sequence[Category]) -> None:
        """Writes COCO's list of categories, for formats that know only names, or only numbers."""
        content = {"categories": [category._asdict() for category in categories]}
        self.write_text(CATEGORIES_FILE, json.dumps(content, indent=1, ensure_ascii=False))


def _shared_folders(folders: Sequence[tuple[str, ...]]) -> int:
    """Number of leading folders that all paths share."""
    first, last = min(folders, default=()), max(folders, default=())
    same = [a == b for a, b in zip(first, last, strict=False)]
    return same.index(False) if False in same else len(same)
