"""Commands that are printed for the next step can be pasted, also where a path has blanks."""

import shlex

import pytest

from finemask import cli
from finemask.coco.coco_file import load_coco
from finemask.data.shapes import draw_shapes
from finemask.errors import DataError


@pytest.fixture
def root(tmp_path):
    return draw_shapes(tmp_path / "my shapes", images=4, size=64, seed=1)


def commands_in(text):
    """Words of every command in a text, from ``finemask`` to the end of its line."""
    return [
        shlex.split("finemask " + line.partition("finemask ")[2]) for line in text.splitlines() if "finemask " in line
    ]


def test_data_synth(tmp_path, capsys):
    assert cli.main(["data", "synth", f"output={tmp_path / 'my shapes'}", "images=4", "size=64"]) == 0
    assert commands_in(capsys.readouterr().out) == [["finemask", "train", f"data.root={tmp_path / 'my shapes'}"]]


def test_data_tile(root, tmp_path, capsys):
    files = ",".join(f"'{root}/annotations/{name}.json'" for name in ("train", "val"))
    words = [f"annotations=[{files}]", f"images={root}/images", f"output={tmp_path / 'my tiles'}", "size=64"]
    assert cli.main(["data", "tile", *words]) == 0
    assert ["finemask", "train", f"data.root={tmp_path / 'my tiles'}"] in commands_in(capsys.readouterr().out)


@pytest.mark.parametrize("splits", [("train", "val"), ("train",)])
def test_data_convert(root, tmp_path, capsys, splits):
    if "val" not in splits:
        (root / "annotations" / "val.json").unlink()
    made = tmp_path / "my data"
    assert cli.main(["data", "convert", f"source={root}", f"output={made}"]) == 0
    last = commands_in(capsys.readouterr().out)[-1]
    assert last[:3] == ["finemask", "train", f"data.root={made}"]


def test_what_is_no_annotation_file(tmp_path):
    path = tmp_path / "my file.json"
    path.write_text("{}")
    with pytest.raises(DataError) as caught:
        load_coco(path)
    assert shlex.split(caught.value.remedy)[:4] == ["finemask", "data", "check", f"annotations={path}"]
