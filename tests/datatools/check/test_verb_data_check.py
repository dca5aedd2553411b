"""``finemask data check`` as a person types it: what it prints, writes, refuses, and its exit code."""

import json

import pytest
from faults import clean_scene, spoilt

from finemask.cli import main as cli


@pytest.fixture
def clean(tmp_path):
    return clean_scene(tmp_path / "set")


def check(scene, *words, names=("train",)):
    paths = [str(path) for path in scene.paths if path.stem in names]
    value = paths[0] if len(paths) == 1 else f"[{','.join(paths)}]"
    return cli(["data", "check", f"annotations={value}", *words])


def test_a_clean_file_is_a_short_answer(clean, capsys):
    assert check(clean) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f"6 images, 19 annotations, 3 classes; images in {clean.images_dir}")
    assert lines[1] == "    1 crowd, which is not learned and not measured: stem 1"
    assert lines[-1].startswith("no errors and no warnings by ")
    assert len(lines) == 4


def test_problems_are_grouped_by_rule_errors_first_with_what_to_type_at_the_end(clean, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    scene = spoilt(clean, "box-outside")
    for number in range(1, 6):
        scene.polygon(number)["segmentation"][0].pop()
    scene.write()
    assert check(scene) == 2
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert text.index("error polygon-odd  5 times") < text.index("warning box-outside  once")
    assert "    effect: x and y change places from the missing number on: the mask would be nonsense." in lines
    assert "    fix=: removes the polygon, and the annotation if it has no other" in lines
    assert "    · image 1, annotation 1: a polygon has 7 numbers, which is not a whole number of points" in lines
    assert "    · … and 2 more" in lines
    assert "5 errors and 1 warning by" in text
    fixed = scene.paths[0].with_name("train_fixed.json")
    assert lines[-1] == f"To repair: finemask data check annotations={scene.paths[0]} fix={fixed}"


def test_the_command_it_names_repairs(clean, capsys):
    scene = spoilt(clean, "polygon-odd")
    assert check(scene) == 2
    command = capsys.readouterr().out.splitlines()[-1].partition("finemask ")[2].split()
    before = scene.paths[0].read_bytes()
    assert cli(command) == 0
    text = capsys.readouterr().out
    fixed = scene.paths[0].with_name("train_fixed.json")
    assert f"{fixed}: 1 change; 6 images, 19 annotations, 3 classes before, 6 images, 18 annotations" in text
    assert "Left after repairing: no errors and no warnings" in text
    assert scene.paths[0].read_bytes() == before
    assert "polygon-odd" in fixed.with_suffix(".log").read_text()
    assert cli(["data", "check", f"annotations={fixed}"]) == 0


def test_what_a_person_has_to_decide_stays_an_error(clean, capsys):
    scene = spoilt(clean, "category-ids-shifted")
    fixed = scene.root / "fixed.json"
    assert check(scene, f"fix={fixed}") == 2
    text = capsys.readouterr().out
    assert "nothing; a person has to decide" in text
    assert "Left after repairing: 1 error" in text
    assert json.loads(fixed.read_text()) == scene.train
    assert "To repair" not in text


def test_strict_counts_warnings(clean):
    scene = spoilt(clean, "area-not-of-mask")
    assert check(scene) == 0
    assert check(scene, "strict=true") == 2
    assert check(scene, "strict=true", f"fix={scene.root / 'fixed.json'}") == 0


def test_the_report_holds_every_problem(clean):
    scene = spoilt(clean, "polygon-is-box")
    file = scene.root / "report.json"
    assert check(scene, f"report={file}") == 2
    report = json.loads(file.read_text())
    assert (report["errors"], report["warnings"]) == (2, 0)
    assert report["rules"]["polygon-is-box"]["count"] == 2
    first = report["problems"][0]
    assert first == {
        "rule": "polygon-is-box",
        "severity": "error",
        "message": "a polygon has 4 numbers, [1, 2, 30, 40], which is a box or a line but no outline",
        "effect": report["rules"]["polygon-is-box"]["effect"],
        "file": str(scene.paths[0]),
        "image_id": 2,
        "annotation_id": scene.polygon(2)["id"],
        "category_id": 1,
        "fixable": True,
        "needs": None,
    }
    assert "fixed" not in report


def test_two_files_are_compared_and_repaired_into_a_folder(clean, capsys):
    scene = spoilt(clean, "categories-differ")
    folder = scene.root / "fixed"
    assert check(scene, names=("train", "val")) == 2
    assert f"fix={scene.paths[0].parent / 'fixed'}/" in capsys.readouterr().out
    assert check(scene, f"fix={folder}", names=("train", "val")) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["train.json", "train.log", "val.json", "val.log"]
    files = [str(scene.root / name) for name in ("a.json", "b.json")]
    assert check(scene, f"fix=[{','.join(files)}]", names=("train", "val")) == 0
    assert json.loads((scene.root / "b.json").read_text()) == json.loads((folder / "val.json").read_text())


def test_without_opening_images_those_rules_are_left_out(clean):
    scene = spoilt(clean, "image-damaged")
    assert check(scene) == 2
    assert check(scene, "open_images=false") == 0


def test_broken_json_is_reported_and_not_repaired(clean, capsys):
    scene = spoilt(clean, "json-broken")
    fixed = scene.root / "fixed.json"
    assert check(scene, f"fix={fixed}", f"report={scene.root / 'report.json'}") == 2
    assert "broken JSON at line 1" in capsys.readouterr().out
    assert not fixed.exists()
    assert json.loads((scene.root / "report.json").read_text())["errors"] == 1


@pytest.mark.parametrize(
    ("fix", "words"),
    [
        ("annotations/train.json", "never overwritten"),
        ("annotations/../annotations/train.json", "never overwritten"),
        ("annotations/val.json", "a file here already"),
        ("fixed.log", "ends in .json"),
        ("[a.json,b.json]", "fix= names 2 files, annotations= 1"),
    ],
)
def test_nothing_is_overwritten(clean, capsys, monkeypatch, fix, words):
    monkeypatch.chdir(clean.root)
    before = [path.read_bytes() for path in clean.paths]
    assert cli(["data", "check", "annotations=annotations/train.json", f"fix={fix}"]) == 2
    assert words in capsys.readouterr().err
    assert [path.read_bytes() for path in clean.paths] == before


def test_a_repaired_file_may_be_written_anew(clean):
    fixed = clean.root / "fixed.json"
    assert check(clean, f"fix={fixed}") == 0
    assert check(clean, f"fix={fixed}") == 0


def test_two_files_of_one_name_need_a_list(clean, capsys):
    other = clean.root / "other"
    other.mkdir()
    (other / "train.json").write_bytes(clean.paths[0].read_bytes())
    value = f"annotations=[{clean.paths[0]},{other / 'train.json'}]"
    assert cli(["data", "check", value, f"images={clean.images_dir}", f"fix={clean.root / 'fixed'}"]) == 2
    assert "several files would be written to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["annotations=absent.json"], "no such file"),
        (["annotations=[]"], "annotations cannot be []"),
        (["annotations=annotations/train.json", "images=absent"], "no such folder of images"),
        (["annotations=annotations/train.json", "images=[a,b]"], "names 2 folders for 1 file"),
        (["annotations=annotations/train.json", "fx=1"], "fix"),
    ],
)
def test_what_cannot_be_is_one_line(clean, capsys, monkeypatch, words, message):
    monkeypatch.chdir(clean.root)
    assert cli(["data", "check", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_paths_with_blanks_and_brackets_and_a_terminal_without_colour(clean, capsys):
    path = clean.root / "my [train] set.json"
    path.write_text(json.dumps({**clean.train, "categories": []}))
    assert cli(["data", "check", f"annotations='{path}'", f"images={clean.images_dir}"]) == 2
    assert str(path) in capsys.readouterr().out
