"""One value, one verdict: training, evaluation, ``data check`` and ``data convert`` agree on every odd value."""

import math
import re
from pathlib import Path

import pytest
from scenes import HEIGHT, WIDTH, clean_scene

from finemask.coco import index
from finemask.coco.entries import size_hw
from finemask.coco.index import CocoIndex
from finemask.datatools.check.problems import Dataset, Severity
from finemask.datatools.check.run_rules import RULES, findings_of, load_document
from finemask.datatools.convert.coco_repairs import REPAIRS
from finemask.datatools.convert.conversion import convert
from finemask.datatools.convert.source_files import ReadOptions
from finemask.errors import DataError
from finemask.evaluation.ground_truth import load_ground_truth

REPAIRED_BY_CONVERT = {rule.name for rule in REPAIRS}  # the others it settles otherwise: ids, sizes and boxes made anew

SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]

CASES = [
    # which entry, key, value, the rule that all refuse it by; None: all take it
    ("image", "id", 1.0, "image-id-invalid"),
    ("image", "id", "1", "image-id-invalid"),
    ("image", "id", True, "image-id-invalid"),
    ("image", "id", 2**70, "image-id-invalid"),
    ("image", "id", None, "image-id-invalid"),
    ("image", "width", float(WIDTH), None),
    ("image", "width", str(WIDTH), "image-size-invalid"),
    ("image", "width", 0, "image-size-invalid"),
    ("image", "width", -1, "image-size-invalid"),
    ("image", "width", WIDTH + 0.5, "image-size-invalid"),
    ("category", "id", 1.0, "category-id-invalid"),
    ("category", "id", "1", "category-id-invalid"),
    ("category", "id", True, "category-id-invalid"),
    ("category", "id", 2**70, "category-id-invalid"),
    ("category", "id", None, "category-id-invalid"),
    ("category", "name", None, "category-name-invalid"),
    ("category", "name", " ", "category-name-invalid"),
    ("annotation", "id", 5001.0, "annotation-id-invalid"),
    ("annotation", "id", "5001", "annotation-id-invalid"),
    ("annotation", "id", True, "annotation-id-invalid"),
    ("annotation", "id", 2**70, "annotation-id-invalid"),
    ("annotation", "id", 2**60, None),
    ("annotation", "id", None, None),
    ("annotation", "iscrowd", 2, "iscrowd-invalid"),
    ("annotation", "iscrowd", "0", "iscrowd-invalid"),
    ("annotation", "iscrowd", "", "iscrowd-invalid"),
    ("annotation", "iscrowd", True, None),
    ("annotation", "iscrowd", 1.0, None),
    ("annotation", "iscrowd", None, None),
    ("annotation", "category_id", 2.0, "reference-not-integer"),
    ("annotation", "category_id", "2", "reference-not-integer"),
    ("annotation", "category_id", 99, "annotation-without-category"),
    ("annotation", "category_id", None, "annotation-without-category"),
    ("annotation", "image_id", 2.0, "reference-not-integer"),
    ("annotation", "image_id", 99, "annotation-without-image"),
    ("annotation", "image_id", None, "annotation-without-image"),
    ("annotation", "bbox", [1, 2, math.nan, 4], "box-invalid"),
    ("annotation", "bbox", [1, 2, 3], "box-invalid"),
    ("annotation", "bbox", "1 2 3 4", "box-invalid"),
    ("annotation", "bbox", [10, 10, -4, 8], "box-degenerate"),
    ("annotation", "bbox", None, None),
    ("annotation", "area", "large", "area-invalid"),
    ("annotation", "area", math.nan, "area-invalid"),
    ("annotation", "area", None, None),
    ("annotation", "segmentation", "polygon", "segmentation-invalid"),
    ("annotation", "segmentation", str([SQUARE]), "segmentation-text"),
    ("annotation", "segmentation", SQUARE, "segmentation-nesting"),
    ("annotation", "segmentation", [SQUARE[:-1]], "polygon-odd"),
    ("annotation", "segmentation", [SQUARE[:2]], "polygon-too-few-points"),
    ("annotation", "segmentation", [SQUARE[:4]], "polygon-is-box"),
    ("annotation", "segmentation", [[*SQUARE[:-1], math.inf]], "polygon-not-finite"),
    ("annotation", "segmentation", [[*SQUARE[:-1], "30"]], "polygon-not-numbers"),
    ("annotation", "segmentation", {"size": [HEIGHT, WIDTH + 1], "counts": [HEIGHT * (WIDTH + 1)]}, "rle-size"),
    ("annotation", "segmentation", {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH - 1]}, "rle-counts"),
    ("annotation", "segmentation", {"size": [HEIGHT, WIDTH], "counts": "o"}, "rle-counts"),
    ("annotation", "segmentation", {"size": [HEIGHT, WIDTH]}, "segmentation-invalid"),
]


def refusal(read):
    """The rule at the end of what a reader says, or None if it takes the file."""
    try:
        read()
    except DataError as error:
        return error.what.rpartition("(")[2].rstrip(")")
    return None


@pytest.fixture
def spoil(tmp_path):
    def write(entry, key, value):
        scene = clean_scene(tmp_path / "set")
        {
            "image": lambda: scene.image(1),
            "category": lambda: scene.train["categories"][0],
            "annotation": lambda: scene.compressed(2),
        }[entry]()[key] = value
        if key == "id" and value == 2**70:  # what refers to it does so by the same number
            for annotation in scene.train["annotations"]:
                other = {"image": "image_id", "category": "category_id", "annotation": "id"}[entry]
                annotation[other] = value if annotation[other] == 1 else annotation[other]
        scene.write()
        return scene

    return write


@pytest.mark.parametrize(("entry", "key", "value", "rule"), CASES)
def test_all_who_read_a_file_say_the_same(spoil, tmp_path, entry, key, value, rule):
    scene = spoil(entry, key, value)
    path = scene.paths[0]
    found = findings_of(Dataset((load_document(path, scene.images_dir),)))
    errors = {found_rule.name for found_rule, _ in found if found_rule.severity is Severity.ERROR}
    assert (rule in errors) if rule else not errors
    assert refusal(lambda: CocoIndex.read(path, scene.images_dir)) == rule
    assert refusal(lambda: load_ground_truth(path)) == rule
    scene.paths[1].unlink()
    try:
        options = ReadOptions(remove=True)
        done = convert(scene.root, tmp_path / "converted", format="coco", boxes="keep", options=options, preview=False)
        said = " ".join(done.notes.lines())
    except DataError as error:
        said = error.what
    if rule in REPAIRED_BY_CONVERT:
        assert rule in said
    else:
        assert "by the rule" not in said


@pytest.mark.parametrize(("entry", "key", "value"), [case[:3] for case in CASES if case[3] is None])
def test_what_all_take_is_the_same_to_all(spoil, entry, key, value):
    scene = spoil(entry, key, value)
    path = scene.paths[0]
    read, truth = CocoIndex.read(path, scene.images_dir), load_ground_truth(path)
    rows = {row.position: row for row in load_document(path, scene.images_dir).annotations}
    assert read.columns.places.tolist() == sorted(rows)
    for place, annotation, name, number, crowd in zip(
        read.columns.places.tolist(),
        truth.annotations,
        truth.annotation_ids,
        read.annotation_ids.tolist(),
        read.iscrowd.tolist(),
        strict=True,
    ):
        row = rows[place]
        assert row.image.id == annotation["image_id"]
        assert row.category_id == annotation["category_id"]
        assert row.iscrowd == bool(annotation["iscrowd"]) == crowd
        assert row.rle == annotation["segmentation"]
        assert number == name == (place + 1 if row.id is None else row.id)
    sizes = [(image.height, image.width) for image in truth.images.values()]
    assert sizes == [read.size_hw(i) for i in range(len(read))]


@pytest.mark.parametrize(
    ("height", "width", "sound"),
    [(1, 2**31 - 1, True), (1, 2**31, False), (2**16, 2**16, False), (2**16, 2**16 - 1, True), (480.0, 640, True)],
)
def test_sizes_end_where_run_lengths_and_columns_do(height, width, sound):
    assert size_hw({"height": height, "width": width}) == ((height, width) if sound else None)


def test_every_fault_has_the_name_of_a_rule():
    folder = Path(index.__file__).parent
    kinds = "annotation|area|box|category|coordinates|entry|file|image|iscrowd|json|list|mask|polygon|reference|rle|run"
    pattern = rf'(?:Fault\(|return |FileFault\(|")"?((?:{kinds}|segmentation)(?:-[a-z]+)+)"'
    named = {name for path in folder.glob("*.py") for name in re.findall(pattern, path.read_text())}
    assert len(named) > 15
    assert named <= {rule.name for rule in RULES}
