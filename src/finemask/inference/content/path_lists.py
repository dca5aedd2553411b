"""Lists of paths and addresses: text files, one a line, and tables in Parquet."""

from collections.abc import Iterator
from pathlib import Path

from finemask.errors import DataError, MissingExtraError

LIST_SUFFIXES = frozenset({".txt", ".parquet"})
_COLUMNS = ("path", "image", "file_name", "url", "uri")  # of a table; one of these, or its only column of text


def entries_of(path: Path) -> Iterator[str]:
    """The paths and addresses that a list holds.

    Args:
        path: a text file (``#`` starts a comment), or a Parquet file, which is read piece by piece.

    Raises:
        DataError: it is none, or it is not clear in which of its columns they stand.
        MissingExtraError: Parquet needs pyarrow.
    """
    if not path.exists():
        raise DataError("no such file", where=path, remedy="Check the path.")
    yield from _of_parquet(path) if path.suffix.lower() == ".parquet" else _of_text(path)


def _of_text(path: Path) -> Iterator[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"not a list of paths ({error})", where=path) from error
    for line in lines:
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield entry


def _of_parquet(path: Path) -> Iterator[str]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet", needed_for=f"source={path}") from error
    try:
        with pq.ParquetFile(path) as table:
            schema = table.schema_arrow
            texts = [one.name for one in schema if pa.types.is_string(one.type) or pa.types.is_large_string(one.type)]
            named = [name for name in _COLUMNS if name in texts] or texts
            if not named or (len(named) > 1 and named[0] not in _COLUMNS):
                has = ", ".join(texts) or "none"
                raise DataError(
                    f"no column of paths: its columns of text are {has}",
                    where=path,
                    remedy=f"Call it {_COLUMNS[0]}.",
                )
            for batch in table.iter_batches(columns=[named[0]]):
                yield from (entry for entry in batch.column(0).to_pylist() if entry)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a table of paths ({error})", where=path) from error
