"""Accepted suspects are applied by ``finemask data check``, all or none, to what they were found in."""

import json

import pytest
from label_faults import is_found

from finemask.cli import main as cli
from finemask.coco.index import CocoIndex
from finemask.config import compose
from finemask.datatools.suspects.compared_images import compare_images
from finemask.datatools.suspects.label_faults import find_suspects
from finemask.datatools.suspects.suspects_list import apply_accepted, digest_of, listing, read_accepted
from finemask.errors import ConfigError, DataError
from finemask.ops.rle import mask_iou, rle_from_segmentation
from finemask.verbs.data.check import main as data_check


def one_iou(a, b):
    return mask_iou([a], [b])[0, 0]


@pytest.fixture(scope="module")
def entries(faulty):
    """The whole list of suspects of the faulty labels."""
    index = CocoIndex.read(faulty.faulty, None)
    images = list(compare_images(index, json.loads(faulty.results.read_text())))
    return listing(find_suspects(images, 0.1), index, {})


def with_accepted(entries, ids):
    return {**entries, "suspects": [{**entry, "accept": entry["id"] in ids} for entry in entries["suspects"]]}


@pytest.fixture
def corrected(faulty, entries, tmp_path):
    """Runs the verb with some entries accepted; the written document, by annotation id, and the lines of its log."""

    def run(ids):
        (tmp_path / "list.json").write_text(json.dumps(with_accepted(entries, ids)))
        words = [f"annotations={faulty.faulty}", f"suspects={tmp_path / 'list.json'}", f"fix={tmp_path / 'out.json'}"]
        before = faulty.faulty.read_bytes()
        data_check(compose("data check", [*words, "open_images=false"]))
        assert faulty.faulty.read_bytes() == before
        written = json.loads((tmp_path / "out.json").read_text())
        return {entry["id"]: entry for entry in written["annotations"]}, (tmp_path / "out.log").read_text().splitlines()

    return run


def test_accepting_what_was_planted_brings_the_sound_labels_back(faulty, entries, corrected):
    sound = {entry["id"]: entry for entry in json.loads(faulty.sound.read_text())["annotations"]}
    right = {
        entry["id"]: fault
        for fault in faulty.planted
        for entry in entries["suspects"]
        if is_found(fault, [entry], one_iou)
    }
    assert len(right) >= 0.8 * len(faulty.planted)
    untouched, _ = corrected([])
    after, log = corrected(right)
    assert len([line for line in log if "accepted: " in line]) >= len(right)
    for number, fault in right.items():
        entry = entries["suspects"][number - 1]
        if fault.rule == "wrong-class":
            (wrong,) = fault.annotation_ids
            assert after[wrong]["category_id"] == sound[wrong]["category_id"] != untouched[wrong]["category_id"]
        elif fault.rule == "duplicate-label":
            assert len(set(fault.annotation_ids) - after.keys()) == 1
        elif fault.rule == "loose-mask":
            (loose,) = fault.annotation_ids
            assert overlap(after[loose], fault.rle) > overlap(untouched[loose], fault.rle)
            assert after[loose]["bbox"] == entry["change"]["bbox"]
            assert after[loose]["area"] == entry["change"]["area"]
        else:
            new = [label for number, label in after.items() if number not in untouched]
            assert any(label["image_id"] == fault.image_id and overlap(label, fault.rle) > 0.5 for label in new)
    concerned = {number for fault in right.values() for number in fault.annotation_ids}
    assert {k: v for k, v in after.items() if k in untouched and k not in concerned} == {
        k: v for k, v in untouched.items() if k not in concerned
    }


def overlap(annotation, rle):
    return one_iou(rle_from_segmentation(annotation["segmentation"], *rle["size"]), rle)


def test_what_nobody_accepted_changes_nothing(faulty, entries, corrected, tmp_path):
    after, log = corrected([])
    plain = tmp_path / "plain.json"
    data_check(compose("data check", [f"annotations={faulty.faulty}", f"fix={plain}", "open_images=false"]))
    assert list(after.values()) == json.loads(plain.read_text())["annotations"]
    assert log == plain.with_suffix(".log").read_text().splitlines()


def first_of(entries, rule):
    return next(entry for entry in entries["suspects"] if entry["rule"] == rule)


def label_added(document, entry):
    document["annotations"].append({
        "id": 10**6, "image_id": entry["image_id"], "category_id": 1, "iscrowd": 0,
        "segmentation": entry["change"]["segmentation"],
    })  # fmt: skip


def relabelled(annotation):
    annotation["category_id"] = 3 if annotation["category_id"] != 3 else 7


def of(document, number):
    return next(entry for entry in document["annotations"] if entry["id"] == number)


MISFITS = [
    ("wrong-class", lambda d, e: d["annotations"].remove(of(d, e["annotation_ids"][0])), "is gone"),
    ("wrong-class", lambda d, e: relabelled(of(d, e["annotation_ids"][0])), "has changed since"),
    ("loose-mask", lambda d, e: of(d, e["annotation_ids"][0]).update(segmentation=[[1, 1, 9, 1, 9, 9]]), "has changed"),
    ("duplicate-label", lambda d, e: d["annotations"].remove(of(d, e["annotation_ids"][1])), "is gone"),
    ("duplicate-label", lambda d, e: d["annotations"].append(of(d, e["annotation_ids"][0])), "is there 2 times"),
    ("missing-label", label_added, "annotation 1000000 labels this object now"),
    ("missing-label", lambda d, e: d["images"][:] and d.update(images=d["images"][:0]), "there is no image"),
    ("missing-label", lambda d, e: [i.update(file_name="x.png") for i in d["images"]], "'x.png', not"),
    ("missing-label", lambda d, e: [c.update(name="blob") for c in d["categories"]], "is 'blob', not"),
    ("wrong-class", lambda d, e: d.update(categories=d["categories"][:0]), "there is no category"),
    ("missing-label", lambda d, e: e["change"].update(segmentation={"size": [3, 3], "counts": "9"}), "run lengths"),
    ("loose-mask", lambda d, e: e["change"].update(annotation_id=-1), "not one of those seen"),
    ("loose-mask", lambda d, e: e.update(seen={}), "which annotations it is about"),
]


@pytest.mark.parametrize(("rule", "spoil", "why"), MISFITS)
def test_an_entry_that_no_longer_fits_is_refused_by_name(faulty, entries, tmp_path, capsys, rule, spoil, why):
    document = json.loads(faulty.faulty.read_text())
    listed = json.loads(json.dumps(entries))
    entry = first_of(listed, rule)
    other = next(e for e in listed["suspects"] if e["rule"] == rule and e["id"] != entry["id"])
    entry["accept"] = other["accept"] = True
    spoil(document, entry)
    (tmp_path / "labels.json").write_text(json.dumps(document))
    (tmp_path / "list.json").write_text(json.dumps(listed))
    words = [f"annotations={tmp_path / 'labels.json'}", f"suspects={tmp_path / 'list.json'}"]
    assert cli(["data", "check", *words, f"fix={tmp_path / 'out.json'}"]) == 2
    said = capsys.readouterr().err
    assert f"entry {entry['id']} ({rule} on image {entry['image_id']})" in said
    assert why in said
    assert not (tmp_path / "out.json").exists()


def test_two_entries_about_one_annotation_are_refused(faulty, entries, tmp_path):
    from finemask.datatools.check.run_rules import load_document

    entry = first_of(entries, "wrong-class")
    twice = [{**entry, "accept": True}, {**entry, "id": 999, "accept": True}]
    with pytest.raises(DataError, match=rf"entry 999.*changes annotation {entry['annotation_ids'][0]} too"):
        apply_accepted(load_document(faulty.faulty), twice, tmp_path / "list.json")


def test_a_person_may_choose_another_class(faulty, entries, tmp_path):
    from finemask.datatools.check.run_rules import load_document

    entry = json.loads(json.dumps(first_of(entries, "wrong-class")))
    entry["change"] |= {"category_id": 7, "category": "triangle"}
    document, changes = apply_accepted(load_document(faulty.faulty), [entry], tmp_path / "list.json")
    (number,) = entry["annotation_ids"]
    assert of(document.raw, number)["category_id"] == 7
    assert len(changes) <= 1  # none if it was a triangle already


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([], "list of suspects"),
        ({"format": "else", "suspects": []}, "list of suspects"),
        ({"format": "finemask suspects 1", "suspects": {}}, "list of suspects"),
        ({"format": "finemask suspects 1", "suspects": [{"accept": "yes"}]}, "accept is true or false"),
        ({"format": "finemask suspects 1", "suspects": [{"accept": True, "rule": "other"}]}, "rule 'other'"),
        (
            {"format": "finemask suspects 1", "suspects": [
                {"accept": True, "rule": "wrong-class", "change": {"action": "add-label"}}
            ]},
            "no change that belongs to it",
        ),
    ],
)  # fmt: skip
def test_what_is_no_list_of_suspects_is_refused(tmp_path, content, why):
    (tmp_path / "list.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=why):
        read_accepted(tmp_path / "list.json")


@pytest.mark.parametrize("words", [["annotations=a.json"], ["annotations=[a.json,b.json]", "fix=out/"]])
def test_suspects_need_one_file_and_a_place_to_write(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / f"{name}.json").write_text("{}")
    with pytest.raises(ConfigError, match="corrects one file"):
        data_check(compose("data check", [*words, "suspects=list.json"]))


def test_the_digest_tells_what_was_judged_and_nothing_else():
    entry = {"id": 1, "image_id": 2, "category_id": 3, "segmentation": [[1, 2, 3, 4, 5, 6]], "bbox": [1, 2, 3, 4]}
    assert digest_of(entry) == digest_of({**entry, "score": 1, "id": 9})
    changed = [{"image_id": 3}, {"category_id": 1}, {"segmentation": [[1, 2, 3, 4, 5, 7]]}, {"bbox": [1, 2, 3, 5]}]
    assert len({digest_of(entry | change) for change in [{}, *changed]}) == 5
