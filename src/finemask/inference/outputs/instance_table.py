"""Instances as rows of a table: class and score, box, sizes and colours; as CSV and as a data frame of pandas."""

import colorsys
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finemask.ops.rle import rle_to_crop
from finemask.types import CocoResult


class InstanceRow(NamedTuple):
    """One instance. Positions are in px from the image's upper left corner: its first pixel is from 0 to 1.

    Args:
        image: name of the image.
        instance: number within the image, from 1 on.
        class_name: of its category; the column is called ``class``.
        category_id: as in ``predictions.json``.
        score: 0..1.
        x_min_px: of the box.
        y_min_px: of the box.
        x_max_px: of the box.
        y_max_px: of the box.
        area_px: pixels of the mask.
        perimeter_px: length of the mask's outlines, holes included, by Crofton's formula in four directions: within
            5 % for round things of 15 px and more; squares that stand upright come out 5 % short.
        centroid_x_px: middle of the mask's pixels; None without any.
        centroid_y_px: middle of the mask's pixels; None without any.
        mean_red: mean over the mask's pixels, 0..255; None without any, or without the image.
        mean_green: as ``mean_red``.
        mean_blue: as ``mean_red``.
        hue_degrees: of that mean colour, 0..360.
        saturation: of that mean colour, 0..1.
        value: of that mean colour, 0..1.
        drift: of its image, how unlike the training images that is: above 1 it is; None: not known.
    """

    image: str
    instance: int
    class_name: str
    category_id: int
    score: float
    x_min_px: float
    y_min_px: float
    x_max_px: float
    y_max_px: float
    area_px: int
    perimeter_px: float
    centroid_x_px: float | None
    centroid_y_px: float | None
    mean_red: float | None
    mean_green: float | None
    mean_blue: float | None
    hue_degrees: float | None
    saturation: float | None
    value: float | None
    drift: float | None


CSV_COLUMNS = tuple(name.removesuffix("_name") for name in InstanceRow._fields)


def instance_rows(
    name: str,
    results: Sequence[CocoResult],
    class_names: Sequence[str],
    boxes: NDArray[np.float32],
    image: NDArray[np.uint8] | None,
    drift: float | None = None,
) -> Iterator[InstanceRow]:
    """The rows of one image.

    Args:
        name: of the image.
        results: N entries of a results file.
        class_names: N names.
        boxes: [N, 4], xyxy px.
        image: uint8 [H, W, 3] RGB, for the colours.
        drift: of the image.
    """
    of_image = None if drift is None else round(drift, 3)
    columns = zip(results, class_names, boxes, strict=True)
    for number, (result, class_name, box) in enumerate(columns, start=1):
        mask, x0, y0 = rle_to_crop(result["segmentation"])
        rows, across = np.nonzero(mask)
        area = len(rows)
        colour: list[float] | None = None
        if image is not None and area:
            pixels = image[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]][mask]
            colour = [float(mean) for mean in pixels.mean(axis=0)]
        values: list[Any] = [name, number, class_name, result["category_id"], round(result["score"], 6)]
        values += [round(float(side), 2) for side in box]
        values += [area, round(perimeter(mask), 2)]
        middle = (x0 + float(across.mean()) + 0.5, y0 + float(rows.mean()) + 0.5) if area else None
        values += [None, None] if middle is None else [round(place, 2) for place in middle]
        values += [*_colour_columns(colour), of_image]
        yield InstanceRow(*values)


def perimeter(mask: NDArray[np.bool_]) -> float:
    """Length of a mask's outlines, by Crofton's formula: how often lines in four directions cross them.

    Args:
        mask: bool [h, w].
    """
    padded = np.pad(mask, 1)
    crossings = [
        np.count_nonzero(padded[:, 1:] != padded[:, :-1]),
        np.count_nonzero(padded[1:] != padded[:-1]),
        np.count_nonzero(padded[1:, 1:] != padded[:-1, :-1]) / np.sqrt(2),  # these lines lie closer
        np.count_nonzero(padded[1:, :-1] != padded[:-1, 1:]) / np.sqrt(2),
    ]
    return float(np.pi / 8 * sum(crossings))


def _colour_columns(colour: Sequence[float] | None) -> list[Any]:
    if colour is None:
        return [None] * 6
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in colour))
    return [*(round(channel, 2) for channel in colour), round(360 * hue, 1), round(saturation, 4), round(value, 4)]


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with a header; only what needs quotes has them, and what is not known is empty."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    return buffer.getvalue()


def data_frame(rows: Iterable[InstanceRow]) -> Any:
    """The same rows as a ``pandas.DataFrame``, with the columns of the CSV.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    from finemask.errors import MissingExtraError

    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError("pandas", "tables", needed_for="to_dataframe()") from error
    return pd.DataFrame.from_records(list(rows), columns=list(CSV_COLUMNS))
