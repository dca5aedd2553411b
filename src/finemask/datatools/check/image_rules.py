"""Rules on what the file says about its images; whether that is true is asked in ``image_file_rules``."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finemask.coco.entries import file_name_fault, image_faults, show, size_hw, whole_in_text
from finemask.coco.image_names import FileNames
from finemask.datatools.check.document import Document
from finemask.datatools.check.problems import (
    Edit,
    Finding,
    RemoveEntry,
    SetValue,
    about_entry,
    about_image,
    each_document,
    error_rule,
)
from finemask.ops.images.image_kinds import stored_size


def _faulty_entries(document: Document, rule: str) -> Iterator[tuple[int, dict[str, Any], str]]:
    """Position, entry and message for each image that a rule finds fault with; those without an id have their own."""
    for position, entry in document.objects("images"):
        if "id" in entry:
            for fault in image_faults(entry):
                if fault.rule == rule:
                    yield position, entry, fault.message


def _file_name_invalid(document: Document) -> Iterator[Finding]:
    for position, _, message in _faulty_entries(document, "file-name-invalid"):
        yield about_entry(document, "images", position, message, RemoveEntry("images", position))


def _file_name_leaves_folder(document: Document) -> Iterator[Finding]:
    names: FileNames | None = None
    for position, entry, message in _faulty_entries(document, "file-name-leaves-folder"):
        if names is None:
            names = FileNames.below(document.images_dir) if document.images_dir is not None else FileNames([])
        inside = _name_inside(document, names, entry["file_name"])
        edit: Edit = RemoveEntry("images", position)
        if inside is not None:
            edit = SetValue("images", position, "file_name", inside)
        yield about_entry(document, "images", position, message, edit)


def _name_inside(document: Document, names: FileNames, name: str) -> str | None:
    """The same file, named from the images folder, if it lies there and no other image is called so."""
    if document.images_dir is None:
        return None
    folder = document.images_dir.absolute()
    wanted = Path(name)
    if wanted.is_absolute() and wanted.is_relative_to(folder) and ".." not in wanted.parts:
        return wanted.relative_to(folder).as_posix()
    meant = names.meant_by(name)
    taken = meant is None or any(entry.get("file_name") == meant.file for _, entry in document.objects("images"))
    return None if meant is None or taken else meant.file


def _image_size_invalid(document: Document) -> Iterator[Finding]:
    for position, entry, message in _faulty_entries(document, "image-size-invalid"):
        yield about_entry(document, "images", position, message, *_size_edits(document, position, entry))


def _size_edits(document: Document, position: int, entry: dict[str, Any]) -> tuple[Edit, ...]:
    """The size that is written as text, or else that of the file, if there is but one answer."""
    written = {"height": whole_in_text(entry.get("height")), "width": whole_in_text(entry.get("width"))}
    if size_hw(written) is None:
        size = _size_of_file(document, entry.get("file_name"))
        if size is None:
            return ()
        written = {"height": size[0], "width": size[1]}
    return tuple(SetValue("images", position, key, value) for key, value in written.items())


def _size_of_file(document: Document, name: Any) -> tuple[int, int] | None:
    """Height and width of an image file, read off its header; None if it is unreadable or rotated by EXIF."""
    if document.images_dir is None or file_name_fault({"file_name": name}) is not None:
        return None
    try:
        size_hw, orientation = stored_size(document.images_dir / name)
        return size_hw if orientation < 5 else None
    except Exception:  # Pillow's format plugins raise nearly anything on damaged files
        return None


def _file_name_repeated(document: Document) -> Iterator[Finding]:
    by_name = defaultdict(list)
    for row in document.images:
        by_name[row.file_name].append(row)
    for name, (first, *others) in by_name.items():
        for row in others:
            message = f"{show(name)} is also image {first.id}"
            if (row.height, row.width) != (first.height, first.width):
                yield about_image(document, row, f"{message}, with another size")
                continue
            referring = document.references.get(("image_id", row.id), [])
            edits = [SetValue("annotations", position, "image_id", first.id) for position in referring]
            yield about_image(document, row, message, RemoveEntry("images", row.position), *edits)


RULES = (
    error_rule(
        "file-name-invalid",
        "Each image has a file_name.",
        "Training cannot start: there is no picture to learn from.",
        each_document(_file_name_invalid),
        repair="removes the image and its annotations",
    ),
    error_rule(
        "file-name-leaves-folder",
        "File names stay inside the images folder: no '..', no absolute path, no drive letter.",
        "Training cannot start: a dataset from elsewhere could read any file of this machine.",
        each_document(_file_name_leaves_folder),
        repair="names the file from the images folder if it lies there; else removes the image and its annotations",
    ),
    error_rule(
        "file-name-repeated",
        "No two images have the same file.",
        "Objects annotated under one of the ids would be learned as background under the other.",
        each_document(_file_name_repeated),
        repair="joins their annotations if the sizes agree",
    ),
    error_rule(
        "image-size-invalid",
        "Height and width of each image are whole positive numbers.",
        "Training cannot start: masks and boxes cannot be placed.",
        each_document(_image_size_invalid),
        repair="writes the size of the file, unless EXIF rotates it",
    ),
)
