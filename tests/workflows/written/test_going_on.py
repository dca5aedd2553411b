"""``skip_existing``: wherever a run was killed, the next one ends with the files of a run that was not."""

import csv
import errno
import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from inference_data import ColourModel, colour_header, rectangles
from PIL import Image

from finemask.config import verb_options
from finemask.errors import ConfigError
from finemask.inference.drift import drift_of
from finemask.inference.outputs import writers as writers_module
from finemask.inference.predictor import Predictor
from finemask.inference.sources import Item, NamedImage
from finemask.model_header import ModelHeader
from finemask.ops.images.image_look import LooksOfASet, look_of
from finemask.workflows import predict_images as verb
from finemask.workflows.written import journal as journal_module
from finemask.workflows.written.ledger import LEDGER

KINDS = "save=[masks,label_map,overlay,coco,csv]"


class CountingModel(ColourModel):
    """Knows how many images it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, images):
        self.seen += len(images)
        return super().forward(images)


@pytest.fixture
def model(monkeypatch):
    model = CountingModel()
    monkeypatch.setattr(verb, "load", lambda path, device, trust: Predictor(model, colour_header()))
    return model


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Five images, the third of them damaged."""
    monkeypatch.chdir(tmp_path)
    for number in range(5):
        path = tmp_path / "photos" / f"sub{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = rectangles(40, 60 + number, red=(5, 6, 25, 20 + number), green=(30, 10, 50, 36), blue=(52, 0, 60, 8))
        Image.fromarray(picture).save(path)
    (tmp_path / "photos" / "sub0" / "2.png").write_bytes(b"junk")
    return tmp_path / "photos"


@cache
def options(*words):
    return verb_options("predict", {"model": "m", "source": "photos", "output": "out"}, [KINDS, *words])


def predict(output, *words, threshold=0.5):
    return verb.predict_images(options(f"threshold={threshold}", *words) | {"output": str(output)})


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the ledger; temporary ones too."""
    paths = (path for path in folder.rglob("*") if path.is_file() and LEDGER not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


class Moments:
    """Copies of a folder as it is before each step that a run takes on the disk: what a killed run leaves."""

    def __init__(self, folder: Path, copies: Path, monkeypatch) -> None:
        self.folder, self.copies, self.lock = folder, copies, threading.Lock()
        for name in ("replace", "unlink"):
            monkeypatch.setattr(Path, name, self.before(getattr(Path, name)))
        begin, go_on = journal_module.Journal.begin, journal_module.Journal.go_on
        monkeypatch.setattr(journal_module.Journal, "begin", lambda own, *args: (begin(own, *args), self.tear(own)))
        monkeypatch.setattr(journal_module.Journal, "go_on", lambda own: (go_on(own), self.tear(own)))
        self.is_on = True

    def take(self) -> None:
        with self.lock:
            if self.is_on and self.folder.is_dir():
                copy = self.copies / str(len(list(self.copies.iterdir())))
                self.is_on = False
                while True:
                    try:
                        shutil.copytree(self.folder, copy)
                        break
                    except shutil.Error:  # another thread was at it
                        shutil.rmtree(copy)
                self.is_on = True

    def before(self, method):
        def run(*args, **kwargs):
            self.take()
            return method(*args, **kwargs)

        return run

    def tear(self, journal) -> None:
        journal._open = [_Torn(file, self.take) for file in journal._open]


class _Torn:
    """A file whose lines are written half and half."""

    def __init__(self, file, between) -> None:
        self._file, self._between = file, between
        self.seek, self.close = file.seek, file.close

    def write(self, data: bytes) -> None:
        for part in (data[: len(data) // 2], data[len(data) // 2 :]):
            self._between()
            self._file.write(part)


@pytest.mark.parametrize("before", ["an empty folder", "other results"])
@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_at_any_moment_is_gone_on_with(photos, model, tmp_path, monkeypatch, before, every):
    (photos / "sub0" / "4.png").unlink()
    predict(tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    assert {"predictions.json", "images.json", "predictions.csv", "manifest.jsonl"} < set(expected)
    monkeypatch.setattr(verb, "cores", lambda: 1)  # one thread writes, so that a moment is one
    (tmp_path / "moments").mkdir()
    if before == "other results":
        predict(tmp_path / "out", threshold=0)
    with monkeypatch.context() as patched:
        moments = Moments(tmp_path / "out", tmp_path / "moments", patched)
        predict(tmp_path / "out")
        moments.is_on = False
    assert contents(tmp_path / "out") == expected
    killed = sorted((tmp_path / "moments").iterdir(), key=lambda path: int(path.name))
    assert len(killed) > 50
    seen = []
    for moment in killed[::every]:
        model.seen = 0
        predict(moment, "skip_existing=true")
        assert contents(moment) == expected, moment
        seen.append(model.seen)
    assert set(seen) == {0, 1, 2, 3}  # of three that can be read
    assert seen == sorted(seen, reverse=True)


def test_what_is_there_is_kept_and_what_is_new_is_done(photos, model, tmp_path, capsys):
    whole = predict("out")
    shutil.copy(photos / "sub0" / "0.png", photos / "sub0" / "1b.png")
    shutil.copy(photos / "sub0" / "4.png", photos / "sub0" / "2.png")  # it can be read now
    model.seen = 0
    done = predict("out", "skip_existing=true")
    assert (done.images, done.kept, model.seen) == (6, 4, 2)
    assert whole.instances.total() == 8
    assert done.instances.total() == 12
    assert "4 images of an earlier run are kept." in capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == sorted(line["image"] for line in lines)
    predict("fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")
    model.seen = 0
    assert predict("out", "skip_existing=true").kept == 6
    assert model.seen == 0


def test_drift_stands_in_the_manifest_in_the_table_and_in_the_list_of_images(photos, model, tmp_path, monkeypatch):
    """A row of the table for each instance; the manifest names images without any, too; what is kept keeps it."""
    looks = LooksOfASet.of([look_of(np.full((40, 60, 3), 200 + i, np.uint8)) for i in range(20)])
    header = replace(colour_header(), training_looks=looks)
    monkeypatch.setattr(verb, "load", lambda path, device, trust: Predictor(model, header))
    predict("out")
    for _ in range(2):
        lines = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
        drifts = {line["image"]: line["drift"] for line in lines if "reason" not in line}
        wanted = {name: round(drift_of(cv2.imread(str(photos / name))[..., ::-1], header).value, 3) for name in drifts}
        assert drifts == wanted
        assert len(drifts) == 4
        assert min(drifts.values()) > 1
        listed = json.loads((tmp_path / "out" / "images.json").read_text())["images"]
        assert {image["file_name"]: image["drift"] for image in listed} == drifts
        with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
            assert {row["image"]: float(row["drift"]) for row in csv.DictReader(file)} == drifts
        predict("out", "skip_existing=true")


def test_what_has_changed_is_done_again(photos, model, tmp_path):
    predict("out")
    expected = contents(tmp_path / "out")
    os.utime(photos / "sub0" / "0.png", ns=(1, 1))  # another file may lie there, however alike
    (tmp_path / "out" / "overlay" / "sub0" / "4.png").unlink()
    with (tmp_path / "out" / "overlay" / "sub1" / "1.png").open("ab") as file:
        file.write(b"more")
    model.seen = 0
    done = predict("out", "skip_existing=true")
    assert (done.kept, model.seen) == (1, 3)
    assert contents(tmp_path / "out") == expected


@pytest.mark.parametrize(
    ("words", "threshold", "named"),
    [
        ((), 0.8, "threshold"),
        (("color_by=class",), 0.5, "color_by"),
        (("save=[masks,label_map,overlay,coco]",), 0.5, "save"),
        (("batch_size=1",), 0.5, None),
    ],
)
def test_with_other_settings_nothing_is_kept_and_that_is_said(photos, model, tmp_path, capsys, words, threshold, named):
    predict("out")
    model.seen = 0
    done = predict("out", *words, "skip_existing=true", threshold=threshold)
    assert (done.kept, model.seen) == ((0, 4) if named else (4, 0))
    assert list(done.changed) == ([named] if named else [])
    said = f"All images are predicted again: {named} is not as in the earlier run."
    assert (said in capsys.readouterr().err) == (named is not None)
    predict("fresh", *words, threshold=threshold)
    ours = contents(tmp_path / "out")
    assert {name: ours[name] for name in contents(tmp_path / "fresh")} == contents(tmp_path / "fresh")


def test_with_another_model_nothing_is_kept(photos, model, tmp_path, monkeypatch):
    predict("out")
    other: ModelHeader = colour_header(sha256="other")
    monkeypatch.setattr(verb, "load", lambda path, device, trust: Predictor(model, other))
    done = predict("out", "skip_existing=true")
    assert (done.kept, list(done.changed)) == (0, ["model"])


def test_a_video_is_kept_whole_or_done_again(photos, model, tmp_path):
    writer = cv2.VideoWriter(str(photos / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for _ in range(4):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    predict("out")
    expected = contents(tmp_path / "out")
    model.seen = 0
    assert predict("out", "skip_existing=true").kept == 8
    assert model.seen == 0
    (tmp_path / "out" / "overlay" / "clip" / "clip_000002.png").unlink()
    assert predict("out", "skip_existing=true").kept == 4
    assert model.seen == 4
    assert contents(tmp_path / "out") == expected


def test_a_ledger_that_somebody_wrote_to_counts_up_to_there(photos, model, tmp_path):
    predict("out", "save=[overlay,coco]")
    path = tmp_path / "out" / LEDGER / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    second = [number for number, line in enumerate(lines) if line.startswith(b'{"done"')][1]
    path.write_bytes(b"".join([*lines[:second], b"not JSON\n", *lines[second:]]))
    done = predict("out", "save=[overlay,coco]", "skip_existing=true")
    assert done.kept == 1
    assert done.images == 4


def test_order_is_that_of_the_source_however_long_writing_takes(photos, model, tmp_path, monkeypatch):
    predict("alone")
    monkeypatch.setattr(verb, "cores", lambda: 8)
    save = writers_module._save
    monkeypatch.setattr(
        writers_module, "_save", lambda *args, **more: time.sleep(random.random() / 50) or save(*args, **more)
    )
    predict("out", "batch_size=3")
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_a_full_disk_ends_the_run_and_what_was_written_is_noted(photos, model, tmp_path, monkeypatch):
    predict("whole")
    save = writers_module._save

    def full(picture, path, **options):
        if "sub0/4" in path.as_posix():
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return save(picture, path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(writers_module, "_save", full)
        with pytest.raises(OSError, match="No space left"):
            predict("out")
    lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert "sub0/0.png" in lines[0]
    predict("out", "skip_existing=true")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_folder_of_other_files_is_refused_as_ever(photos, model, tmp_path):
    (tmp_path / "out" / "masks").mkdir(parents=True)
    (tmp_path / "out" / "masks" / "mine.png").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="not known to be of an earlier run"):
        predict("out", "skip_existing=true")


@pytest.mark.parametrize(("few", "many"), [(100, 700), pytest.param(2000, 20_000, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_number_of_images(tmp_path, model, monkeypatch, few, many):
    monkeypatch.chdir(tmp_path)
    picture = rectangles(red=(5, 6, 25, 20), green=(30, 10, 50, 36))
    monkeypatch.setattr(Item, "read", lambda own, *args: iter([NamedImage(own.name, picture, own.content)]))
    monkeypatch.setattr(CountingModel, "batches", property(lambda own: [], lambda own, value: None), raising=False)

    def peak(number: int, *words) -> int:
        """Bytes above those of the list of images."""
        items = [Item(f"{n}.png", Path(f"photos/{n}.png")) for n in range(number)]
        monkeypatch.setattr(verb, "list_items", lambda source: items)
        given = options("save=[coco,csv]", *words) | {"output": str(tmp_path / str(number))}
        gc.collect()
        tracemalloc.start()
        assert verb.predict_images(given).images == number
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(few)  # what is loaded once
    # Bytes an image: its names, where its line begins, and up to 400 in tuples of rows that Python keeps to use
    # again, 2,000 of a size at most.
    assert (peak(many) - peak(few)) / (many - few) < 1200
    assert (peak(many, "skip_existing=true") - peak(few, "skip_existing=true")) / (many - few) < 1700


SCRIPT = """
import sys, time
from inference_data import ColourModel, colour_header
from finemask import cli
from finemask.inference.predictor import Predictor
from finemask.workflows import predict_images as verb

class Slow(ColourModel):
    def forward(self, images):
        time.sleep(float(sys.argv[1]))
        return super().forward(images)

verb.load = lambda path, device, trust: Predictor(Slow(), colour_header())
sys.exit(cli.main(sys.argv[2:]))
"""


def start(output, *words, slow=0.0):
    helpers = Path(__file__).parents[2] / "helpers"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(helpers)])}
    command = [
        sys.executable,
        "-c",
        SCRIPT,
        str(slow),
        "predict",
        "model=m",
        "source=photos",
        f"output={output}",
        KINDS,
    ]
    return subprocess.Popen(
        [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def wait_for(journal: Path, images: int, process) -> None:
    while not (journal.is_file() and journal.read_bytes().count(b'{"done"') >= images):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_a_terminated_run_leaves_a_whole_manifest_and_says_how_to_go_on(photos, model, tmp_path):
    process = start("out", slow=0.2)
    wait_for(tmp_path / "out" / LEDGER / "journal.jsonl", 1, process)
    process.send_signal(signal.SIGTERM)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "To go on, type: finemask predict model=m source=photos output=out" in printed
    assert printed.rstrip().endswith("skip_existing=true")
    assert "interrupted" in errors
    lines = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    results = json.loads((tmp_path / "out" / "images.json").read_text())
    assert [line["image"] for line in lines if "files" in line] == [image["file_name"] for image in results["images"]]
    predict("out", "skip_existing=true", "threshold=auto")
    predict("whole", "threshold=auto")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_500_images_killed_five_times(photos, tmp_path):
    shutil.rmtree(photos)
    for number in range(500):
        path = photos / f"{number % 7}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rectangles(60, 80, red=(1, 1, 10 + number % 40, 20), green=(51, 20, 70, 50))).save(path)
    assert start("whole").wait(timeout=3600) == 0
    done = 0
    for images in (3, 100, 101, 250, 400):
        process = start("out", "skip_existing=true", slow=0.01)
        wait_for(tmp_path / "out" / LEDGER / "journal.jsonl", images, process)
        process.kill()
        process.communicate()
        done = images
    assert done == 400
    assert start("out", "skip_existing=true").wait(timeout=3600) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
