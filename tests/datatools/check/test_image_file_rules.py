"""The rules on image files, duplicates and fit to training, beyond the one planted fault that each of them finds."""

import copy
import os
import re
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from faults import HEIGHT, WIDTH, clean_scene
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiff_data import tiff_bytes
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from finemask.coco.index import CocoIndex
from finemask.datatools import image_facts
from finemask.datatools.check import duplicate_rules, image_file_rules, image_rules, training_rules
from finemask.datatools.check.document import Document
from finemask.datatools.check.duplicate_rules import NEAR_IOU
from finemask.datatools.check.problems import CheckSettings, Dataset, RemoveEntry, SetValue, Severity
from finemask.datatools.check.run_rules import load_document
from finemask.datatools.image_facts import Fault, facts_of, facts_of_file, places_of
from finemask.errors import DataError
from finemask.ops.anchor_fit import resized_boxes
from finemask.ops.images.image_reading import ImageReading

RULES = {rule.name: rule for rule in (*image_file_rules.RULES, *duplicate_rules.RULES, *training_rules.RULES)}


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return clean_scene(tmp_path_factory.mktemp("clean") / "set")


@pytest.fixture
def scene(clean, tmp_path):
    shutil.copytree(clean.root, tmp_path / "set")
    return clean_scene_at(clean, tmp_path / "set")


def clean_scene_at(clean, root):
    return type(clean)(root, copy.deepcopy(clean.train), copy.deepcopy(clean.val))


def dataset_of(scene, **settings):
    scene.write()
    documents = tuple(load_document(path, scene.images_dir) for path in scene.paths)
    return Dataset(documents, CheckSettings(**settings))


def found(scene, rule, **settings):
    return list(RULES[rule].check(dataset_of(scene, **settings)))


def document_of(annotations, size=(100, 100), classes=3):
    """One image; annotations are pairs (category id, polygon)."""
    height, width = size
    raw = {
        "images": [{"id": 1, "file_name": "a.png", "height": height, "width": width}],
        "annotations": [
            {"id": k + 1, "image_id": 1, "category_id": c, "segmentation": [polygon], "iscrowd": 0}
            for k, (c, polygon) in enumerate(annotations)
        ],
        "categories": [{"id": c + 1, "name": f"class {c + 1}"} for c in range(classes)],
    }
    return Document("a.json", raw)


def rectangle(x0, y0, x1, y1):
    return [x0, y0, x1, y0, x1, y1, x0, y1]


# --- places of files ---------------------------------------------------------------------------------------------


def test_names_that_differ_in_case_are_corrected_if_there_is_but_one(scene):
    folder = scene.images_dir
    (folder / "train_2.png").rename(folder / "Train_2.PNG")
    (folder / "train_3.png").rename(folder / "TRAIN_3.png")
    shutil.copy(folder / "TRAIN_3.png", folder / "Train_3.png")
    three, two = sorted(found(scene, "image-missing"), key=lambda finding: -finding.image_id)
    assert two.edits == (SetValue("images", 1, "file_name", "Train_2.PNG"),)
    assert two.message == "there is no file 'train_2.png', but 'Train_2.PNG', which differs by letter case"
    assert three.edits == (RemoveEntry("images", 2),)


@pytest.mark.parametrize(
    ("written", "file", "cause"),
    [
        ("in\\two.png", "in/two.png", "backslashes"),
        ("field%201/two%23.png", "field 1/two#.png", "percent escapes such as %20"),
        ("f\u00fcnf.png", "fu\u0308nf.png", "Unicode form"),
        ("fu\u0308nf.png", "f\u00fcnf.png", "Unicode form"),
        ("two.jpg", "two.png", "file extension"),
        ("two.png", "train/a/two.png", "folder"),
        ("C:\\old\\a\\two.png", "a/two.png", "backslashes and folder"),
    ],
)
def test_a_name_that_another_system_has_spelt_is_corrected(scene, written, file, cause):
    path = scene.images_dir / file
    path.parent.mkdir(parents=True, exist_ok=True)
    scene.image_path(2).rename(path)
    scene.image(2)["file_name"] = written
    if written.startswith("C:"):
        (finding,) = image_rules.RULES[1].check(dataset_of(scene))
    else:
        (finding,) = found(scene, "image-missing")
        assert finding.message == f"there is no file {written!r}, but {file!r}, which differs by {cause}"
    assert finding.edits == (SetValue("images", 1, "file_name", file),)
    with pytest.raises(DataError) as training:
        CocoIndex.read(scene.paths[0], scene.images_dir)
    if not written.startswith("C:"):
        assert f"{written!r} is {file!r}, which differs by {cause}" in str(training.value)
        assert "finemask data check annotations=" in str(training.value)


def test_a_name_is_not_corrected_to_that_of_another_image(scene):
    scene.image(2)["file_name"] = "TRAIN_3.png"
    (finding,) = found(scene, "image-missing")
    assert finding.edits == (RemoveEntry("images", 1),)


def test_a_wrong_folder_is_one_finding_without_a_repair(scene):
    for image in scene.train["images"]:
        image["file_name"] = f"images/{image['file_name']}"
    (finding,) = found(scene, "image-missing")
    assert finding.edits == ()
    assert finding.message.startswith("6 of 6 images are not in ")
    assert f"the file names already contain the folder, give images={scene.root}" in finding.message
    assert "'images/train_1.png', 'images/train_2.png', 'images/train_3.png', …" in finding.message


def test_half_of_the_images_are_removed_and_more_are_not(scene):
    for number in (1, 2, 3):
        scene.image_path(number).write_bytes(b"")
    assert [finding.edits for finding in found(scene, "image-empty")] == [(RemoveEntry("images", k),) for k in range(3)]
    scene.image_path(4).write_bytes(b"")
    (finding,) = found(scene, "image-empty")
    assert finding.edits == ()
    assert "4 of 6 images have 0 bytes" in finding.message


def test_links_inside_the_folder_are_files_like_others(scene):
    (scene.images_dir / "deep").mkdir()
    scene.image_path(2).rename(scene.images_dir / "deep" / "real.png")
    scene.image_path(2).symlink_to(scene.images_dir / "deep" / "real.png")
    (scene.images_dir / "linked").symlink_to(scene.images_dir / "deep")
    scene.image(3)["file_name"] = "linked/real.png"
    assert found(scene, "image-link-leaves-folder") == []
    assert found(scene, "image-missing") == []


def test_links_that_lead_out_or_nowhere(scene):
    outside = scene.root / "outside"
    outside.mkdir()
    scene.image_path(2).rename(outside / "two.png")
    (scene.images_dir / "folder").symlink_to(outside)
    scene.image(2)["file_name"] = "folder/two.png"
    scene.image_path(3).unlink()
    scene.image_path(3).symlink_to(scene.root / "nowhere.png")
    (leads_out,) = found(scene, "image-link-leaves-folder")
    assert leads_out.image_id == 2
    assert str(outside / "two.png") in leads_out.message
    assert [finding.image_id for finding in found(scene, "image-missing")] == [3]
    assert found(scene, "image-unreadable") == []  # what leads out is never opened


def test_the_folder_of_images_may_itself_be_a_link(scene, tmp_path):
    (tmp_path / "other").symlink_to(scene.images_dir)
    document = load_document(scene.write()[0], tmp_path / "other")
    assert all(place.is_sound for place in places_of(document))


def test_a_folder_is_no_image(scene):
    scene.image_path(2).unlink()
    scene.image_path(2).mkdir()
    assert [finding.image_id for finding in found(scene, "image-missing")] == [2]


def test_without_a_folder_of_images_nothing_is_said(scene):
    scene.write()
    raw = Document(scene.paths[0], scene.train)
    for name in RULES:
        if name.startswith("image-") and name != "image-without-annotations":
            assert list(RULES[name].check(Dataset((raw, raw)))) == []


# --- contents of files -------------------------------------------------------------------------------------------


def test_files_are_decoded_once_until_they_change(scene, monkeypatch):
    calls = Counter()
    real = image_facts.hash_open_image
    monkeypatch.setattr(image_facts, "hash_open_image", lambda image: calls.update([image.filename]) or real(image))
    for name in RULES:
        found(scene, name)
    assert set(calls.values()) == {1}
    assert len(calls) == 9
    path = scene.image_path(2)
    Image.new("RGB", (WIDTH, HEIGHT), (9, 9, 9)).save(path)
    os.utime(path, ns=(1, 1))
    found(scene, "image-damaged")
    assert calls[str(path)] == 2


def test_facts_tell_faults_apart(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for name in ("a.png", "a.jpg", "a.bmp", "a.tif", "a.webp"):
        path = tmp_path / name
        Image.fromarray(noise).save(path)
        assert facts_of_file(path).raw_hw == (40, 50)
        assert facts_of_file(path).fault is None
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 2 // 3])
        assert facts_of_file(path).fault in (Fault.DAMAGED, Fault.UNREADABLE), name
    (tmp_path / "b.png").write_bytes(b"no image")
    Image.fromarray(np.full((4, 4), 7.5, dtype=np.float32)).save(tmp_path / "c.tif")
    assert facts_of_file(tmp_path / "a.jpg").fault is Fault.DAMAGED
    assert facts_of_file(tmp_path / "b.png").fault is Fault.UNREADABLE
    assert "not an image" in facts_of_file(tmp_path / "b.png").reason
    assert "floating-point values must be 0 to 1" in facts_of_file(tmp_path / "c.tif").reason
    assert facts_of_file(tmp_path / "c.tif").choice == "range"
    assert facts_of_file(tmp_path / "none.png").fault is Fault.MISSING
    seen = []
    paths = [tmp_path / name for name in ("b.png", "none.png", "c.tif")]
    faults = [facts.fault for facts in facts_of(paths, lambda done, total: seen.append((done, total)))]
    assert faults == [Fault.UNREADABLE, Fault.MISSING, Fault.UNDECIDED]
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_before_and_after_exif_rotation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    facts = facts_of_file(tmp_path / "a.jpg")
    assert facts.raw_hw == (20, 30)
    assert facts.upright_hw == ((30, 20) if orientation >= 5 else (20, 30))


def test_large_jpegs_keep_their_size_in_spite_of_quick_decoding(tmp_path):
    Image.new("RGB", (1600, 1200)).save(tmp_path / "a.jpg")
    assert facts_of_file(tmp_path / "a.jpg").raw_hw == (1200, 1600)


# --- sizes -------------------------------------------------------------------------------------------------------


def turn_file(scene, number):
    """The file of an image gets height and width swapped."""
    with Image.open(scene.image_path(number)) as image:
        turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.save(scene.image_path(number))


def only_polygon(scene, number, polygon):
    scene.train["annotations"] = [a for a in scene.train["annotations"] if a["image_id"] != number]
    scene.train["annotations"].append(
        {"id": 900, "image_id": number, "category_id": 1, "segmentation": [polygon], "iscrowd": 0}
    )


def test_swapped_sides_are_swapped_back_only_if_the_annotations_prove_it(scene):
    turn_file(scene, 2)  # now 60 wide, 80 high
    only_polygon(scene, 2, rectangle(10, 10, 50, 75))  # 75 > 60: made on the turned pixels
    (finding,) = found(scene, "image-size-differs")
    assert finding.edits == (SetValue("images", 1, "height", 80), SetValue("images", 1, "width", 60))
    assert "is 60 × 80 px, its entry says 80 × 60" in finding.message
    only_polygon(scene, 2, rectangle(10, 10, 50, 50))  # fits both
    assert found(scene, "image-size-differs")[0].edits == (RemoveEntry("images", 1),)
    only_polygon(scene, 2, rectangle(10, 10, 75, 50))  # made on the stated size
    assert found(scene, "image-size-differs")[0].edits == (RemoveEntry("images", 1),)


def test_the_size_of_an_image_without_annotations_is_that_of_its_file(scene):
    scene.train["annotations"] = [a for a in scene.train["annotations"] if a["image_id"] != 2]
    scene.image(2).update(height=600, width=800)
    (finding,) = found(scene, "image-size-differs")
    assert finding.edits == (SetValue("images", 1, "height", HEIGHT), SetValue("images", 1, "width", WIDTH))


def orient(path, orientation):
    with Image.open(path) as image:
        image.load()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


def test_exif_rotation_is_right_raw_or_unclear(scene):
    orient(scene.image_path(2), 6)
    assert [finding.image_id for finding in found(scene, "image-orientation-raw")] == [2]
    scene.image(2).update(height=WIDTH, width=HEIGHT)  # annotated upright: as it should be
    for rule in ("image-orientation-raw", "image-orientation-unclear", "image-size-differs"):
        assert found(scene, rule) == []
    for number in (3, 4):
        orient(scene.image_path(number), 3)
    (finding,) = found(scene, "image-orientation-unclear")
    assert finding.message.startswith("2 of 6 images have an EXIF orientation that leaves their size as it is")
    scene.train["annotations"] = [a for a in scene.train["annotations"] if a["image_id"] not in (3, 4)]
    assert found(scene, "image-orientation-unclear") == []  # nothing that could lie on the wrong spot


# --- what is there twice -----------------------------------------------------------------------------------------

BOXES = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(8, 30), st.integers(8, 30), st.integers(1, 2))


@settings(max_examples=60, deadline=None)
@given(st.lists(BOXES, min_size=2, max_size=12))
def test_overlaps_agree_with_a_dense_reference(boxes):
    document = document_of([(c, rectangle(x, y, x + w, y + h)) for x, y, w, h, c in boxes], (60, 60))
    masks = np.zeros((len(boxes), 60, 60), dtype=bool)
    for mask, (x, y, w, h, _) in zip(masks, boxes, strict=True):
        mask[y : y + h, x : x + w] = True
    classes = [c for *_, c in boxes]
    same, near, other = set(), set(), set()
    for j in range(len(boxes)):
        for i in range(j):
            iou = (masks[i] & masks[j]).sum() / (masks[i] | masks[j]).sum()
            if iou == 1 and classes[i] == classes[j]:
                same.add(j + 1)
            elif iou >= NEAR_IOU:
                (near if classes[i] == classes[j] else other).add(j + 1)
    results = {
        name: {finding.annotation_id for finding in RULES[name].check(Dataset((document,)))}
        for name in ("annotation-repeated", "annotation-near-duplicate", "annotation-two-classes")
    }
    assert results["annotation-repeated"] == same
    # Only the best partner of each distinct annotation is named, so one finding may stand for both kinds.
    assert results["annotation-near-duplicate"] | results["annotation-two-classes"] == (near | other) - same
    assert results["annotation-near-duplicate"] <= near
    assert results["annotation-two-classes"] <= other


def test_repeated_annotations_are_removed_but_the_first():
    polygon = rectangle(5, 5, 30, 30)
    document = document_of([(1, polygon), (2, polygon), (1, polygon), (1, [*polygon[2:], *polygon[:2]])])
    findings = list(RULES["annotation-repeated"].check(Dataset((document,))))
    assert [finding.annotation_id for finding in findings] == [3, 4]  # another first point changes no pixel
    assert findings[0].edits == (RemoveEntry("annotations", 2),)
    assert findings[0].message == "it is the same as annotation 1"
    (finding,) = RULES["annotation-two-classes"].check(Dataset((document,)))
    assert finding.message == "it is a 'class 2', annotation 1 is a 'class 1', and their IoU is 1.00"


def test_boxes_without_masks_and_crowds():
    document = document_of([(1, rectangle(5, 5, 30, 30))] * 4)
    for entry, height in zip(document.raw["annotations"], (25, 26, 25), strict=False):
        del entry["segmentation"]
        entry["bbox"] = [5, 5, 25, height]
    document.raw["annotations"][3]["iscrowd"] = 1
    assert [f.annotation_id for f in RULES["annotation-repeated"].check(Dataset((document,)))] == [3]
    (near,) = RULES["annotation-near-duplicate"].check(Dataset((document,)))
    assert near.annotation_id == 2
    assert near.message == "it and annotation 1 have an IoU of 0.96"


def test_many_annotations_are_compared_without_a_dense_matrix():
    squares = [
        (1, rectangle(12 * (k % 40), 12 * (k // 40), 12 * (k % 40) + 10, 12 * (k // 40) + 10)) for k in range(1200)
    ]
    squares.append((1, [*squares[700][1][:7], squares[700][1][7] - 0.6]))
    document = document_of(squares, (400, 500))
    findings = [
        f
        for name in ("annotation-repeated", "annotation-near-duplicate")
        for f in RULES[name].check(Dataset((document,)))
    ]
    assert [finding.annotation_id for finding in findings] == [1201]
    assert "annotation 701" in findings[0].message


def copy_image(scene, document, number, name, **save):
    """Adds a copy of an image of train to a document, under another name."""
    with Image.open(scene.image_path(number)) as image:
        image.save(scene.images_dir / name, **save)
    document["images"].append({**scene.image(number), "id": 40 + len(document["images"]), "file_name": name})


def test_copies_are_named_by_what_they_share(scene):
    copy_image(scene, scene.train, 2, "same.bmp")
    copy_image(scene, scene.train, 3, "like.jpg", quality=60)
    copy_image(scene, scene.val, 4, "leak.bmp")
    within = {finding.image_id: finding.message for finding in found(scene, "image-near-duplicate")}
    assert within[2] == "'train_2.png', 'same.bmp' have the same pixels"
    assert within[3].startswith("'train_3.png', 'like.jpg' look alike (")
    assert set(within) == {2, 3}
    (leak,) = found(scene, "image-near-duplicate-across")
    assert leak.message == "'leak.bmp' and 'train_4.png' of train.json have the same pixels"
    assert leak.document.path.name == "val.json"
    assert leak.image_id == scene.val["images"][-1]["id"]


def test_the_same_file_in_two_splits_is_said_once(scene):
    scene.val["images"].append({**scene.image(2), "id": 40})
    (finding,) = found(scene, "image-in-two-files")
    assert finding.message == "'train_2.png' is in train.json as well"
    assert found(scene, "image-near-duplicate-across") == []


def test_blank_images_are_no_duplicates(scene):
    for number in (2, 3):
        Image.new("RGB", (WIDTH, HEIGHT), (7, 7, 7)).save(scene.image_path(number))
    assert found(scene, "image-near-duplicate") == []


# --- fit to the training to come ---------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(20, 1500), st.integers(20, 1500), st.sampled_from([(800, 1333), (64, 100), (320, 320)]))
def test_sizes_are_resized_as_torchvision_does(height, width, sizes):
    transform = GeneralizedRCNNTransform(*sizes, [0.0] * 3, [1.0] * 3)
    resized, _ = transform.resize(torch.zeros(3, height, width, dtype=torch.float32), None)
    _, mine = resized_boxes(np.zeros((1, 4)), np.array([[height, width]]), *sizes)
    # torchvision computes the scale in float32, so that a whole number may come out one px less.
    assert np.abs(mine[0] - resized.shape[1:]).max() <= 1


def test_narrow_instances_are_counted_at_training_resolution():
    # 1000 x 2000 px at 333 px: a third. 3 and 5 px become 1.0 and 1.7 px, 7 px become 2.3 px.
    polygons = [rectangle(10, 10, 10 + side, 60) for side in (7, 5, 3, 40)]
    document = document_of([(1, polygon) for polygon in polygons], (1000, 2000))
    (finding,) = RULES["instance-too-small"].check(Dataset((document,), CheckSettings(333, 800)))
    assert finding.annotation_id == 3
    assert finding.message.startswith("2 of 4 instances are narrower than 2 px after resizing to 333 px")
    assert finding.message.endswith("this one is the narrowest, 1 px")
    assert list(RULES["instance-too-small"].check(Dataset((document,), CheckSettings(1000, 2000)))) == []


def small_square(k, image_id):
    x, y = 4 * (k % 19), 2 + 5 * (k // 19)
    polygon = rectangle(x, y, x + 3, y + 4)
    return {"id": 900 + k, "image_id": image_id, "category_id": 1 + k % 3, "segmentation": [polygon], "iscrowd": 0}


@pytest.mark.parametrize(
    ("cap", "says"), [(3, "2 of 6 images have more than 3"), (8, "1 of 6 images has more than 8"), (9, None)]
)
def test_images_fuller_than_the_cap(scene, cap, says):
    others = [a for a in scene.train["annotations"] if a["image_id"] not in (2, 3)]
    many = [small_square(k, 2 + k % 2) for k in range(13)] + [small_square(k, 2) for k in range(13, 15)]
    scene.train["annotations"] = [*others, *many]
    findings = found(scene, "too-many-instances", detection_cap=cap)
    assert len(findings) == (says is not None)
    if says:
        assert findings[0].image_id == 2
        assert findings[0].message.startswith(says)
        assert "this one the most, 9" in findings[0].message


def test_the_cap_that_training_chooses_has_room_for_all(scene):
    scene.val["annotations"] += [small_square(k, 11) for k in range(160)]
    assert len(found(scene, "too-many-instances", detection_cap=100)) == 1
    assert found(scene, "too-many-instances", detection_cap=None) == []


def test_anchors_that_miss_are_said_with_better_ones():
    rng = np.random.default_rng(0)
    corners = rng.uniform(20, 700, (60, 2)).tolist()
    document = document_of([(1, rectangle(x, y, x + 12, y + 12)) for x, y in corners], (800, 800))
    (finding,) = RULES["anchors-miss-instances"].check(Dataset((document,)))
    assert finding.message.startswith("0% of the instances have an anchor")  # 12 x 12 in 32 x 32 is 0.14
    suggested = re.search(r"; model\.anchors\.sizes=\[([0-9,]+)\] covers (\d+)%$", finding.message)
    assert suggested
    assert int(suggested[2]) >= 80
    fitting = CheckSettings(anchor_sizes=tuple(float(size) for size in suggested[1].split(",")))
    assert list(RULES["anchors-miss-instances"].check(Dataset((document,), fitting))) == []


def test_classes_of_which_a_file_has_nothing(scene):
    for document in (scene.train, scene.val):
        document["categories"].append({"id": 4, "name": "root"})
    scene.val["annotations"] = [a for a in scene.val["annotations"] if a["category_id"] != 2]
    scene.val["annotations"][0]["category_id"] = 4
    (unused,) = found(scene, "class-without-instances")
    assert unused.message == "1 of 4 classes have no instance: root"
    unlearned, unmeasured = found(scene, "class-in-one-file")
    assert unlearned.message == "1 class has instances here and none in train.json: root (1)"
    assert unmeasured.message == "1 class has instances in train.json and none here: nut (6)"
    assert {finding.document.path.name for finding in (unlearned, unmeasured)} == {"val.json"}


def test_long_lists_are_cut_short(scene):
    extra = [{"id": 10 + k, "name": f"extra {k}"} for k in range(9)]
    scene.train["categories"] += extra
    (finding,) = found(scene, "class-without-instances")
    assert finding.message.endswith("extra 0, extra 1, extra 2, extra 3, extra 4, extra 5 and 3 more")


@pytest.mark.parametrize("name", ["coco_ccby33", "fruits_nuts", "nuclei"])
def test_real_datasets_raise_no_error_and_have_no_duplicates(shared_dir, name):
    folder = shared_dir / "datasets" / name
    files = ["train.json", "val.json"] if name != "nuclei" else ["train_small.json", "val_small.json"]
    documents = tuple(load_document(folder / "annotations" / file, folder / "images") for file in files)
    quiet = replace(Dataset(documents), progress=lambda what, done, total: None)
    names = {rule.name for rule in RULES.values() for _ in rule.check(quiet)}
    assert not any(RULES[name].severity is Severity.ERROR for name in names)
    assert not any("duplicate" in name or "repeated" in name or "two" in name for name in names)


def test_what_has_to_be_chosen_is_measured_over_all_images_and_chosen_for_all(scene):
    for number, most in ((1, 255), (2, 1020), (3, 4000)):
        values = np.linspace(0, most, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH).astype(np.uint16)
        scene.image_path(number).write_bytes(tiff_bytes(values, values))
    (pages,) = found(scene, "image-pages")
    assert pages.message.startswith("3 of 6 images cannot be read before image.page= is chosen, such as image.page=0 (")
    (ranges,) = found(scene, "image-range", reading=ImageReading(page=1))
    assert "such as 'image.range=[0,4095]' ('train_1.png': its greatest value is 255 (8 bits)" in ranges.message
    assert pages.edits == ranges.edits == ()
    chosen = ImageReading(page=1, range=(0, 4095))
    assert [found(scene, rule, reading=chosen) for rule in ("image-range", "image-damaged")] == [[]] * 2
    lacking, _ = found(scene, "image-pages", reading=chosen)  # the others are no stacks, and those of val
    assert lacking.message.endswith("counted from 0, was chosen): 'train_4.png', 'train_5.png', 'train_6.png'")
