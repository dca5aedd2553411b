"""Instances as rows in files of so many each, Parquet or JSON lines: what other programs read a million images from."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from finemask.errors import MissingExtraError
from finemask.inference.instances import Instances
from finemask.inference.outputs.instance_table import CSV_COLUMNS
from finemask.ops.files.atomic_files import atomic_path, temporaries_in
from finemask.types import Category

Form: TypeAlias = Literal["parquet", "jsonl"]
_WriteRows: TypeAlias = Callable[[Path, Sequence[Sequence[Any]]], None]
MOST_ROWS = 100_000  # of a file
_TEXTS = frozenset({"image", "class", "counts"})
_WHOLE = frozenset({"image_id", "height_px", "width_px", "instance", "category_id", "area_px"})
ROW_COLUMNS = ("image", "image_id", "height_px", "width_px", *CSV_COLUMNS[1:], "counts")
"""What stands in the CSV, the size of the image and its id, and the mask: the ``counts`` of its compressed RLE."""


class RowShards:
    """``FORM/part-00000.FORM``, …: one row an instance.

    Args:
        output: folder of the run.
        form: of the files.
        most_rows: of a file; an image is in one file.
    """

    def __init__(self, output: Path, form: Form, most_rows: int = MOST_ROWS) -> None:
        self._folder, self._form, self._most_rows = output / form, form, most_rows

    @property
    def gathered(self) -> list[Path]:
        """None: how many files there will be is not known beforehand."""
        return []

    def open_file(self) -> _WriteRows:
        """What writes rows into a file.

        Raises:
            MissingExtraError: Parquet needs pyarrow.
        """
        return _parquet_writer() if self._form == "parquet" else _write_lines

    def part(self, instances: Instances) -> dict[str, Any]:
        """The rows of one image, without its id."""
        rows = [[*row[1:], _text(rle["counts"])] for row, rle in zip(instances.rows(), instances.rles, strict=True)]
        return {"image": instances.name, "size_hw": list(instances.image_size_hw), "rows": rows}

    def write(self, parts: Iterable[tuple[Any, int | None]], categories: Sequence[Category]) -> list[Path]:
        """Writes the files, each whole or not at all; one without rows, where nothing was found.

        Images that an annotation file does not have are in it without an id.
        """
        write = self.open_file()
        number = 0
        for number, rows in enumerate(self._filled(parts), start=1):
            self._write(write, number - 1, rows)
        if not number:
            number = 1
            self._write(write, 0, [])
        for path in self._folder.glob(f"part-*.{self._form}"):
            if path.name >= self._name(number):
                path.unlink()  # of an earlier run that found more
        for path, _ in temporaries_in(self._folder):
            path.unlink(missing_ok=True)
        return [self._folder]

    def _filled(self, parts: Iterable[tuple[Any, int | None]]) -> Iterator[list[list[Any]]]:
        """The rows of as many files as it takes."""
        rows: list[list[Any]] = []
        for part, image_id in parts:
            head = [part["image"], image_id, *part["size_hw"]]
            rows += ([*head, *row] for row in part["rows"])
            if len(rows) >= self._most_rows:
                yield rows
                rows = []
        if rows:
            yield rows

    def _write(self, write: _WriteRows, number: int, rows: list[list[Any]]) -> None:
        with atomic_path(self._folder / self._name(number)) as temporary:
            write(temporary, rows)

    def _name(self, number: int) -> str:
        return f"part-{number:05d}.{self._form}"


def _text(counts: str | bytes) -> str:
    return counts.decode() if isinstance(counts, bytes) else counts


def _write_lines(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(dict(zip(ROW_COLUMNS, row, strict=True)), ensure_ascii=False) + "\n")


def _parquet_writer() -> _WriteRows:
    """What writes rows as Parquet.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet", needed_for="save=parquet") from error

    def kind(name: str) -> Any:
        if name in _TEXTS:
            return pa.string()
        return pa.int64() if name in _WHOLE else pa.float64()

    schema = pa.schema([(name, kind(name)) for name in ROW_COLUMNS])

    def write(path: Path, rows: Sequence[Sequence[Any]]) -> None:
        columns = zip(*rows, strict=True) if rows else ([] for _ in ROW_COLUMNS)
        arrays = [pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)]
        pq.write_table(pa.table(arrays, schema=schema), path)

    return write
