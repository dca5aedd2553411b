"""Where image files really are, found by one listing of each folder: links are followed, nothing else is touched."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from finemask.coco.image_names import FileNames, Meant
from finemask.datatools.check.document import Document, ImageRow


@dataclass(frozen=True, slots=True)
class Place:
    """Where the file of an image is.

    Args:
        row: the image.
        path: the file as the annotations name it.
        exists: whether there is a file.
        leads_to: the file outside the images folder that a link leads to; None for a file inside.
        meant: the one file that the name differs from by its spelling only, when it does not exist itself.
    """

    row: ImageRow
    path: Path
    exists: bool
    leads_to: str | None = None
    meant: Meant | None = None

    @property
    def is_sound(self) -> bool:
        """Whether the file is there and inside."""
        return self.exists and self.leads_to is None


def places_of(document: Document) -> Iterator[Place]:
    """The place of each image; nothing when the folder of images is not known."""
    if document.images_dir is None:
        return
    root = Path(os.path.realpath(document.images_dir))
    folders: dict[str, _Folder] = {}
    names: FileNames | None = None
    for row in document.images:
        name = PurePosixPath(row.file_name)
        parent = str(name.parent)
        if parent not in folders:
            folders[parent] = _Folder(root / parent, root)
        folder = folders[parent]
        path = document.images_dir / row.file_name
        if name.name not in folder.is_link:
            names = names or FileNames.below(root)
            yield Place(row, path, False, meant=names.meant_by(row.file_name))
        elif folder.leads_out or folder.is_link[name.name]:
            real = Path(os.path.realpath(path))
            exists = real.is_file()
            yield Place(row, path, exists, str(real) if exists and not real.is_relative_to(root) else None)
        else:
            yield Place(row, path, True)


class _Folder:
    """A listing of a folder.

    Attributes:
        leads_out: whether the folder itself is outside of the root.
        is_link: by name, whether an entry is a link; folders are left out.
    """

    def __init__(self, path: Path, root: Path) -> None:
        self.leads_out = not Path(os.path.realpath(path)).is_relative_to(root)
        self.is_link: dict[str, bool] = {}
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if not entry.is_dir(follow_symlinks=False):
                        self.is_link[entry.name] = entry.is_symlink()
        except (OSError, ValueError):
            return
