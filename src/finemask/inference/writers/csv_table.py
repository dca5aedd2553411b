"""``predictions.csv``: one line an instance."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from finemask.inference.instances import Instances
from finemask.ops.files import write_text
from finemask.ops.rle import rle_area

COLUMNS = (
    "image",
    "instance",  # number within the image, from 1 on
    "class",
    "category_id",
    "score",
    "x_min_px",
    "y_min_px",
    "x_max_px",
    "y_max_px",
    "area_px",  # pixels of the mask
)


class CsvWriter:
    """Gathers lines and writes them at the end."""

    def __init__(self, output: Path) -> None:
        self._file = output / "predictions.csv"
        self._lines: list[str] = [csv_text([])]

    def add(self, instances: Instances, image_id: int | None) -> list[Path]:
        """Gathers the lines of one image."""
        self._lines.append(csv_text([instances], header=False))
        return []

    def finish(self) -> list[Path]:
        """Writes the table."""
        write_text(self._file, "".join(self._lines))
        return [self._file]


def csv_text(images: Iterable[Instances], *, header: bool = True) -> str:
    """The table as text, quoted where needed (RFC 4180, but lines end in a newline alone)."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    if header:
        table.writerow(COLUMNS)
    for instances in images:
        columns = zip(instances.to_coco(), instances.class_names, instances.boxes, strict=True)
        for number, (result, name, box) in enumerate(columns, start=1):
            corners = [round(float(side), 2) for side in box]
            area = rle_area(result["segmentation"])
            score = round(result["score"], 6)
            table.writerow([instances.name, number, name, result["category_id"], score, *corners, area])
    return buffer.getvalue()
