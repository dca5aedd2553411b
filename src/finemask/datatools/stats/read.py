"""Opening the annotations as training does, with or without the folder of images."""

from pathlib import Path

from finemask.data.cache import read_packed
from finemask.data.index import CocoIndex


def read_index(annotations: Path, images_dir: Path | None) -> CocoIndex:
    """The packed index of a COCO file.

    Args:
        annotations: the file.
        images_dir: folder that its file names are relative to; None: nobody looks whether the images are there.

    Raises:
        DataError: anything that training would refuse.
    """
    if images_dir is not None:
        return CocoIndex.read(annotations, images_dir)
    packed, cache_file = read_packed(annotations, "auto")
    return CocoIndex(
        annotations_path=annotations,
        images_dir=Path(),
        categories=packed.categories,
        category_ids=[category.id for category in packed.categories],
        image_ids=packed.image_ids,
        heights=packed.heights,
        widths=packed.widths,
        first_annotation=packed.first_annotation,
        annotation_ids=packed.annotation_ids,
        labels=packed.labels,
        iscrowd=packed.iscrowd,
        segments=packed.segments,
        fingerprint=packed.fingerprint,
        packed_file_names=packed.file_names,
        cache_file=cache_file,
    )
