"""``engine=ray``: the rows of the local engine, whatever becomes of the workers.

A stand-in for Ray, whose workers die when they are told to, shows the order of the work; Ray itself, that it is so.
"""

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from inference_data import ColourModel, colour_header, rectangles
from PIL import Image

from finemask import cli
from finemask.config import verb_options
from finemask.errors import ConfigError, FinemaskError
from finemask.inference.predictor import Predictor
from finemask.workflows import predict_images as verb
from finemask.workflows.written import ray_actor, ray_cluster, ray_workers
from finemask.workflows.written.ledger import LEDGER
from finemask.workflows.written.writing import FAILED

KINDS = "save=[overlay,masks,coco,csv,jsonl]"


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class RayActorError(RayError):
    pass


class FakeRay:
    """Workers that do their work when they are asked for it, the last one first.

    Args:
        deadly: the n-th time that a worker begins an image of this name it dies; all times, if n is 0.
        room: processors.
    """

    def __init__(self, deadly=(), room=2):
        self.deadly, self.room, self.begun, self.chunks = dict(deadly), room, Counter(), []
        self.killed = self.ended = 0
        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError, RayActorError=RayActorError)

    def is_initialized(self):
        return True

    def cluster_resources(self):
        return {"CPU": float(self.room)}

    def remote(self, **needed):
        self.needed = needed
        return lambda kind: SimpleNamespace(remote=lambda *args: _Actor(self, kind(*args)))

    def get(self, what):
        return [one() for one in what] if isinstance(what, list) else what()

    def wait(self, references, num_returns):
        return references[-1:], references[:-1]

    def shutdown(self):
        self.ended += 1

    def kill(self, actor):
        self.killed += 1


class _Actor:
    def __init__(self, ray, inner):
        for name in ("load", "process_id"):
            setattr(self, name, SimpleNamespace(remote=lambda name=name: getattr(inner, name)))
        self.work = SimpleNamespace(remote=lambda items: lambda: self._work(ray, inner, items))

    def _work(self, ray, inner, items):
        ray.chunks.append([item.name for item in items])
        for item in items:
            ray.begun[item.name] += 1
            if item.name in ray.deadly and ray.deadly[item.name] in (0, ray.begun[item.name]):
                raise RayActorError("The actor died unexpectedly before finishing this task.\nMore.")
        return inner.work(items)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Nine images, the fourth of them damaged."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number in range(9):
        picture = rectangles(40, 60 + number, red=(5, 6, 25, 20 + number), green=(30, 10, 50, 36))
        Image.fromarray(picture).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "photos" / "3.png").write_bytes(b"junk")
    return tmp_path / "photos"


@pytest.fixture
def fake(photos, monkeypatch):
    """Puts a stand-in for Ray in its place."""
    for module in (verb, ray_actor):
        monkeypatch.setattr(module, "load", lambda path, device, trust: Predictor(ColourModel(), colour_header()))

    def put(**options):
        ray = FakeRay(**options)
        monkeypatch.setattr(ray_cluster, "_imported", lambda: ray)
        return ray

    monkeypatch.setattr(ray_workers, "_PAUSE_S", 0)
    return put


def predict(output, *words, model="m"):
    return verb.predict_images(verb_options("predict", {"model": model, "source": "photos", "output": output}, words))


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and LEDGER not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("chunk", [1, 2, 4, 100])
def test_files_are_those_of_the_local_engine(fake, tmp_path, chunk):
    ray = fake()
    local = predict("local", KINDS)
    done = predict("out", KINDS, "engine=ray", f"ray.chunk={chunk}", "batch_size=3")
    assert contents(tmp_path / "out") == contents(tmp_path / "local")
    assert (done.images, done.instances, len(done.failures)) == (local.images, local.instances, 1)
    assert max(len(names) for names in ray.chunks) == min(chunk, 9)
    assert Counter(ray.begun.values()) == {1: 9}
    assert ray.needed == {"num_cpus": 1, "num_gpus": 0, "max_restarts": -1}
    assert ray.killed == 2
    assert (tmp_path / "out" / FAILED).read_text().splitlines() == [
        "image,source,reason",
        "3.png,photos/3.png,not an image in a format that can be read",
    ]


def test_a_worker_that_dies_once_costs_nothing(fake, tmp_path):
    predict("local", KINDS)
    ray = fake(deadly={"1.png": 1, "7.png": 1})
    assert len(predict("out", KINDS, "engine=ray", "ray.chunk=4").failures) == 1
    assert contents(tmp_path / "out") == contents(tmp_path / "local")
    assert ray.begun["1.png"] == 2
    assert all(len(names) == 1 for names in ray.chunks if "1.png" in names and names[0] != "0.png")


def test_an_image_that_kills_its_workers_is_reported_and_the_others_are_done(fake, tmp_path, capsys):
    shutil.copytree("photos", "whole")
    Path("whole/5.png").unlink()
    verb.predict("m", "whole", "local", [KINDS])
    ray = fake(deadly={"5.png": 0})
    done = predict("out", KINDS, "engine=ray", "ray.chunk=4")
    assert ray.begun["5.png"] == 1 + 3  # with others, then alone
    assert [str(error.where) for error in done.failures] == ["photos/3.png", "photos/5.png"]
    assert "its worker died 3 times: The actor died unexpectedly" in capsys.readouterr().err
    assert Path("out/predictions.csv").read_bytes() == Path("local/predictions.csv").read_bytes()


def test_a_worker_that_does_not_come_back_ends_the_run(fake, monkeypatch):
    ray = fake(deadly={"1.png": 0})
    monkeypatch.setattr(ray_workers, "_MOST_PAUSE_S", -1)
    with pytest.raises(FinemaskError, match="died and does not come back"):
        predict("out", KINDS, "engine=ray")
    assert ray.killed == 2


def test_a_run_of_one_engine_is_gone_on_with_by_the_other(fake, tmp_path):
    ray = fake()
    predict("whole", KINDS)
    for number in (7, 8):
        Path(f"photos/{number}.png").rename(f"{number}.png")
    predict("out", KINDS, "engine=ray")
    for number in (7, 8):
        Path(f"{number}.png").rename(f"photos/{number}.png")
    done = predict("out", KINDS, "skip_existing=true")
    assert (done.kept, done.changed) == (6, [])
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    ray.chunks.clear()
    assert predict("out", KINDS, "skip_existing=true", "engine=ray").kept == 8
    assert ray.chunks == [["3.png"]]  # what could not be read is tried again


def test_no_more_is_handed_out_than_can_wait(fake):
    """The first chunk comes last here: what is behind it waits, and only so much of it."""
    ray = fake()
    ray.wait = lambda references, num_returns: (references[-1:], references[:-1])
    options = verb_options("predict", {"model": "m", "source": "photos", "output": "out"}, ["ray.chunk=1"])
    items = verb.list_items([f"photos/{number}.png" for number in (0, 1, 2) * 10])
    begun = []
    workers = ray_workers.RayWorkers(items, options, None)
    answers = workers.answers(items, begun.append)
    first = next(answers)
    assert first.written.name == items[0].name
    assert len(begun) == ray_workers._AHEAD * 2
    assert [first.written.name, *(one.written.name for one in answers)] == [item.name for item in items]
    assert begun == items


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ray.workers=3"], "too few for 3 of ray.cpus=1 ray.gpus=0"),
        (["ray.gpus=1", "ray.workers=1"], "too few for 1 of ray.cpus=1 ray.gpus=1"),
        (["ray.cpus=2", "ray.workers=2"], "2 processors and 0 GPUs"),
    ],
)
def test_what_the_cluster_has_not_is_refused_before_anything_is_written(fake, tmp_path, words, message):
    ray = fake()
    with pytest.raises(ConfigError, match=message):
        predict("out", "engine=ray", *words)
    assert not (tmp_path / "out").exists()
    assert ray.chunks == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"ray cannot be started \(timed out\)\. Try again"),
        (["ray.address=far:6379"], r"no Ray cluster at far:6379 \(timed out\)"),
    ],
)
def test_a_cluster_that_does_not_start_is_said_in_words(fake, tmp_path, monkeypatch, words, message):
    ray = fake()

    def init(**given):
        raise Exception("timed out")

    ray.is_initialized, ray.init = (lambda: False), init
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match=message):
        predict("out", "engine=ray", *words)
    assert not (tmp_path / "out").exists()


def test_ray_that_was_too_slow_is_started_again(fake, tmp_path, monkeypatch, capsys):
    """It allows itself half a minute, which a busy machine has not when its files are read for the first time."""
    ray, starts = fake(room=2), []

    def init(**given):
        starts.append(given)
        if len(starts) < 3:
            raise Exception("The current node timed out during startup.")

    ray.is_initialized, ray.init = (lambda: False), init
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    predict("local", KINDS)
    predict("out", KINDS, "engine=ray", "ray.workers=2")
    assert contents(tmp_path / "out") == contents(tmp_path / "local")
    assert [given["address"] for given in starts] == ["local"] * 3
    assert ray.ended == 3  # twice what had begun to start, once at the end
    assert (
        "Ray starts on this machine.\nRay was too slow to start: try 2.\nRay was too slow to start: try 3.\n"
        "2 workers of Ray load the model.\n"
    ) in capsys.readouterr().err


def test_videos_are_refused(fake, tmp_path):
    fake()
    (tmp_path / "photos" / "clip.mp4").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"engine=ray takes no videos and cameras, such as clip\.mp4"):
        predict("out", "engine=ray")
    assert not (tmp_path / "out").exists()


def test_what_a_worker_cannot_load_is_said_in_its_words(fake, monkeypatch):
    fake()

    def load(path, device, trust):
        raise FinemaskError("no such device there", remedy="Use another.")

    monkeypatch.setattr(ray_actor, "load", load)
    with pytest.raises(FinemaskError, match=r"no such device there\. Use another"):
        predict("out", "engine=ray")


def test_without_ray_it_is_refused_by_name(photos, tiny_model_file, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli.main(["predict", f"model={tiny_model_file}", "source=photos", "output=out", "engine=ray"]) == 2
    assert "pip install 'finemask[ray]'" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.fixture
def ray(monkeypatch):
    """Ray itself, ended however the test ends."""
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    yield ray
    ray.shutdown()


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (64 + number % 5, 96, 3)).astype(np.uint8)


def test_one_worker_of_ray_itself(ray, photos, tiny_model_file, tmp_path):
    words = (KINDS.replace("overlay", "label_map"), "threshold=0", "detections_per_img=5")
    predict("local", *words, model=tiny_model_file)
    done = predict("out", *words, "engine=ray", "ray.workers=1", "ray.chunk=4", model=tiny_model_file)
    assert (done.images, len(done.failures)) == (8, 1)
    assert contents(tmp_path / "out") == contents(tmp_path / "local")
    assert not ray.is_initialized()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["undisturbed", "with a worker killed"])
def test_200_images_and_two_workers(ray, photos, tiny_model_file, tmp_path, monkeypatch, killed):
    for number in range(200):
        Image.fromarray(picture(number)).save(tmp_path / "photos" / f"{number}.png")
    (tmp_path / "photos" / "117.png").write_bytes(b"junk")
    words = ("save=[coco,csv,parquet]", "threshold=0", "detections_per_img=5")
    predict("local", *words, model=tiny_model_file)
    pids, real = [], ray_workers.RayWorkers.answers

    def answers(own, items, begin):
        pids.extend(ray.get([worker.process_id.remote() for worker in own.workers]))
        return real(own, items, begin)

    def kill_one():
        journal = tmp_path / "out" / LEDGER / "journal.jsonl"
        while not (journal.is_file() and journal.read_bytes().count(b'{"done"') >= 40):
            time.sleep(0.01)
        os.kill(pids[0], signal.SIGKILL)

    monkeypatch.setattr(ray_workers.RayWorkers, "answers", answers)
    killer = threading.Thread(target=kill_one)
    if killed:
        killer.start()
    done = predict("out", *words, "engine=ray", "ray.workers=2", model=tiny_model_file)
    assert len(set(pids)) == 2
    if killed:
        killer.join()
    assert (done.images, len(done.failures)) == (199, 1)
    assert contents(tmp_path / "out") == contents(tmp_path / "local")
    lines = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines if "reason" in line] == ["117.png"]
