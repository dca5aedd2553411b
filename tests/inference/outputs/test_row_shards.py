"""Rows in files of so many each: the CSV's values, with the masks, in Parquet and JSON lines alike."""

import csv
import json
import sys

import numpy as np
import pytest
from inference_data import CATEGORIES, make_instances
from pycocotools import mask as coco_mask

from finemask.errors import MissingExtraError
from finemask.inference.outputs.row_shards import ROW_COLUMNS, RowShards
from finemask.inference.outputs.writers import open_writers


def images(number=5):
    chance = np.random.default_rng(0)
    for n in range(number):
        masks = chance.random((n, 20, 30)) > 0.5
        picture = chance.integers(0, 255, (20, 30, 3)).astype(np.uint8)
        yield make_instances(masks, [1 + k % 3 for k in range(n)], image=picture, name=f"sub/{n} ü.png")


def write(form, output, most_rows, found, ids=True):
    shards = RowShards(output, form, most_rows)
    parts = [json.loads(json.dumps(shards.part(one))) for one in found]
    numbered = ((part, number if ids else None) for number, part in enumerate(parts, start=1))
    assert shards.write(numbered, CATEGORIES) == [output / form]
    return sorted((output / form).iterdir())


def read(path):
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_rows_are_those_of_the_csv_with_the_masks(form, tmp_path):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    found = list(images())
    paths = write(form, tmp_path, 4, found)
    assert [path.name for path in paths] == [f"part-00000.{form}", f"part-00001.{form}"]
    shards = [read(path) for path in paths]
    assert [len(rows) for rows in shards] == [0 + 1 + 2 + 3, 4]
    rows = [row for shard in shards for row in shard]
    assert all(tuple(row) == ROW_COLUMNS for row in rows)
    lines = [found[0].to_csv(), *(one.to_csv().partition("\n")[2] for one in found)]
    table = list(csv.DictReader("".join(lines).splitlines()))
    assert [{name: "" if row[name] is None else str(row[name]) for name in table[0]} for row in rows] == table
    masks = [mask for one in found for mask in one.masks]
    for row, mask in zip(rows, masks, strict=True):
        rle = {"size": [row["height_px"], row["width_px"]], "counts": row["counts"].encode()}
        assert np.array_equal(coco_mask.decode(rle).astype(bool), mask)
    assert [row["image_id"] for row in rows] == [n + 1 for n in range(5) for _ in range(n)]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_files_of_an_earlier_run_do_not_stay_and_nothing_found_is_a_file_without_rows(form, tmp_path):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    assert len(write(form, tmp_path, 1, images())) == 4
    (tmp_path / form / f".part-00000-abcdefgh.{form}").write_bytes(b"half")  # of a run that was killed
    (path,) = write(form, tmp_path, 1, images(1))
    assert read(path) == []
    (path,) = write(form, tmp_path, 100, images(), ids=False)
    assert {row["image_id"] for row in read(path)} == {None}


def test_without_pyarrow_it_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'finemask\[parquet\]'"):
        open_writers(["parquet"], tmp_path)
    assert list(tmp_path.iterdir()) == []
