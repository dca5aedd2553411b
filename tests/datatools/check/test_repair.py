"""A dataset with everything wrong at once is repaired into one that can be trained and measured on."""

import copy
import json
import shutil

import pytest
from faults import FAULTS, Scene, clean_scene
from run_cases import small_run

from finemask.cli import main as cli
from finemask.coco.index import CocoIndex
from finemask.datatools.check.problems import AddEntry, Dataset, Finding, RemoveEntry, Rule, SetValue, Severity
from finemask.datatools.check.repair import repair
from finemask.datatools.check.run_rules import RULES, findings_of, load_document
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import load_ground_truth
from finemask.evaluation.numbers.pycocotools_reference import ground_truth_as_predictions
from finemask.workflows.train_model import run_training

# Faults of one image or annotation: each gets an image of its own.
GRAFTED = [
    "image-size-invalid", "file-name-invalid", "file-name-leaves-folder", "iscrowd-invalid", "mask-missing",
    "segmentation-invalid", "segmentation-nesting", "polygon-not-numbers", "polygon-is-box", "polygon-odd",
    "polygon-too-few-points", "polygon-not-finite", "polygon-far-away", "polygon-no-area", "rle-size", "rle-counts",
    "mask-empty", "box-invalid", "box-corners", "box-degenerate", "box-outside", "box-not-of-mask", "area-invalid",
    "area-not-of-mask",
]  # fmt: skip
# Faults of the file, which can be there all at once.
OF_FILE = [
    "entry-not-object", "json-not-standard", "annotation-id-missing", "category-id-repeated",
    "image-id-repeated", "categories-differ", "file-name-repeated", "category-name-repeated",
]  # fmt: skip
BY_HAND = {
    "annotation-repeated", "annotation-id-repeated", "reference-not-integer", "annotation-without-image",
    "annotation-without-category",
}  # fmt: skip
OF_IMAGE_FILES = ["image-missing", "image-empty", "image-unreadable", "image-damaged", "image-size-differs"]


def graft(target: Scene, source: Scene, number: int, new_id: int) -> None:
    """Copies an image of train with its annotations into another scene."""
    image = source.image(number)
    if "file_name" in image and "/" not in image["file_name"]:
        name = f"graft_{new_id}.png"
        shutil.copy(target.images_dir / image["file_name"], target.images_dir / name)
        image = {**image, "file_name": name}
    target.train["images"].append({**image, "id": new_id})
    for annotation in source.train["annotations"]:
        if annotation["image_id"] == number:
            new = copy.deepcopy(annotation) | {"image_id": new_id, "id": 1000 + len(target.train["annotations"])}
            target.train["annotations"].append(new)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    clean = clean_scene(tmp_path_factory.mktemp("broken") / "set")
    scene = copy.deepcopy(clean)
    for k, rule in enumerate(GRAFTED):
        source = copy.deepcopy(clean)
        FAULTS[rule](source)
        for number in (2, 3):
            graft(scene, source, number, 100 + 2 * k + number)
    for k, rule in enumerate(OF_IMAGE_FILES):
        graft(scene, clean, 2, 300 + k)
        of_this = copy.deepcopy(scene)
        of_this.image_path = lambda of=of_this, k=k: of.images_dir / f"graft_{300 + k}.png"
        FAULTS[rule](of_this)
    for rule in OF_FILE:
        FAULTS[rule](scene)
    scene.train["annotations"].append({**scene.uncompressed(5), "id": 9000})
    scene.polygon(3)["id"] = scene.polygon(4)["id"]
    scene.polygon(4)["image_id"] = "4"
    scene.compressed(4)["image_id"] = 77
    scene.uncompressed(4)["category_id"] = 77
    scene.write()
    return scene


@pytest.fixture(scope="module")
def fixed(broken):
    """The folder with the repaired files, made on the command line."""
    before = [path.read_bytes() for path in broken.paths]
    output = broken.root / "fixed"
    words = [f"annotations=[{','.join(map(str, broken.paths))}]", f"images={broken.images_dir}", f"fix={output}"]
    asked = ["remove=true", "boxes=drop"]
    assert cli(["data", "check", *words, *asked, f"report={output / 'report.json'}"]) == 0
    assert [path.read_bytes() for path in broken.paths] == before
    return output


def test_everything_is_found_and_nothing_is_left(fixed):
    report = json.loads((fixed / "report.json").read_text())
    found = {name for name, rule in report["rules"].items() if rule["count"]}
    expected = {*GRAFTED, *OF_FILE, *OF_IMAGE_FILES, *BY_HAND}
    assert expected <= found
    assert report["errors"] == sum(problem["severity"] == "error" for problem in report["problems"]) > 40
    assert [problem for problem in report["fixed"]["problems"] if problem["severity"] == "error"] == []
    assert all(not problem["fixable"] for problem in report["fixed"]["problems"])


def test_each_change_has_a_line_in_the_log(fixed):
    report = json.loads((fixed / "report.json").read_text())
    lines = [line for name in ("train.log", "val.log") for line in (fixed / name).read_text().splitlines()]
    assert len(lines) == report["fixed"]["changes"]
    assert "categories: id 3, name 'stem' added" not in lines
    assert any(line.startswith("annotation ") and "polygon-odd: a polygon has 7 numbers" in line for line in lines)


def test_repairing_the_repaired_changes_nothing(fixed, broken, tmp_path, capsys):
    files = [fixed / "train.json", fixed / "val.json"]
    words = [f"annotations=[{','.join(map(str, files))}]", f"images={broken.images_dir}", f"fix={tmp_path}"]
    assert cli(["data", "check", *words]) == 0
    for file in files:
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()
        assert (tmp_path / file.name).with_suffix(".log").read_text() == ""


def test_what_is_sound_survives_with_keys_that_nobody_knows(broken, tmp_path):
    scene = copy.deepcopy(broken)
    scene.train["annotations"] = [
        {**a, "attributes": {"k": 1}} for a in scene.train["annotations"] if isinstance(a, dict)
    ]
    scene.train["videos"] = [1, 2]
    path = tmp_path / "train.json"
    path.write_text(json.dumps(scene.train))
    raw = repair(Dataset((load_document(path, scene.images_dir),))).dataset.documents[0].raw
    assert raw["videos"] == [1, 2]
    assert all(a["attributes"] == {"k": 1} for a in raw["annotations"])
    untouched = {json.dumps(a) for a in raw["annotations"] if a["image_id"] == 6}
    assert untouched == {json.dumps(a) for a in scene.train["annotations"] if a["image_id"] == 6}


def test_the_training_index_accepts_it_and_ground_truth_scores_one(fixed, broken):
    index = CocoIndex.read(fixed / "train.json", broken.images_dir)
    CocoIndex.read(fixed / "val.json", broken.images_dir, index.categories)
    assert len(index) > 30
    for name in ("train.json", "val.json"):
        ground_truth = load_ground_truth(fixed / name)
        evaluator = CocoEvaluator(ground_truth)
        evaluator.add_results(ground_truth_as_predictions(ground_truth))
        metrics = evaluator.compute()
        assert metrics["bbox"]["AP"] == metrics["segm"]["AP"] == pytest.approx(1, abs=1e-12)


def test_training_starts_on_it(fixed, broken, tmp_path):
    files = ["data.train=fixed/train.json", "data.val=fixed/val.json"]
    short = ["trainer.max_epochs=1", "trainer.limit_train_batches=2"]
    run_training(small_run(broken.root, tmp_path, *files, *short))
    assert (tmp_path / "small" / "latest" / "model.safetensors").is_file()


def test_edits_that_meet_are_made_in_a_safe_order(tmp_path):
    """Of two findings about one value the first is mended, the other has to come back; removals shift no position."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": [], "annotations": [{"id": k} for k in range(4)], "categories": []}))

    def check(dataset):
        (document,) = dataset.documents
        entries = document.raw["annotations"]
        if len(entries) == 4:
            yield Finding(
                "first", document, edits=(SetValue("annotations", 3, "area", 1), RemoveEntry("annotations", 0))
            )
            yield Finding(
                "second", document, edits=(SetValue("annotations", 3, "area", 2), RemoveEntry("annotations", 0))
            )
            yield Finding("third", document, edits=(AddEntry("annotations", {"id": 9}), RemoveEntry("annotations", 2)))

    rule = Rule("made-up", "", "", check, Severity.ERROR, repair="does")
    repaired = repair(Dataset((load_document(path),)), rules=[rule])
    assert repaired.dataset.documents[0].raw["annotations"] == [{"id": 1}, {"id": 3, "area": 1}, {"id": 9}]
    assert [str(change) for change in repaired.changes] == [
        "annotation 3: area 1 added (made-up: first)",
        "annotation 0: removed (made-up: first)",
        "annotations: id 9 added (made-up: third)",
        "annotation 2: removed (made-up: third)",
    ]
    assert repaired.left == []


def test_a_repair_that_never_settles_ends_all_the_same(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"images": [], "annotations": [{"id": 1, "area": 0}], "categories": []}))

    def check(dataset):
        (document,) = dataset.documents
        area = document.raw["annotations"][0]["area"]
        yield Finding("more", document, edits=(SetValue("annotations", 0, "area", area + 1),))

    rule = Rule("restless", "", "", check, Severity.ERROR, repair="counts")
    assert len(repair(Dataset((load_document(path),)), rules=[rule]).left) == 1


def test_rules_that_are_not_asked_are_not_repaired(broken):
    dataset = Dataset(tuple(load_document(path, broken.images_dir) for path in broken.paths))
    rules = [rule for rule in RULES if rule.name == "area-invalid"]
    repaired = repair(dataset, rules=rules)
    assert {change.rule for change in repaired.changes} == {"area-invalid"}
    assert list(findings_of(repaired.dataset, rules)) == []
