"""What a COCO file holds besides outlines, so that licences and people's own keys survive tiling."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finemask.ops.json_file import parse_json, read_bytes

_OWN_IMAGE_KEYS = {"id", "file_name", "width", "height", "tile_of"}
_OWN_ANNOTATION_KEYS = {"id", "image_id", "category_id", "segmentation", "bbox", "area", "iscrowd", "tile_of"}
_COORDINATES = {"keypoints", "num_keypoints"}  # would be wrong in a tile
_WHAT = "a COCO annotation file"


@dataclass(frozen=True)
class SourceEntries:
    """Keys that tiles take over from their source.

    Args:
        head: everything but the images and annotations.
        images: further keys of an image, by image id.
        annotations: further keys of the annotations of an image, by image id, in the order of the file.
    """

    head: dict[str, Any]
    images: dict[int, dict[str, Any]]
    annotations: dict[int, list[dict[str, Any]]]

    def of_image(self, image_id: int) -> dict[str, Any]:
        """Further keys of an image."""
        return self.images.get(image_id, {})

    def of_annotation(self, image_id: int, k: int) -> dict[str, Any]:
        """Further keys of the ``k``-th annotation of an image."""
        return self.annotations[image_id][k]


def read_source_entries(path: Path) -> SourceEntries:
    """Reads a file that ``CocoIndex.read`` has accepted; outlines are let go while it is parsed.

    Raises:
        DataError: it cannot be read any more.
    """
    document = parse_json(read_bytes(path, _WHAT), path, _WHAT, object_hook=_without_outline)
    images = {int(entry["id"]): _others(entry, _OWN_IMAGE_KEYS) for entry in document.pop("images")}
    annotations: dict[int, list[dict[str, Any]]] = {}
    for entry in document.pop("annotations"):
        others = _others(entry, _OWN_ANNOTATION_KEYS | _COORDINATES)
        annotations.setdefault(int(entry["image_id"]), []).append(others)
    return SourceEntries(document, images, annotations)


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    entry.pop("segmentation", None)
    return entry


def _others(entry: dict[str, Any], known: set[str]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in known}
