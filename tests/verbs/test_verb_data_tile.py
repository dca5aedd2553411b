"""``finemask data tile`` as a person runs it."""

import json
from pathlib import Path

import pytest

from finemask.cli import main
from finemask.data.shapes import draw_shapes


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_shapes(tmp_path_factory.mktemp("data") / "shapes", images=6, size=128, seed=3, val_fraction=0.34)


def test_two_files_into_one_dataset(shapes, tmp_path, capsys):
    output = tmp_path / "tiles"
    files = f"annotations=[{shapes}/annotations/train.json,{shapes}/annotations/val.json]"
    assert main(["data", "tile", files, f"images={shapes}/images", f"output={output}", "size=64"]) == 0
    shown = capsys.readouterr()
    assert f"Train on them: finemask train data.root={output}\n" in shown.out
    assert "Tiles share at least 13 px with their neighbours" in shown.out
    assert f"wrote {output}/annotations/train.json" in shown.out
    train, val = (json.loads((output / f"annotations/{name}.json").read_text()) for name in ("train", "val"))
    rows = [line.split() for line in shown.out.splitlines()]
    tiles = next(row for row in rows if row[:1] == ["train"] and row[1:2] == ["4"])
    assert tiles[3] == str(len(train["images"])) == "36"
    assert next(row for row in rows if row[:1] == ["val"])[:4] == ["val", "2", "0", "18"]
    slivers = sum(bool(a["tile_of"].get("sliver")) for d in (train, val) for a in d["annotations"])
    assert slivers > 0
    assert f"{slivers} slivers, parts with less than 20 % of" in shown.out
    assert "written as crowd regions" in shown.out
    assert shown.err == ""


def test_one_file_that_says_no_split(shapes, tmp_path, capsys):
    alone = tmp_path / "fields.json"
    alone.write_bytes((shapes / "annotations/train.json").read_bytes())
    keys = [f"annotations={alone}", f"images={shapes}/images", f"output={tmp_path / 'out'}", "slivers=drop"]
    assert main(["data", "tile", *keys, "size=64", "overlap=0"]) == 0
    shown = capsys.readouterr().out
    assert "left out: their pixels count as background" in shown
    assert "Tiles do not overlap" in shown
    assert "finemask data split" in shown
    assert (tmp_path / "out/annotations/fields.json").is_file()
    assert not any(a["tile_of"].get("sliver") for a in read(tmp_path / "out/annotations/fields.json")["annotations"])


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_only_train_asks_for_val(shapes, tmp_path, capsys):
    keys = [f"annotations={shapes}/annotations/train.json", f"images={shapes}/images", f"output={tmp_path}"]
    assert main(["data", "tile", *keys, "size=1024"]) == 0
    shown = capsys.readouterr().out
    assert "Tile the validation set into the same folder, then: finemask train data.root=" in shown
    assert "model.min_size=1024" in shown
    assert "slivers, parts" not in shown  # nothing was cut


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["size=4"], "size cannot be 4. It is a whole number from 16 to"),
        (["overlap=1.5"], "overlap cannot be 1.5"),
        (["reader=opencv"], "reader cannot be 'opencv'. It is auto, pillow or vips"),
        (["images=nowhere"], "there is no such folder of images"),
        (["annotations=nowhere.json"], "nowhere.json: there is no such file"),
        (["sizes=64"], "sizes"),
    ],
)
def test_mistakes_end_with_2_and_a_remedy(shapes, tmp_path, capsys, keys, message):
    given = {"annotations": f"{shapes}/annotations/train.json", "images": f"{shapes}/images", "output": str(tmp_path)}
    given |= dict(key.split("=") for key in keys)
    assert main(["data", "tile", *(f"{key}={value}" for key, value in given.items())]) == 2
    shown = capsys.readouterr()
    assert message in " ".join(shown.err.split())
    assert "Traceback" not in shown.err
    assert list(tmp_path.iterdir()) == []


def test_every_key_is_explained(capsys):
    assert main(["data", "tile", "--help"]) == 0
    shown = capsys.readouterr().out
    for key in (
        "annotations",
        "images",
        "output",
        "size",
        "overlap",
        "min_visible",
        "slivers",
        "empty_tiles",
        "reader",
    ):
        assert f"  {key}=" in shown
