"""Lists of paths in Parquet; those in text files are among the sources."""

import pytest
from PIL import Image

from finemask.errors import DataError
from finemask.inference.content.path_lists import entries_of
from finemask.inference.sources import is_single, list_items

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def table(file, columns):
    pq.write_table(pa.table(columns), file, row_group_size=2)
    return file


@pytest.mark.parametrize(
    "columns",
    [
        {"path": ["a.png", "b/c.png", None, "d.png"]},
        {"class": ["x", "y", "z", "w"], "path": ["a.png", "b/c.png", "", "d.png"]},
        {"size": [1, 2, 3], "address": ["a.png", "b/c.png", "d.png"]},
        {"image": pa.array(["a.png", "b/c.png", "d.png"], pa.large_string()), "note": ["", "", ""]},
    ],
)
def test_the_column_of_paths_is_found(tmp_path, columns):
    assert list(entries_of(table(tmp_path / "list.parquet", columns))) == ["a.png", "b/c.png", "d.png"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"left": ["a"], "right": ["b"]}, "its columns of text are left, right"),
        ({"number": [1]}, "its columns of text are none"),
    ],
)
def test_a_table_without_one_is_refused(tmp_path, columns, message):
    with pytest.raises(DataError, match=message):
        list(entries_of(table(tmp_path / "list.parquet", columns)))


def test_what_is_no_table_is_said(tmp_path):
    (tmp_path / "list.parquet").write_bytes(b"no table")
    for name, message in (("list.parquet", "not a table of paths"), ("gone.parquet", "no such file")):
        with pytest.raises(DataError, match=message):
            list(entries_of(tmp_path / name))


def test_paths_are_those_of_a_text_file(tmp_path, monkeypatch):
    """Beside where one stands, or beside the list; each under a name of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "sub/b.png", "sub/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    entries = ["a.png", "b.png", str(tmp_path / "sub" / "a.png"), "https://example.org/x.jpg"]
    (tmp_path / "sub" / "list.txt").write_text("\n".join(entries))
    table(tmp_path / "sub" / "list.parquet", {"path": entries})
    listed = [list_items(f"sub/list.{suffix}") for suffix in ("txt", "parquet")]
    assert listed[0] == listed[1]
    assert [item.name for item in listed[1]] == ["a.png", "b.png", "a_png.png", "x.jpg"]
    assert not is_single("sub/list.parquet")
