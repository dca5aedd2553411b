"""``finemask data suspects`` from the command line: what it writes, shows and refuses."""

import html
import json
import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from inference_data import CATEGORIES, ColourModel, colour_header, rectangles
from PIL import Image

from finemask.cli import main as cli
from finemask.config import compose
from finemask.data.image_sampling import held_out
from finemask.errors import ConfigError, DataError
from finemask.verbs.data.suspects import main
from finemask.workflows.detect_split import detect_split

BOX = {"red": (4, 4, 24, 24), "green": (30, 5, 50, 25), "blue": (6, 30, 26, 50)}


@pytest.fixture
def coloured(tmp_path, monkeypatch):
    """Twelve pictures of three rectangles each, all labelled but one; the model sees colours."""
    images, annotations = [], []
    (tmp_path / "data/images").mkdir(parents=True)
    for k in range(1, 13):
        Image.fromarray(rectangles(60, 60, **BOX)).save(tmp_path / f"data/images/{k}.png")
        images.append({"id": k, "file_name": f"{k}.png", "height": 60, "width": 60})
        for label, (x0, y0, x1, y1) in enumerate(BOX.values()):
            annotations.append({
                "id": 10 * k + label, "image_id": k, "category_id": CATEGORIES[label].id, "iscrowd": 0,
                "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]], "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
            })  # fmt: skip
    annotations = [entry for entry in annotations if entry["id"] != 50]
    categories = [{"id": category.id, "name": category.name} for category in CATEGORIES]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "data/annotations").mkdir()
    (tmp_path / "data/annotations/train.json").write_text(json.dumps(document))
    fingerprint = sha256((tmp_path / "data/annotations/train.json").read_bytes()).hexdigest()
    headers = {
        "m": colour_header(sha256="ab"),
        "knows": colour_header(sha256="cd", data_fingerprint=fingerprint),
        **{f"half{k}": colour_header(sha256=f"{k}", data_fingerprint=fingerprint, held_out=f"{k}/2") for k in (1, 2)},
        "third": colour_header(data_fingerprint=fingerprint, held_out="2/3"),
        "foreign": colour_header(data_fingerprint="other", held_out="2/2"),
    }
    monkeypatch.setattr("finemask.model_file.read_header", lambda path: headers[Path(path).stem])

    def loaded(path, trust=()):
        return ColourModel(), headers[Path(path).stem]

    monkeypatch.setattr("finemask.inference.exported_model.open_model", loaded)
    return tmp_path


def suspects(*words):
    return main(compose("data suspects", [str(word) for word in words]))


def test_a_model_finds_the_label_that_is_missing(coloured, capsys):
    assert suspects("model=m.safetensors", f"data.root={coloured}/data", f"output={coloured}/out") == 0
    content = json.loads((coloured / "out/suspects.json").read_text())
    (entry,) = content["suspects"]
    assert (entry["rule"], entry["image_id"], entry["file_name"]) == ("missing-label", 5, "5.png")
    assert entry["accept"] is False
    assert entry["change"]["category"] == "red fig"
    assert entry["change"]["category_id"] == 3
    assert entry["change"]["bbox"] == [4.0, 4.0, 20.0, 20.0]
    assert content["agreement"] == {"labels": 35, "found": 35, "recall": 1.0}
    said = capsys.readouterr().out
    assert "missing-label" in said
    assert "finds 35 of the 35 labels" in said
    assert "finemask data check annotations=" in said


def test_models_judge_what_they_have_not_seen(coloured, monkeypatch, capsys):
    seen = {}

    def note(model, index, evaluator, *rest, positions):
        seen[len(seen)] = [int(index.image_ids[i]) for i in positions]
        detect_split(model, index, evaluator, *rest, positions=positions)

    monkeypatch.setattr("finemask.workflows.detect_split.detect_split", note)
    words = (f"data.root={coloured}/data", f"output={coloured}/out")
    suspects("model=[half2.safetensors,half1.safetensors]", *words)
    ids = list(range(1, 13))
    for number, part in enumerate(("2/2", "1/2")):
        assert seen[number] == [id_ for id_, is_in in zip(ids, held_out(ids, part), strict=True) if is_in]
    content = json.loads((coloured / "out/suspects.json").read_text())
    assert content["model"] == ["half2.safetensors", "half1.safetensors"]
    assert content["model_sha256"] == ["2", "1"]
    assert [(entry["rule"], entry["image_id"]) for entry in content["suspects"]] == [("missing-label", 5)]
    assert content["agreement"]["found"] == 35
    said = capsys.readouterr().out
    assert "The models find 35 of the 35 labels" in said
    assert "data.held_out" not in said


def test_a_model_judges_any_annotation_file(coloured):
    suspects("model=m.safetensors", f"data.root={coloured}/data", f"output={coloured}/split")
    labels = (f"annotations={coloured}/data/annotations/train.json", f"images={coloured}/data/images")
    suspects("model=m.safetensors", *labels, f"output={coloured}/file")
    split, file = (json.loads((coloured / name / "suspects.json").read_text()) for name in ("split", "file"))
    assert (split["split"], file["split"]) == ("train", None)
    assert file["suspects"] == split["suspects"]
    assert file["suspects"]


def test_a_model_that_knows_the_labels_by_heart_is_said_to(coloured, capsys):
    suspects("model=knows.safetensors", f"data.root={coloured}/data", f"output={coloured}/out")
    assert "data.held_out=1/2 and 2/2" in " ".join(capsys.readouterr().out.split())
    assert "data.held_out=1/2 and 2/2" in (coloured / "out/index.html").read_text()


@pytest.mark.parametrize(
    ("models", "error", "why"),
    [
        ("half1,knows", ConfigError, "knows.safetensors was trained without data.held_out"),
        ("half1,half1", ConfigError, "without the parts 1/2, 1/2, which together are not all images"),
        ("half1,third", ConfigError, "Give 2 models: one for each of 1/2, 2/2"),
        ("half1,foreign", DataError, "foreign.safetensors: was not trained on"),
        ("", ConfigError, "model cannot be []"),
    ],
)
def test_models_that_do_not_add_up_are_refused(coloured, models, error, why):
    files = ",".join(f"{name}.safetensors" for name in models.split(",") if name)
    with pytest.raises(error) as raised:
        suspects(f"model=[{files}]", f"data.root={coloured}/data", f"output={coloured}/out")
    assert why in str(raised.value)
    assert not (coloured / "out").exists()


def test_from_results_to_a_corrected_file(coloured, capsys):
    """The whole way on the command line; the page holds the list itself, and needs nothing from elsewhere."""
    suspects("model=m.safetensors", f"data.root={coloured}/data", f"output={coloured}/first")
    (entry,) = json.loads((coloured / "first/suspects.json").read_text())["suspects"]
    labels = coloured / "data/annotations/train.json"
    found = [
        {"image_id": label["image_id"], "category_id": label["category_id"], "score": 0.9,
         "segmentation": label["segmentation"], "bbox": label["bbox"]}
        for label in json.loads(labels.read_text())["annotations"]
    ]  # fmt: skip
    found.append({**found[0], "image_id": 5, "segmentation": entry["change"]["segmentation"]})
    (coloured / "results.json").write_text(json.dumps(found))
    words = [f"predictions={coloured}/results.json", f"annotations={labels}", f"images={coloured}/data/images"]
    assert cli(["data", "suspects", *words, f"output={coloured}/out"]) == 0
    content = json.loads((coloured / "out/suspects.json").read_text())
    assert [one["message"] for one in content["suspects"]] == [
        "the model sees a 'red fig' (score 0.90) where no label is"
    ]

    page = (coloured / "out/index.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert page.count("data:image/jpeg;base64,") == 2
    inside = re.search(r'<script type="application/json" id="suspects">(.*?)</script>', page, re.DOTALL)
    assert json.loads(inside[1]) == content

    content["suspects"][0]["accept"] = True
    (coloured / "accepted.json").write_text(json.dumps(content))
    fix = [f"suspects={coloured}/accepted.json", f"fix={coloured}/fixed.json"]
    assert cli(["data", "check", f"annotations={labels}", *fix]) == 0
    fixed = json.loads((coloured / "fixed.json").read_text())["annotations"]
    assert [(label["id"], label["image_id"], label["category_id"], label["area"]) for label in fixed[35:]] == [
        (123, 5, 3, 400)
    ]
    assert "1 change from accepted entries" in capsys.readouterr().out
    assert "missing-label: accepted: the model sees a 'red fig'" in (coloured / "fixed.log").read_text()


def test_names_from_files_cannot_end_the_script_or_become_html(coloured):
    path = coloured / "data/annotations/train.json"
    document = json.loads(path.read_text())
    name = "</script><b>5.png"
    (coloured / "data/images/5.png").rename(coloured / "data/images" / name.replace("/", "_"))
    document["images"][4]["file_name"] = name.replace("/", "_")
    document["info"] = {"note": "</script>"}
    path.write_text(json.dumps(document))
    suspects("model=m.safetensors", f"data.root={coloured}/data", f"output={coloured}/out")
    page = (coloured / "out/index.html").read_text()
    assert "<_script><b>" not in page
    assert html.escape("<_script><b>5.png") in page


def test_accepted_entries_are_not_written_over(coloured):
    words = ("model=m.safetensors", f"data.root={coloured}/data", f"output={coloured}/out")
    suspects(*words)
    suspects(*words)  # a list in which nothing is accepted may go
    path = coloured / "out/suspects.json"
    path.write_text(path.read_text().replace('"accept": false', '"accept": true'))
    with pytest.raises(DataError, match="1 of its entries are accepted"):
        suspects(*words)


def test_a_page_of_something_else_stays(coloured):
    (coloured / "out").mkdir()
    (coloured / "out/index.html").write_text("mine")
    with pytest.raises(DataError, match="page of something else"):
        suspects("model=m.safetensors", f"data.root={coloured}/data", f"output={coloured}/out")
    assert (coloured / "out/index.html").read_text() == "mine"


def test_an_image_that_cannot_be_drawn_is_said(coloured, capsys):
    labels = coloured / "data/annotations/train.json"
    mask = [[4, 4, 24, 4, 24, 24, 4, 24]]
    results = [
        {"image_id": label["image_id"], "category_id": label["category_id"], "score": 0.9,
         "segmentation": label["segmentation"], "bbox": label["bbox"]}
        for label in json.loads(labels.read_text())["annotations"]
    ]  # fmt: skip
    results.append({"image_id": 5, "category_id": 3, "score": 0.9, "segmentation": mask, "bbox": [4, 4, 20, 20]})
    (coloured / "results.json").write_text(json.dumps(results))
    (coloured / "data/images/5.png").write_bytes(b"no picture")
    words = [f"predictions={coloured}/results.json", f"annotations={labels}", f"images={coloured}/data/images"]
    assert suspects(*words, f"output={coloured}/out") == 0
    assert "5.png could not be read" in capsys.readouterr().out
    assert "The image could not be read." in (coloured / "out/index.html").read_text()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "give either model= or predictions="),
        (["model=m", "predictions=r.json"], "not both at once"),
        (["predictions=r.json"], "predictions= needs annotations="),
        (["predictions=r.json", "annotations=a.json"], "predictions= needs images="),
        (["model=m"], "model= needs data.root="),
        (["model=m", "images=i"], "model= needs annotations="),
        (["model=m", "images=i", "annotations=a", "data.root=d"], "both say where the labels are"),
        (["model=m", "data.root=d", "split=dev"], "split cannot be 'dev'"),
        (["model=m", "data.root=d", "split=test"], "data.test is not set"),
        (["model=m", "data.root=d", "min_score=2"], "min_score cannot be 2"),
        (["model=m", "data.root=d", "max_suspects=0"], "max_suspects cannot be 0"),
    ],
)
def test_keys_that_cannot_be_are_refused(tmp_path, words, why):
    with pytest.raises(ConfigError, match=why):
        suspects(*words, f"output={tmp_path}/out")
    assert not (tmp_path / "out").exists()


def test_results_without_masks_are_refused(coloured):
    entry = {"image_id": 1, "category_id": 3, "score": 0.5, "bbox": [1, 1, 5, 5]}
    (coloured / "results.json").write_text(json.dumps([entry]))
    labels = coloured / "data/annotations/train.json"
    words = [f"predictions={coloured}/results.json", f"annotations={labels}", f"images={coloured}/data/images"]
    with pytest.raises(DataError, match="entry 0 has no segmentation"):
        suspects(*words, f"output={coloured}/out")


def test_a_poor_model_is_told_from_poor_labels(coloured, capsys):
    labels = coloured / "data/annotations/train.json"
    (coloured / "results.json").write_text("[]")
    words = [f"predictions={coloured}/results.json", f"annotations={labels}", f"images={coloured}/data/images"]
    assert suspects(*words, f"output={coloured}/out") == 0
    said = capsys.readouterr().out
    assert "finds 0 of the 35 labels" in said
    assert "were not learned" in said
    assert "None of the labels is contradicted" in (coloured / "out/index.html").read_text()


def test_the_pictures_show_the_place(coloured):
    """The crop holds the object and its surroundings, as the colours in it tell."""
    import base64
    import io

    suspects("model=m.safetensors", f"data.root={coloured}/data", f"output={coloured}/out")
    page = (coloured / "out/index.html").read_text()
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(code)))).astype(int)
        for code in re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    ]
    for picture in pictures:
        assert 384 <= max(picture.shape[:2]) <= 440
    red = [(picture[..., 0] - picture[..., 1:].max(axis=2) > 150).mean() for picture in pictures]
    assert red[0] > 0.15, "the unlabelled object, as it is"
    assert red[1] < 0.5 * red[0], "and painted over with the model's mask"
