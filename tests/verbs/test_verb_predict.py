import csv
import json

import cv2
import numpy as np
import pytest
from inference_data import colour_header, rectangles
from PIL import Image

from finemask import cli
from finemask.inference.predictor import Predictor
from finemask.model_header import TrainingSizes
from finemask.workflows import predict_images as verb
from finemask.workflows.written.ledger import LEDGER


@pytest.fixture
def photos(tmp_path, monkeypatch):
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    Image.fromarray(rectangles(red=(5, 6, 25, 20), green=(30, 10, 50, 36))).save(folder / "a.png")
    Image.fromarray(rectangles(red=(1, 2, 9, 9))).save(folder / "b" / "a.png")
    Image.fromarray(rectangles()).save(folder / "c.png")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def colours_for_a_model(monkeypatch, predictor):
    monkeypatch.setattr(verb, "load", lambda path, device, trust: predictor)
    return predictor


def test_a_folder_in_overlays_and_coco_out(photos, colours_for_a_model, capsys):
    assert cli.main(["predict", "model=m", "source=photos", "output=out"]) == 0
    printed = capsys.readouterr()
    overlays = sorted(p.relative_to(photos.parent / "out").as_posix() for p in (photos.parent / "out").rglob("*.png"))
    assert overlays == ["overlay/a.png", "overlay/b/a.png", "overlay/c.png"]
    results = json.loads((photos.parent / "out" / "predictions.json").read_text())
    assert sorted((entry["image_id"], entry["category_id"]) for entry in results) == [(1, 3), (1, 70), (2, 3)]
    for text in (
        "red fig",
        "2",
        "3 images, 1 of them without instances",
        "wrote out/overlay",
        "wrote out/predictions",
    ):
        assert text in printed.out
    assert "[1/3] a.png: 1 red fig, 1 green/date" in printed.err


def test_from_python_the_same_files_and_the_counts(photos, colours_for_a_model, tmp_path):
    done = verb.predict("m", [photos / "a.png", "gone.png"], tmp_path / "it's out", ["save=[coco,csv]"])
    assert (done.sources, done.images, done.instances.total()) == (2, 1, 2)
    assert {path.name for path in done.paths} >= {"predictions.json", "predictions.csv"}
    assert all(path.parent == tmp_path / "it's out" for path in done.paths)
    assert [str(error.where) for error in done.failures] == ["gone.png"]


def test_images_too_large_for_what_the_model_knows_are_one_warning(photos, colours_for_a_model, capsys):
    sizes = TrainingSizes((60, 60, 60), (3.2, 3.2, 3.2), (5, 10, 20), (16, 32, 64))
    colours_for_a_model.header = colour_header(training_sizes=sizes)
    assert cli.main(["predict", "model=m", "source=photos", "output=out", "save=csv"]) == 0
    assert "warning" not in capsys.readouterr().err
    for name in "xy":
        Image.fromarray(rectangles(900, 900)).save(photos / f"{name}.png")
    assert cli.main(["predict", "model=m", "source=photos", "output=out", "save=csv"]) == 0
    printed = capsys.readouterr().err
    assert printed.count("warning: ") == 1
    assert "warning: 2 images are shrunk far for the model: x.png (900 × 900 px) to 14.2%" in printed


def test_unreadable_files_are_reported_skipped_and_end_with_exit_2(photos, colours_for_a_model, capsys):
    (photos / "bad.jpg").write_bytes(b"junk")
    code = cli.main(["predict", "model=m", "source=[photos,gone.png]", "output=out", "save=csv", "batch_size=2"])
    printed = capsys.readouterr()
    assert code == 2
    assert (photos.parent / "out" / "predictions.csv").read_text().count("\n") == 1 + 3
    assert "skipped photos/bad.jpg" in printed.err
    assert "error: 2 of 5 sources could not be read, or not in full: photos/bad.jpg" in printed.err
    assert "gone.png: there is no such image" in printed.err
    assert "Traceback" not in printed.err


def test_nothing_readable_writes_nothing(photos, colours_for_a_model, capsys):
    assert cli.main(["predict", "model=m", "source=gone.png", "output=out"]) == 2
    assert "error: 1 of 1 source could not be read" in capsys.readouterr().err
    assert sorted(path.name for path in (photos.parent / "out").iterdir()) == [LEDGER, "failed.csv", "manifest.jsonl"]
    (line,) = (photos.parent / "out" / "manifest.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "image": "gone.png",
        "source": "gone.png",
        "bytes": None,
        "reason": "there is no such image",
    }


def test_thresholds_of_some_classes(photos, colours_for_a_model):
    words = ["predict", "model=m", "source=photos/a.png", "output=out", "save=coco", "threshold={red fig: 0.95}"]
    assert cli.main(words) == 0
    results = json.loads((photos.parent / "out" / "predictions.json").read_text())
    assert [entry["category_id"] for entry in results] == [70]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["threshold={red fig: 2}"], "threshold cannot be {redfig:2}. It is auto, best_f1"),
        (["threshold={red: 0.5}"], "Did you mean red fig?"),
        (["save=[overlay,maskz]"], "Did you mean masks?"),
        (["save=[]"], "save cannot be []"),
        (["save=side_by_side"], "save=side_by_side needs annotations="),
        (["pixel_size=3"], "pixel_size=3. It is a length above 0"),
        (["threshold=2"], "threshold cannot be 2"),
        (["batch_size=0"], "batch_size cannot be 0"),
        (["color_by=score"], "color_by cannot be 'score'"),
        (["source=nowhere/"], "nowhere"),
        (["device=abacus"], "device cannot be 'abacus'"),
    ],
)
def test_settings_that_cannot_be_used(photos, tiny_model_file, words, message, capsys):
    words = ["predict", f"model={tiny_model_file}", "source=photos", "output=out", *words]
    assert cli.main(words) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


def test_what_was_found_before_an_interruption_is_kept(photos, monkeypatch, capsys):
    class Interrupted(Predictor):
        def answers(self, *args, **options):
            yield from list(super().answers(*args, **options))[:2]
            raise KeyboardInterrupt

    from inference_data import ColourModel

    monkeypatch.setattr(verb, "load", lambda path, device, trust: Interrupted(ColourModel(), colour_header()))
    assert cli.main(["predict", "model=m", "source=photos", "output=out", "save=coco"]) == 130
    assert len(json.loads((photos.parent / "out" / "images.json").read_text())["images"]) == 2


def test_a_real_model_file_from_the_command_line(photos, tiny_model_file):
    words = [
        "predict",
        f"model={tiny_model_file}",
        "source=photos/c.png",
        "output=out",
        "threshold=0",
        "save=masks",
    ]
    assert cli.main(words) == 0
    files = list((photos.parent / "out" / "masks" / "c").iterdir())
    assert files
    assert np.asarray(Image.open(files[0])).shape == (40, 60)


def test_labels_beside_predictions_and_a_scale_bar(photos, colours_for_a_model, tmp_path):
    labels = {
        "images": [{"id": 7, "file_name": "b/a.png", "height": 40, "width": 60}],
        "categories": [{"id": n, "name": category.name} for n, category in enumerate(colours_for_a_model.categories)],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 0, "bbox": [1, 2, 8, 7], "iscrowd": 0, "area": 56}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    words = ["predict", "model=m", "source=photos", "output=out", "annotations=labels.json"]
    assert cli.main([*words, "save=[overlay,side_by_side]", "pixel_size=2um"]) == 0
    sizes = {}
    for path in (tmp_path / "out").rglob("*.png"):
        with Image.open(path) as picture:
            sizes[path.relative_to(tmp_path / "out").as_posix()] = picture.size
    assert len(sizes) == 6  # an image without labels is shown without
    assert cli.main([*words, "save=overlay", "output=plain", "pixel_size=null"]) == 0
    with Image.open(tmp_path / "plain" / "overlay" / "b" / "a.png") as plain:
        assert sizes["overlay/b/a.png"][0] == plain.width
        assert sizes["overlay/b/a.png"][1] > plain.height
        assert sizes["side_by_side/b/a.png"][0] > 2 * plain.width


def test_a_video_through_the_verb(photos, colours_for_a_model, tmp_path, capsys):
    """Ten frames, every second one taken: an overlay each, a video, and a thing that keeps its number."""
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (160, 120))
    for number in range(10):
        frame = rectangles(120, 160, red=(10 + 4 * number, 20, 60 + 4 * number, 80))
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    words = ["predict", "model=m", "source=clip.avi", "output=out", "save=[video,tracks,overlay,csv]", "stride=2"]
    assert cli.main(words) == 0
    out = tmp_path / "out"
    stems = [f"clip_{number:06d}" for number in (1, 3, 5, 7, 9)]
    assert sorted(path.stem for path in (out / "overlay" / "clip").iterdir()) == stems
    (video,) = (out / "video").iterdir()
    capture = cv2.VideoCapture(str(video))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    assert len(frames) == 5
    table = list(csv.DictReader((out / "tracks.csv").read_text().splitlines()))
    assert [row["track"] for row in table] == ["1"] * 5
    assert [int(row["frame"]) for row in table] == [1, 3, 5, 7, 9]
    assert "wrote out/video" in capsys.readouterr().out
