"""What repairs do only when they are asked: emptying an image or a class, making objects of crowds and of boxes."""

import json
from pathlib import Path

import numpy as np
import pytest
from faults import clean_scene
from scenes import HEIGHT, WIDTH

from finemask.cli import main as cli
from finemask.datatools.check.mask_rules import crowds_by_class, looks_single
from finemask.datatools.check.run_rules import load_document

DATASETS = Path(__file__).resolve().parents[4] / "shared" / "datasets"


@pytest.fixture
def scene(tmp_path):
    return clean_scene(tmp_path / "set")


def fix(scene, *words):
    """Exit code and the repaired file's annotations by id."""
    scene.write()
    fixed = scene.root / "fixed.json"
    code = cli(["data", "check", f"annotations={scene.paths[0]}", f"fix={fixed}", *words])
    return code, {a["id"]: a for a in json.loads(fixed.read_text())["annotations"]}


def test_coordinates_as_text_in_a_whole_file_are_numbers_again(scene):
    before = scene.train["annotations"] = [a for a in scene.train["annotations"] if a["category_id"] == 1]
    wanted = {a["id"]: a["segmentation"] for a in before}
    scene.train["annotations"] = [
        {**a, "segmentation": [[f"{value:.1f}" for value in part] for part in a["segmentation"]]} for a in before
    ]
    code, after = fix(scene)
    assert code == 0
    assert {number: a["segmentation"] for number, a in after.items()} == wanted


@pytest.mark.parametrize("asked", [False, True])
def test_an_image_keeps_its_last_annotations(scene, asked, capsys):
    for broken in (scene.polygon(2), scene.compressed(2), scene.uncompressed(2)):
        broken["segmentation"] = [[1, 2, 3, 4, 5]]
    code, after = fix(scene, *["remove=true"] * asked)
    on_image = [a for a in after.values() if a["image_id"] == 2]
    assert (code, len(on_image)) == ((0, 0) if asked else (2, 3))
    text = capsys.readouterr().out
    if not asked:
        assert "with remove=true" in text
        assert "19 annotations, 3 classes before" not in text


@pytest.mark.parametrize("asked", [False, True])
def test_a_class_keeps_its_last_annotations(scene, asked):
    for annotation in scene.train["annotations"]:
        if annotation["category_id"] == 2:
            annotation["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": [5, 5]}
    code, after = fix(scene, *["remove=true"] * asked)
    assert code == (0 if asked else 2)
    assert sum(a["category_id"] == 2 for a in after.values()) == (0 if asked else 6)


def test_a_file_is_not_emptied_even_when_asked(scene):
    for annotation in scene.train["annotations"]:
        annotation["segmentation"] = [[1, 2, 3, 4, 5]]
    code, after = fix(scene, "remove=true")
    assert (code, len(after)) == (2, 19)


def test_one_annotation_among_others_is_removed_unasked(scene):
    scene.polygon(3)["segmentation"][0].pop()
    code, after = fix(scene)
    assert (code, len(after)) == (0, 18)


def test_an_image_with_a_crowd_left_is_empty_all_the_same(scene):
    for broken in (scene.polygon(1), scene.compressed(1), scene.uncompressed(1)):
        broken["segmentation"] = [[1, 2, 3, 4, 5]]
    code, after = fix(scene)
    assert (code, len(after)) == (2, 19)


def test_the_command_that_is_printed_has_the_key_and_repairs(scene, capsys):
    for broken in (scene.polygon(2), scene.compressed(2), scene.uncompressed(2)):
        broken["segmentation"] = [[1, 2, 3, 4, 5]]
    scene.write()
    assert cli(["data", "check", f"annotations={scene.paths[0]}"]) == 2
    command = capsys.readouterr().out.splitlines()[-1]
    assert command.endswith("remove=true")
    assert cli(command.partition("finemask ")[2].split()) == 0


@pytest.mark.parametrize(("boxes", "code", "left"), [("keep", 2, 19), ("drop", 0, 18), ("rectangle", 0, 19)])
def test_boxes_without_a_mask(scene, boxes, code, left):
    box = scene.compressed(2)["bbox"]
    number = scene.compressed(2)["id"]
    del scene.compressed(2)["segmentation"]
    got, after = fix(scene, f"boxes={boxes}")
    assert (got, len(after)) == (code, left)
    if boxes == "rectangle":
        x, y, w, h = box
        assert after[number]["segmentation"] == [[x, y, x + w, y, x + w, y + h, x, y + h]]


def flag(scene, *annotations):
    for annotation in annotations:
        annotation["iscrowd"] = 1
    scene.write()


def rules(scene, *words):
    report = scene.root / "report.json"
    assert cli(["data", "check", f"annotations={scene.paths[0]}", f"report={report}", *words]) == 0
    found = json.loads(report.read_text())
    return {name for name, rule in found["rules"].items() if rule["count"]}, found


def test_masks_of_one_piece_that_are_crowds_are_named_and_made_objects_when_asked(scene):
    masks = [scene.compressed(number) for number in range(1, 6)]
    flag(scene, *masks)
    found, report = rules(scene)
    assert found == {"crowd-single-object"}
    assert report["crowds"] == {str(scene.paths[0]): {"nut": 5, "stem": 1}}
    assert {problem["needs"] for problem in report["problems"]} == {"crowds=objects"}
    _, after = fix(scene)
    assert sum(a["iscrowd"] for a in after.values()) == 6
    _, after = fix(scene, "crowds=objects")
    assert [a["id"] for a in after.values() if a["iscrowd"]] == [4], "the crowd of many pieces stays one"
    lines = (scene.root / "fixed.log").read_text().splitlines()
    assert len(lines) == 5
    assert all("iscrowd 1 → 0" in line for line in lines)
    _, after = fix(scene, "crowds=all")
    assert not any(a["iscrowd"] for a in after.values())


def test_specks_of_a_brush_do_not_make_a_second_object(scene):
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[5:25, 40:66] = 1
    mask[50, 3:9] = 1
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], mask.ravel(order="F"), [2]])))).tolist()
    for number in (2, 3):
        scene.compressed(number)["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": runs}
    flag(scene, scene.compressed(2), scene.compressed(3))
    document = load_document(scene.paths[0])
    crowds = {row.id: looks_single(row, document) for row in document.annotations if row.iscrowd}
    assert crowds == {4: False, scene.compressed(2)["id"]: True, scene.compressed(3)["id"]: True}


def test_the_rest_of_many_objects_is_a_crowd_as_coco_has_them(scene):
    flag(scene, scene.compressed(2))
    assert "crowd-single-object" in rules(scene)[0]
    nut = scene.compressed(3)
    for k in range(10):
        x = float(3 * k)
        polygon = [[x, 1.0, x + 2, 1.0, x + 2, 4.0, x, 4.0]]
        scene.train["annotations"].append(
            {**nut, "id": 100 + k, "image_id": 2, "segmentation": polygon, "bbox": [x, 1, 2, 3], "area": 6}
        )
    flag(scene)
    assert "crowd-single-object" not in rules(scene)[0]


def test_all_annotations_are_crowds(scene, capsys):
    flag(scene, *scene.train["annotations"])
    assert cli(["data", "check", f"annotations={scene.paths[0]}"]) == 2
    assert "crowds=objects" in capsys.readouterr().out
    code, after = fix(scene, "crowds=objects")
    assert (code, sum(a["iscrowd"] for a in after.values())) == (0, 1)


def test_the_crowds_of_coco_are_none_of_these():
    files = [*(DATASETS / "coco_ccby33" / "annotations").glob("*.json")]
    files += [*(DATASETS / "formats" / "coco" / "real_coco_crowd").glob("*.json")]
    files += [DATASETS / "formats" / "coco" / "panopticapi_detection_format.json"]
    if not all(path.is_file() for path in files) or len(files) < 5:
        pytest.skip("needs the real data sets beside the repository")
    crowds = 0
    for path in files:
        document = load_document(path)
        crowds += sum(crowds_by_class(document).values())
        assert not any(looks_single(row, document) for row in document.annotations if row.iscrowd)
    assert crowds == 9


@pytest.mark.parametrize(("key", "value", "known"), [("crowds", "none", "objects"), ("boxes", "masks", "rectangle")])
def test_a_value_that_there_is_not_is_refused(scene, key, value, known, capsys):
    assert cli(["data", "check", f"annotations={scene.paths[0]}", f"{key}={value}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert all(word in error for word in (key, value, "keep", known))
