"""Reading files for a check, asking all rules of real datasets, and the rules before training."""

import json
import time
from collections import Counter

import pytest
from faults import FAULTS, clean_scene, spoilt

from finemask.coco.entries import show
from finemask.coco.index import CocoIndex
from finemask.data.shapes import draw_shapes
from finemask.datatools.check.problems import CheckSettings, Dataset, Severity
from finemask.datatools.check.repair import repair
from finemask.datatools.check.run_rules import RULES, check_before_training, findings_of, load_document, run_rule
from finemask.errors import DataError

REAL = [
    "nuclei/annotations/train.json",
    "nuclei/annotations/val.json",
    "nuclei/annotations/rle/val.json",
    "fruits_nuts/annotations/train.json",
    "fruits_nuts/annotations/val.json",
    "fruits_nuts/annotations/test.json",
    "coco_ccby33/annotations/train.json",
    "coco_ccby33/annotations/val.json",
    "coco_ccby33/annotations/test.json",
    "formats/coco/real_coco_crowd/instances.json",
]


def errors_of(found):
    return [(rule.name, finding.message) for rule, finding in found if rule.severity is Severity.ERROR]


@pytest.fixture
def clean(tmp_path):
    return clean_scene(tmp_path / "set")


@pytest.mark.parametrize("name", REAL)
def test_real_datasets_have_no_errors_and_are_judged_quickly(shared_dir, name):
    document = load_document(shared_dir / "datasets" / name)
    assert document.images_dir is not None
    start = time.process_time()
    found = list(findings_of(Dataset((document,)), [rule for rule in RULES if rule.fast]))
    seconds = time.process_time() - start
    assert errors_of(found) == []
    assert seconds < 1 + 0.0005 * len(document.annotations)


def test_image_rules_have_nothing_against_real_images(shared_dir):
    document = load_document(shared_dir / "datasets" / "coco_ccby33" / "annotations" / "train.json")
    assert errors_of(findings_of(Dataset((document,)), [rule for rule in RULES if not rule.fast])) == []


def test_drawn_shapes_have_no_errors(tmp_path):
    root = draw_shapes(tmp_path / "shapes", images=30, size=96, seed=2)
    documents = tuple(load_document(root / "annotations" / f"{name}.json") for name in ("train", "val"))
    assert errors_of(findings_of(Dataset(documents))) == []


def test_a_file_that_is_not_there_is_an_error_of_the_command(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_document(tmp_path / "absent.json")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match="no such folder of images"):
        load_document(tmp_path / "a.json", tmp_path / "absent")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "broken JSON at line 1"),
        (b'{"images": [', "broken JSON at line 1"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"images": [{"id": ' + b"9" * 5000 + b"}]}", "Exceeds the limit"),
    ],
)
def test_what_is_no_json_is_one_error(tmp_path, content, words):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    ((rule, finding),) = findings_of(Dataset((load_document(path),)))
    assert rule.name == "json-broken"
    assert words in finding.message


def test_a_byte_order_mark_is_no_fault(clean, tmp_path):
    path = tmp_path / "bom.json"
    path.write_bytes(b"\xef\xbb\xbf" + clean.paths[0].read_bytes())
    assert list(findings_of(Dataset((load_document(path, clean.images_dir),)))) == []


def test_a_results_file_is_called_one(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}]))
    ((rule, finding),) = findings_of(Dataset((load_document(path),)))
    assert rule.name == "json-not-coco"
    assert "results file" in finding.message


@pytest.mark.parametrize("place", ["annotations/../images", "annotations/images", "annotations", "."])
def test_images_are_found_where_they_usually_lie(clean, tmp_path, place):
    path = tmp_path / "annotations" / "train.json"
    path.parent.mkdir()
    path.write_bytes(clean.paths[0].read_bytes())
    folder = (tmp_path / place).resolve()
    folder.mkdir(exist_ok=True)
    (folder / "train_1.png").write_bytes(clean.image_path(1).read_bytes())
    assert load_document(path).images_dir.resolve() == folder


def test_a_wrong_folder_does_not_cost_the_dataset(clean, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    dataset = Dataset((load_document(clean.paths[0], tmp_path / "elsewhere"),))
    (finding,) = (finding for rule, finding in findings_of(dataset) if rule.name == "image-missing")
    assert finding.edits == ()
    assert "6 of 6 images" in finding.message
    above = Dataset((load_document(clean.paths[0], tmp_path),))  # the files are there, one folder deeper
    found = [finding for rule, finding in findings_of(above) if rule.name == "image-missing"]
    edits = [edit for finding in found for edit in finding.edits]
    assert len(edits) == len(found) == 6
    assert all((tmp_path / edit.value).is_file() for edit in edits)


def test_what_would_remove_most_of_a_long_list_is_left_to_a_person(clean):
    scene = spoilt(clean, "crowd-polygon")
    scene.train["annotations"] = [
        {"id": k, "image_id": 1, "category_id": 1, "segmentation": [[1, 2, 3, 4 + k]]} for k in range(11)
    ]
    (rule,) = (rule for rule in RULES if rule.name == "polygon-is-box")

    def fixable():
        scene.write()
        return [bool(finding.edits) for finding in run_rule(rule, Dataset((load_document(scene.paths[0]),)))]

    assert fixable() == [False] * 11
    sound = {"image_id": 1, "category_id": 1, "segmentation": [[1, 2, 30, 4, 30, 40]]}
    scene.train["annotations"] += [{**sound, "id": 100 + k} for k in range(11)]
    assert fixable() == [True] * 11
    scene.train["annotations"] = scene.train["annotations"][:3] + scene.train["annotations"][-1:]
    assert fixable() == [True] * 3
    scene.train["annotations"].pop()
    assert fixable() == [False] * 3, "not even of three the last"


def test_the_check_before_training_is_the_part_that_matters_and_is_quick(clean, tmp_path):
    scene = spoilt(clean, "category-id-gaps")
    train, val = scene.paths
    assert check_before_training(train, val, scene.images_dir) == []
    scene.polygon()["bbox"] = [1, 2]
    scene.compressed()["area"] = 3
    scene.image_path(3).write_bytes(b"no image, which nobody looks at before training")
    scene.write()
    problems = check_before_training(train, val, scene.images_dir)
    assert [problem.rule for problem in problems] == ["box-invalid", "area-not-of-mask"]
    assert [str(problem.severity) for problem in problems] == ["error", "warning"]
    assert {problem.file for problem in problems} == {train}
    assert all(problem.fixable for problem in problems)


def test_a_file_that_would_hold_up_training_is_said_not_to_be_checked(clean):
    scene = spoilt(clean, "polygon-odd")
    train, val = scene.paths
    assert [p.rule for p in check_before_training(train, val, scene.images_dir)] == ["polygon-odd"]
    (problem,) = check_before_training(train, val, scene.images_dir, largest_bytes=val.stat().st_size)
    assert (problem.rule, problem.severity, problem.file) == ("not-checked", Severity.WARNING, train)


def test_the_settings_of_training_reach_the_rules(clean):
    train, val = clean.paths
    few = check_before_training(train, val, clean.images_dir, CheckSettings(detection_cap=2))
    assert {problem.rule for problem in few} == {"too-many-instances"}
    tiny = check_before_training(train, None, clean.images_dir, CheckSettings(anchor_sizes=(2000.0,)))
    assert {problem.rule for problem in tiny} == {"anchors-miss-instances"}


def test_categories_that_validation_lacks_can_be_allowed(clean):
    scene = spoilt(clean, "class-in-one-file")
    del scene.val["categories"][2]
    train, val = scene.write()
    rules = {problem.rule for problem in check_before_training(train, val, scene.images_dir)}
    assert rules == {"categories-differ", "class-in-one-file"}
    allowed = check_before_training(train, val, scene.images_dir, settings=CheckSettings(allow_missing_categories=True))
    assert {problem.rule for problem in allowed} == {"class-in-one-file"}


@pytest.mark.parametrize(
    ("names", "repaired"),
    [
        (["leaf", "Nut", "stem"], ["leaf", "nut", "stem"]),
        (["leaf", "stem"], ["leaf", "stem", "nut"]),
        (["leaf", "nut", "stem", "root"], ["leaf", "nut", "stem"]),
        (["leaf", "twig", "stem"], ["leaf", "stem", "nut"]),
    ],
)
def test_lists_of_categories_are_made_the_same(clean, names, repaired):
    scene = spoilt(clean, "crowd-polygon")
    scene.val["categories"] = [{"id": 10 + k, "name": name} for k, name in enumerate(names)]
    known = {"leaf": 1, "stem": 3}
    scene.val["annotations"] = [a for a in scene.val["annotations"] if a["category_id"] in (1, 3)]
    for annotation in scene.val["annotations"]:
        name = next(name for name, number in known.items() if number == annotation["category_id"])
        annotation["category_id"] = 10 + names.index(name)
    train, val = scene.write()
    rules = [rule for rule in RULES if rule.name.startswith("categor")]
    result = repair(Dataset((load_document(train), load_document(val))), rules=rules)
    assert [rule.name for rule, _ in result.left] == ["category-id-gaps"]
    assert [category["name"] for category in result.dataset.documents[1].raw["categories"]] == repaired


def test_a_category_of_validation_alone_that_has_objects_is_left_to_a_person(clean):
    scene = spoilt(clean, "crowd-polygon")
    scene.val["categories"][1]["name"] = "twig"
    train, val = scene.write()
    problems = [p for p in check_before_training(train, val, scene.images_dir) if p.rule == "categories-differ"]
    assert [(problem.fixable, problem.category_id) for problem in problems] == [(False, 2), (True, None)]
    with pytest.raises(DataError, match="twig"):
        CocoIndex.read(val, scene.images_dir, CocoIndex.read(train, scene.images_dir).categories)


@pytest.mark.parametrize("rule", sorted(FAULTS))
def test_what_the_training_index_refuses_is_an_error_here(clean, rule):
    scene = spoilt(clean, rule)
    train, val = scene.paths
    try:
        CocoIndex.read(val, scene.images_dir, CocoIndex.read(train, scene.images_dir).categories)
    except DataError:
        found = findings_of(Dataset(tuple(load_document(path, scene.images_dir) for path in scene.paths)))
        assert errors_of(found)


def test_problems_are_counted_once_for_each_entry(clean):
    """A polygon that is cut off says nothing about its box, its area or its pixels."""
    scene = spoilt(clean, "polygon-odd")
    scene.polygon()["bbox"] = [500, 500, 1, 1]
    scene.polygon()["area"] = 99999
    scene.write()
    found = findings_of(Dataset((load_document(scene.paths[0], scene.images_dir),)))
    assert Counter(rule.name for rule, _ in found) == {"polygon-odd": 1, "box-outside": 1}


def test_settings_have_the_defaults_of_the_default_model():
    assert CheckSettings() == CheckSettings(800, 1333, 100)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7.0, "7.0"), (0.1, "0.1"), (None, "null"), (True, "true"), ("a\nb", r"'a\nb'"), ("\ud800", r"'\ud800'"),
        ([1.0, 2.5, None], "[1, 2.5, null]"), ([[1]], "a list of 1"), ({}, "an object"),
        (10**30, "a number of 100 bits"),
        (900100000257, "900100000257"), ("x" * 100, "'" + "x" * 56 + "…'"),
    ],
)  # fmt: skip
def test_any_value_can_be_shown_in_a_message(value, text):
    assert show(value) == text
