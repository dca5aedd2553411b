"""Results on tiles as results on the images that the tiles were cut from."""

from collections.abc import Iterable, Mapping
from typing import TypedDict

import numpy as np

from finemask.coco.coco_file import CocoDocument
from finemask.errors import DataError
from finemask.ops.images.tile_windows import boxes_from_tile, rle_from_tile
from finemask.types import CocoResult


class TileOf(TypedDict):
    """Where a tile lies in its source; ``tile_of`` of an image entry."""

    image_id: int
    file_name: str
    width: int  # px, of the source
    height: int
    x0: int  # px, of the tile's upper left corner in the source
    y0: int


def places_of_tiles(document: CocoDocument) -> dict[int, TileOf]:
    """Where each tile of a file lies, by image id of the tile.

    Args:
        document: an annotation file written by ``tile_files``.

    Raises:
        DataError: an image that is no tile.
    """
    for entry in document["images"]:
        if not isinstance(entry.get("tile_of"), dict):
            raise DataError(
                f"image id {entry.get('id')} ({entry.get('file_name')}) has no tile_of: it is not a tile",
                remedy="Give the annotation file that finemask data tile wrote",
            )
    return {entry["id"]: entry["tile_of"] for entry in document["images"]}


def results_to_source(results: Iterable[CocoResult], places: Mapping[int, TileOf]) -> list[CocoResult]:
    """Results on tiles as results on the whole images, pixel for pixel; what several tiles saw is there several times.

    Args:
        results: COCO results; ``image_id`` is that of a tile, masks are compressed RLE of the tile's size.
        places: from ``places_of_tiles``.
    """
    moved = []
    for result in results:
        place = places[result["image_id"]]
        x0, y0 = place["x0"], place["y0"]
        x, y = boxes_from_tile(np.array([[*result["bbox"][:2], 0.0, 0.0]]), x0, y0)[0, :2].tolist()
        whole = CocoResult(
            image_id=place["image_id"],
            category_id=result["category_id"],
            bbox=[x, y, *result["bbox"][2:]],
            score=result["score"],
        )
        if "segmentation" in result:
            whole["segmentation"] = rle_from_tile(result["segmentation"], x0, y0, place["height"], place["width"])
        moved.append(whole)
    return moved
