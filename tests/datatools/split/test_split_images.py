"""Splitting: no group in two parts, sizes and classes in proportion, nothing lost, nothing overwritten."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.sparse import csr_array

from finemask.cli import main
from finemask.datatools.split.image_groups import group_images
from finemask.datatools.split.split_images import (
    assign_parts,
    checked_fractions,
    class_counts,
    part_document,
    part_names,
    read_source,
    split_images,
)
from finemask.errors import ConfigError, DataError


def document(images):
    """A COCO document; ``images`` are pairs (file name, classes of its annotations)."""
    entries = [{"id": 10 + k, "file_name": name, "height": 8, "width": 8} for k, (name, _) in enumerate(images)]
    annotations = [
        {"id": 1000 + 50 * k + j, "image_id": 10 + k, "category_id": c, "bbox": [1, 1, 3, 3], "iscrowd": 0}
        for k, (_, classes) in enumerate(images)
        for j, c in enumerate(classes)
    ]
    categories = [{"id": c, "name": f"class {c}"} for c in sorted({c for _, classes in images for c in classes})]
    return {"info": {"by": "test"}, "images": entries, "annotations": annotations, "categories": categories}


def source_of(images):
    return read_source(Path("set.json"), document(images))


def random_images(n, seed, classes=12):
    """Images of a long-tailed dataset with several classes an image, each class with several instances."""
    rng = np.random.default_rng(seed)
    share = 0.6 / np.arange(1, classes + 1)
    return [
        (
            f"{k}.png",
            [c for c in range(1, classes + 1) if rng.random() < share[c - 1] for _ in range(rng.integers(1, 4))],
        )
        for k in range(n)
    ]


# --- the algorithm -----------------------------------------------------------------------------------------------


def test_the_rarest_class_is_distributed_first_as_in_the_paper():
    # 8 images in halves. Class B has 2 images: one for each half. Class A has 6, two of them those of B.
    labels = np.array([[1, 1], [1, 1], [1, 0], [1, 0], [1, 0], [1, 0], [0, 0], [0, 0]])
    for seed in range(20):
        parts = assign_parts(csr_array(labels), np.ones(8, dtype=np.int64), [0.5, 0.5], seed)
        for part in (0, 1):
            assert labels[parts == part].sum(axis=0).tolist() == [3, 1]
            assert (parts == part).sum() == 4


@given(
    st.lists(st.tuples(st.integers(1, 9), st.lists(st.integers(0, 3), max_size=4)), min_size=3, max_size=40),
    st.sampled_from([(0.5, 0.5), (0.8, 0.1, 0.1), (0.25,) * 4, (0.9, 0.1)]),
    st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_every_group_has_a_part_and_sizes_are_near_what_was_asked_for(groups, fractions, seed):
    sizes = np.array([size for size, _ in groups])
    labels = np.array([[min(size, classes.count(c)) for c in range(4)] for size, classes in groups])
    parts = assign_parts(csr_array(labels), sizes, fractions, seed)
    assert parts.min() >= 0
    assert parts.max() < len(fractions)
    if len(groups) >= len(fractions):
        assert set(parts.tolist()) == set(range(len(fractions)))
    again = assign_parts(csr_array(labels), sizes, fractions, seed)
    assert (parts == again).all()
    if sizes.sum() * min(fractions) >= sizes.max():
        got = np.bincount(parts, weights=sizes, minlength=len(fractions))
        # A part takes a group only while it has room for half of it, or when no part has and it has most.
        assert (got - np.array(fractions) * sizes.sum() < sizes.max()).all()


def test_without_groups_the_sizes_are_exact():
    images = random_images(500, 0)
    source = source_of(images)
    parts = split_images(source, group_images(source.file_names, []), [0.8, 0.1, 0.1])
    assert np.bincount(parts).tolist() == [400, 50, 50]


@pytest.mark.parametrize("seed", [0, 1])
def test_stratified_shares_are_several_times_nearer_than_random_ones(seed):
    source = source_of(random_images(400, seed))
    groups = group_images(source.file_names, [])

    def deviation(stratify):
        found = []
        for draw in range(3):
            parts = split_images(source, groups, [0.7, 0.15, 0.15], stratify=stratify, seed=draw)
            images, _ = class_counts(source, parts, 3)
            found.append(np.abs(images / images.sum(axis=0) - np.array([[0.7], [0.15], [0.15]])).mean())
        return np.mean(found)

    assert deviation(True) < 0.4 * deviation(False)
    images, _ = class_counts(source, split_images(source, groups, [0.7, 0.15, 0.15]), 3)
    wanted = np.outer([0.7, 0.15, 0.15], images.sum(axis=0))
    assert np.abs(images - wanted).max() <= 2.5  # images, of any class in any part


def test_parts_of_one_class_have_full_and_empty_images_in_proportion():
    rng = np.random.default_rng(0)
    source = source_of([(f"{k}.png", [1] * int(rng.pareto(1.0) * 5)) for k in range(300)])
    groups = group_images(source.file_names, [])
    for seed in range(3):
        parts = split_images(source, groups, [0.5, 0.5], seed=seed)
        full = np.bincount(source.image_of, minlength=300) >= 20
        assert abs((full & (parts == 0)).sum() - (full & (parts == 1)).sum()) <= 4


def test_seeds_give_different_splits_and_one_seed_the_same():
    source = source_of(random_images(60, 0))
    groups = group_images(source.file_names, [])
    splits = {tuple(split_images(source, groups, [0.5, 0.5], seed=seed).tolist()) for seed in (0, 1, 2, 0, 1, 2)}
    assert len(splits) == 3


def test_a_group_larger_than_its_part_goes_to_the_largest_part():
    images = [(f"a_{k}.png", [1]) for k in range(30)] + [(f"b{k}_0.png", [1]) for k in range(20)]
    source = source_of(images)
    groups = group_images(source.file_names, ["^(.+)_"])
    for seed in range(5):
        parts = split_images(source, groups, [0.1, 0.8, 0.1], seed=seed)
        assert set(parts[:30].tolist()) == {1}


# --- groups ------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from("abcdefg"), st.sampled_from("xyz")), min_size=3, max_size=50), st.integers(0, 9)
)
@settings(max_examples=60, deadline=None)
def test_parts_never_share_a_group(names, seed):
    files = [f"{folder}/{patient}-{k}.png" for k, (folder, patient) in enumerate(names)]
    source = source_of([(name, [1 + k % 3]) for k, name in enumerate(files)])
    if len(set(names)) < 3:
        return
    groups = group_images(files, [r"^(./.)-"])
    parts = split_images(source, groups, [0.6, 0.2, 0.2], seed=seed)
    for pair in set(names):
        assert len({int(part) for part, name in zip(parts, names, strict=True) if name == pair}) == 1


def test_a_group_is_the_first_capture_or_the_match():
    files = ["p1_a.png", "p2_a.png", "p1_b.png", "q.png"]
    assert group_images(files, [r"^(p\d)_"]).of_image.tolist() == [0, 1, 0, 2]
    assert group_images(files, [r"_[ab]"]).of_image.tolist() == [0, 0, 1, 2]
    assert group_images(files, [r"(x)?p\d"]).of_image.tolist() == [0, 1, 0, 2]  # the group took no part in the match
    (note,) = group_images(files, [r"^(p\d)_"]).notes
    assert note == r"not matched by ^(p\d)_ and each alone: 1 of 4 file names, the first is 'q.png'."


def test_rules_add_up():
    files = ["a/1.png", "a/2.png", "b/2.png", "b/3.png", "c/4.png"]
    assert group_images(files, ["folder"]).of_image.tolist() == [0, 0, 1, 1, 2]
    assert group_images(files, [r"(\d)\.png"]).of_image.tolist() == [0, 1, 1, 2, 3]
    assert group_images(files, ["folder", r"(\d)\.png"]).of_image.tolist() == [0, 0, 0, 0, 1]
    assert group_images(files, ["folder", r"(\d)\.png"]).members() == [[0, 1, 2, 3]]


def test_one_file_under_two_ids_is_never_torn_apart():
    assert group_images(["a.png", "b.png", "a.png"], []).of_image.tolist() == [0, 1, 0]


def test_near_duplicates_stay_together(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(4):
        blocks = np.kron(rng.integers(0, 256, (6, 6, 3)), np.ones((12, 12, 1))).astype(np.uint8)
        Image.fromarray(blocks).save(tmp_path / f"{k}.png")
        Image.fromarray(blocks).resize((50, 50)).save(tmp_path / f"copy of {k}.jpg")
    Image.new("RGB", (50, 50)).save(tmp_path / "black 1.png")
    Image.new("RGB", (50, 50)).save(tmp_path / "black 2.png")
    files = [f"{k}.png" for k in range(4)] + [f"copy of {k}.jpg" for k in range(4)] + ["black 1.png", "black 2.png"]
    seen = []
    groups = group_images(files, ["hash"], tmp_path, lambda: seen.append(1))
    assert groups.of_image.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5]
    assert len(seen) == 10
    assert groups.notes[0].startswith(
        "2 images are blank or cannot be read and stand alone, the first is 'black 1.png'"
    )
    assert groups.notes[1] == "8 images are near-duplicates of another, in 4 sets."


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("folder", "all 3 images into one group"),
        (r"\d*x", "matches none of the 3 file names"),
        ("(", "no regular expression"),
        ("hash", "images=DIR"),
    ],
)
def test_rules_that_cannot_work_are_refused(rule, words):
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        group_images(["1.png", "2.png", "3.png"], [rule])


# --- documents ---------------------------------------------------------------------------------------------------


def test_parts_keep_everything_but_the_images_of_others():
    images = random_images(30, 0)
    original = document(images)
    before = json.dumps(original)
    source = read_source(Path("set.json"), original)
    parts = split_images(source, group_images(source.file_names, []), [0.5, 0.5])
    halves = [part_document(source, parts == k) for k in (0, 1)]
    assert json.dumps(original) == before
    for key in ("images", "annotations"):
        ids = [entry["id"] for half in halves for entry in half[key]]
        assert sorted(ids) == [entry["id"] for entry in original[key]]
    for half in halves:
        assert half["categories"] == original["categories"]
        assert half["info"] == original["info"]
        mine = {entry["id"] for entry in half["images"]}
        assert {entry["image_id"] for entry in half["annotations"]} <= mine
        assert [e for e in original["annotations"] if e["image_id"] in mine] == half["annotations"]


def test_counts_are_those_of_the_annotations():
    source = source_of([("a.png", [1, 1, 2]), ("b.png", [2]), ("c.png", [])])
    source.document["annotations"][3]["iscrowd"] = 1
    source = read_source(Path("set.json"), source.document)
    images, instances = class_counts(source, np.array([0, 1, 1]), 2)
    assert images.tolist() == [[1, 1], [0, 0]]
    assert instances.tolist() == [[2, 1], [0, 0]]


def test_fractions():
    assert checked_fractions([0.5, 0.25, 0.25]) == [0.5, 0.25, 0.25]
    assert checked_fractions([0.3333, 0.3333, 0.3334]) == pytest.approx([1 / 3] * 3, abs=1e-4)
    with pytest.raises(ConfigError, match=r"fractions=\[0.8,0.1,0.1\]"):
        checked_fractions([8, 1, 1])
    for wrong in ([1.0], [], [0.5, -0.5, 1.0], [0.5, "a"], [True, False], [float("nan"), 1], [float("inf"), 1]):
        with pytest.raises(ConfigError, match="fractions"):
            checked_fractions(wrong)
    assert part_names(5) == ["train", "val", "test", "part4", "part5"]


def _spoil(change):
    spoilt = document([("a.png", [1]), ("b.png", [1, 2])])
    change(spoilt)
    return spoilt


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["images"][1].update(id=10), "the id 10 is there twice in images"),
        (lambda d: d["images"][1].pop("id"), "entry 2 of images has no id"),
        (lambda d: d["images"][1].pop("file_name"), "entry 2 of images has no file_name"),
        (lambda d: d["images"][1].update(file_name="../b.png"), "leads out of the images folder"),
        (lambda d: d["annotations"][0].update(image_id=99), "entry 1 of annotations has the image_id 99"),
        (lambda d: d["annotations"][2].update(category_id=None), "entry 3 of annotations has the category_id null"),
        (lambda d: d["categories"][0].update(id="one"), "entry 1 of categories has no id"),
        (lambda d: d.update(images=[], annotations=[]), "no images to split"),
    ],
)
def test_broken_documents_are_refused(change, words):
    with pytest.raises(DataError, match=words):
        read_source(Path("set.json"), _spoil(change))


def test_more_parts_than_groups():
    source = source_of([("a/1.png", [1]), ("a/2.png", [1]), ("b/1.png", [1])])
    with pytest.raises(DataError, match="3 parts cannot be made of 2 groups of images"):
        split_images(source, group_images(source.file_names, ["folder"]), [0.4, 0.3, 0.3])


# --- the verb ----------------------------------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path):
    (tmp_path / "images").mkdir()
    images = random_images(40, 1, classes=4)
    rng = np.random.default_rng(0)
    for name, _ in images:
        blocks = np.kron(rng.integers(0, 256, (6, 6, 3)), np.ones((6, 6, 1))).astype(np.uint8)
        Image.fromarray(blocks).save(tmp_path / "images" / name)
    (tmp_path / "all.json").write_text(json.dumps(document(images)))
    return tmp_path


def split(dataset, *words):
    return main(["data", "split", f"annotations={dataset / 'all.json'}", *words])


def names_in(path):
    return [entry["file_name"] for entry in json.loads(path.read_text())["images"]]


def test_the_verb_writes_parts_and_says_what_is_in_them(dataset, capsys):
    output = dataset / "annotations"
    assert split(dataset, f"output={output}", "fractions=[0.5,0.25,0.15,0.1]", f"images={dataset / 'images'}") == 0
    parts = [names_in(output / f"{name}.json") for name in ("train", "val", "test", "part4")]
    assert [len(part) for part in parts] == [20, 10, 6, 4]
    assert sorted(name for part in parts for name in part) == sorted(names_in(dataset / "all.json"))
    printed = capsys.readouterr().out
    assert "class 1" in printed
    assert "No near-duplicate images." in printed
    assert f"Train on them: finemask train data.root={dataset}\n" in printed
    report = json.loads((output / "split.json").read_text())
    assert report["parts"] == {"train": 20, "val": 10, "test": 6, "part4": 4}
    assert report["group_by"] == ["hash"]
    total = sum(len(classes) for _, classes in random_images(40, 1, classes=4))
    assert sum(part["instances"] for c in report["classes"].values() for part in c.values()) == total


def test_folds_hold_each_image_once_for_validation(dataset):
    output = dataset / "folds"
    assert split(dataset, f"output={output}", "folds=5", "group_by='^([0-9])'") == 0
    everything = sorted(names_in(dataset / "all.json"))
    held_out = []
    for k in range(1, 6):
        train, val = (names_in(output / f"fold{k}" / f"{part}.json") for part in ("train", "val"))
        assert sorted(train + val) == everything
        assert not {name[0] for name in train} & {name[0] for name in val}
        held_out += val
    assert sorted(held_out) == everything


def test_a_second_split_replaces_the_first_and_nothing_else(dataset, capsys):
    output = dataset / "out"
    assert split(dataset, f"output={output}") == 0
    assert split(dataset, f"output={output}", "fractions=[0.5,0.5]", "seed=3") == 0
    assert sorted(path.name for path in output.iterdir()) == ["split.json", "train.json", "val.json"]
    (output / "test.json").write_text("mine")
    assert split(dataset, f"output={output}") == 2
    assert "test.json is there already" in capsys.readouterr().err
    assert (output / "test.json").read_text() == "mine"
    assert len(names_in(output / "train.json")) == 20
    (output / "split.json").unlink()
    assert split(dataset, f"output={output}", "fractions=[0.5,0.5]") == 2


def test_the_file_that_is_split_is_never_overwritten(dataset, capsys):
    (dataset / "all.json").rename(dataset / "train.json")
    before = (dataset / "train.json").read_bytes()
    assert main(["data", "split", f"annotations={dataset / 'train.json'}", f"output={dataset}"]) == 2
    assert "would replace the file that is split" in capsys.readouterr().err
    assert (dataset / "train.json").read_bytes() == before
    assert not (dataset / "val.json").exists()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("folds=1", "folds cannot be 1"),
        ("folds=41", "41 parts cannot be made of 40 images"),
        ("seed=-1", "seed cannot be -1"),
        ("fractions=0.8", "fractions cannot be 0.8"),
        ("images=/nowhere", "no such folder of images"),
        ("group_by=hash", "images=DIR"),
        ("group_by=folder", "all 40 images into one group"),
    ],
)
def test_what_cannot_be_done_is_explained(dataset, capsys, word, message):
    assert split(dataset, f"output={dataset / 'out'}", word) == 2
    assert message in capsys.readouterr().err
    assert not (dataset / "out").exists()


@pytest.mark.parametrize("name", ["coco_ccby33", "nuclei"])
def test_real_annotations(shared_dir, tmp_path, name):
    path = shared_dir / "datasets" / name / "annotations" / "train.json"
    assert main(["data", "split", f"annotations={path}", f"output={tmp_path}", "fractions=[0.7,0.3]"]) == 0
    whole = json.loads(path.read_text())
    parts = [json.loads((tmp_path / f"{part}.json").read_text()) for part in ("train", "val")]
    assert sum(len(part["annotations"]) for part in parts) == len(whole["annotations"])
    share = len(parts[0]["annotations"]) / len(whole["annotations"])
    assert len(parts[0]["images"]) == round(0.7 * len(whole["images"]))
    assert share == pytest.approx(0.7, abs=0.03)


def test_a_foreign_report_removes_nothing(dataset, capsys):
    output = dataset / "out"
    output.mkdir()
    (dataset / "victim.json").write_text("mine")
    (output / "other.txt").write_text("mine")
    files = ["../victim.json", str(dataset / "victim.json"), "other.txt", 7]
    (output / "split.json").write_text(json.dumps({"finemask_split": 1, "files": files}))
    assert split(dataset, f"output={output}") == 0
    assert (dataset / "victim.json").read_text() == (output / "other.txt").read_text() == "mine"
    for foreign in ('{"files": ["train.json"]}', "[]", "no json"):
        (output / "split.json").write_text(foreign)
        assert split(dataset, f"output={output}") == 2
        assert "no earlier split wrote it" in capsys.readouterr().err
        assert (output / "split.json").read_text() == foreign


def test_an_output_that_is_a_file(dataset, capsys):
    (dataset / "out").write_text("mine")
    assert split(dataset, f"output={dataset / 'out'}") == 2
    assert "this is a file, a folder is needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["output=annotations", "images=images"], "data.root=."),
        (["output=annotations"], "data.root=DIR data.images=IMAGES data.train={root}/annotations/train.json"),
        (["output=splits", "images=images"], "data.root=. data.train=splits/train.json data.val=splits/val.json"),
        (["output=new/a", "images=images"], "data.root={root}/images data.images=. data.train={root}/new/a/train.json"),
        (
            ["output=f", "images=images", "folds=2"],
            "data.root=. data.train=f/fold1/train.json data.val=f/fold1/val.json",
        ),
    ],
)
def test_the_command_that_trains_finds_the_files(dataset, monkeypatch, capsys, words, command):
    monkeypatch.chdir(dataset)
    assert main(["data", "split", "annotations=all.json", *words]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Train on them: ")]
    assert line.removeprefix("Train on them: finemask train ").startswith(command.format(root=dataset))
    keys = dict(word.split("=", 1) for word in line.split()[5:])
    root = Path(keys.get("data.root", "."))
    if root.name != "DIR":
        train = root / keys.get("data.train", "annotations/train.json")
        first = json.loads(train.read_text())["images"][0]["file_name"]
        assert (root / keys.get("data.images", "images") / first).is_file()


def test_what_could_not_be_met_is_said(dataset, capsys):
    whole = json.loads((dataset / "all.json").read_text())
    whole["categories"].append({"id": 50, "name": "lonely"})
    whole["annotations"].append({"id": 99999, "image_id": 10, "category_id": 50, "bbox": [1, 1, 2, 2]})
    whole["categories"].append({"id": 51, "name": "nobody"})
    for k, entry in enumerate(whole["images"]):
        entry["file_name"] = f"scan {min(k, 30)}/{k}.png"
    (dataset / "all.json").write_text(json.dumps(whole))
    assert split(dataset, f"output={dataset / 'out'}", "group_by=folder", "fractions=[0.9,0.1]") == 0
    printed = capsys.readouterr().out
    assert "31 groups of images, none of them in two parts; the largest has 10 images." in printed
    assert "val lacks" in printed
    assert "lonely (1)" in printed
    assert "1 of 6 classes has no instance" in printed
    report = json.loads((dataset / "out" / "split.json").read_text())
    assert report["groups"] == [[f"scan 30/{k}.png" for k in range(30, 40)]]
    assert report["classes"]["nobody"] == {part: {"images": 0, "instances": 0} for part in ("train", "val")}


def test_rules_can_be_given_as_a_list_and_none_turns_them_off(dataset):
    output = dataset / "out"
    assert split(dataset, f"output={output}", "group_by=['^([0-9])',hash]", f"images={dataset / 'images'}") == 0
    report = json.loads((output / "split.json").read_text())
    assert report["group_by"] == ["^([0-9])", "hash"]
    assert sorted(len(group) for group in report["groups"])[-1] == 11  # 1.png and 10.png to 19.png
    assert split(dataset, f"output={output}", "group_by=none", f"images={dataset / 'images'}") == 0
    assert json.loads((output / "split.json").read_text())["group_by"] == []


def test_a_dataset_without_annotations_can_be_split(dataset):
    whole = json.loads((dataset / "all.json").read_text()) | {"annotations": [], "categories": []}
    (dataset / "all.json").write_text(json.dumps(whole))
    assert split(dataset, f"output={dataset / 'out'}", "fractions=[0.5,0.5]") == 0
    assert len(names_in(dataset / "out" / "val.json")) == 20
