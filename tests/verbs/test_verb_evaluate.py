import json
import subprocess
import sys

import pytest
import torch
from evaluation_data import random_dataset, random_results
from omegaconf import OmegaConf
from PIL import Image

from finemask.cli import main as command_line
from finemask.coco.index import CocoIndex
from finemask.config import compose
from finemask.errors import ConfigError, DataError
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import load_ground_truth
from finemask.evaluation.numbers.coco_numbers import COCO_KEYS
from finemask.inference.predictor import choose_device
from finemask.types import Detections
from finemask.verbs.evaluate import main
from finemask.workflows.detect_split import detect_split


def evaluate(*overrides):
    return main(compose("evaluate", [str(override) for override in overrides]))


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_published_numbers_from_a_results_file(shared_dir, tmp_path, capsys, iou_type):
    oracle = shared_dir / "oracle"
    code = evaluate(
        f"predictions={oracle}/instances_val2014_fake{iou_type}100_results.json",
        f"annotations={oracle}/instances_val2014_100.json",
        f"output={tmp_path}/out",
    )
    assert code == 0
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    expected = json.loads((oracle / "expected.json").read_text())
    for source in ("pycocotools_2_0_11", "faster_coco_eval_full"):
        found = [metrics[iou_type][key] for key in expected["order"]]
        assert found == pytest.approx(expected[source][iou_type], abs=1e-9)
    assert metrics["iou_types"] == (["bbox"] if iou_type == "bbox" else ["bbox", "segm"])
    assert (tmp_path / "out/report/index.html").is_file()
    shown = capsys.readouterr().out
    assert f"{metrics[iou_type]['AP']:.3f}" in shown
    assert "metrics.json" in shown


@pytest.fixture
def files(tmp_path, write):
    dataset = random_dataset(1)
    write("truth.json", dataset)
    write("results.json", random_results(dataset, 2))
    return [f"annotations={tmp_path}/truth.json", f"predictions={tmp_path}/results.json"]


def test_the_settings_arrive(files, tmp_path):
    evaluate(*files, f"output={tmp_path}/o", "iou_types=[bbox]", "threshold=0.4", "max_detections=7")
    metrics = json.loads((tmp_path / "o/metrics.json").read_text())
    assert metrics["operating_point"]["threshold"] == 0.4
    assert metrics["operating_point"]["iou_type"] == "bbox"
    assert metrics["max_detections"] == 7
    assert metrics["segm"] == dict.fromkeys(COCO_KEYS)


def test_errors_and_advice_are_shown_and_outlines_when_asked_for(files, tmp_path, capsys):
    evaluate(*files, f"output={tmp_path}/o", "iou_types=[bbox,segm,boundary]")
    metrics = json.loads((tmp_path / "o/metrics.json").read_text())
    shown = " ".join(capsys.readouterr().out.split())
    for name, error in metrics["errors"]["segm"]["types"].items():
        assert f"{name} {error['count']} {error['gain']:.3f}" in shown
    assert metrics["advice"]
    for number, advice in enumerate(metrics["advice"], start=1):
        assert f"{number}. {advice['problem']}. Remedy: {advice['remedy']}." in shown
    outlines = [f"{metrics['boundary'][key]:.3f}" for key in ("AP", "AP50", "AP75")]
    assert f"outlines {' '.join(outlines)}" in shown


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "give either model= or predictions="),
        (["model=m.safetensors", "predictions=r.json"], "not both at once"),
        (["predictions=r.json"], "predictions= needs annotations="),
        (["predictions=r.json", "annotations=t.json", "threshold=model"], "needs model="),
        (["model=m.safetensors"], "model= needs data.root="),
        (["model=m.safetensors", "data.root=d", "split=dev"], "split cannot be 'dev'. It is train, val or test"),
        (["model=m.safetensors", "data.root=d", "split=test"], "data.test is not set.*data.test=FILE"),
    ],
)
def test_contradictions_are_explained(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        evaluate(*overrides, f"output={tmp_path}/out")
    assert not (tmp_path / "out").exists()


def test_other_backends_and_missing_folders_are_explained(files, tmp_path):
    with pytest.raises(ConfigError, match="backend cannot be 'quick'"):
        evaluate(*files, f"output={tmp_path}/out", "backend=quick")
    with pytest.raises(ConfigError, match="is not a folder"):
        evaluate(*files, f"output={tmp_path}/out", f"images={tmp_path}/nowhere")
    assert not (tmp_path / "out").exists()


def test_finding_nothing_is_said_in_words(files, tmp_path, write, capsys):
    write("results.json", [])
    evaluate(*files, f"output={tmp_path}/out")
    assert "no detection matches an object (0 detections; 0 found" in capsys.readouterr().out


def test_swapped_files_are_recognised(tmp_path, files):
    with pytest.raises(DataError, match=r"results.json: this is a list.*annotations="):
        evaluate(f"annotations={tmp_path}/results.json", f"predictions={tmp_path}/truth.json", "output=x")


def test_the_command_line_answers_with_exit_codes(files, tmp_path, capsys):
    assert command_line(["evaluate", *files, f"output={tmp_path}/out"]) == 0
    assert command_line(["evaluate", files[0], f"predictions={tmp_path}/no.json", "output=x"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "no.json: there is no such file" in error
    assert command_line(["evaluate", *files]) == 2  # output= must be given
    assert "output" in capsys.readouterr().err


def test_a_results_file_is_scored_without_model_code():
    program = (
        "import sys, finemask.verbs.evaluate;"
        "sys.exit(bool({'torchvision', 'pytorch_lightning', 'albumentations'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


class Labels(torch.nn.Module):
    """A detector that reports the whole image, as the class of its brightest channel."""

    def forward(self, images):
        found = []
        for image in images:
            assert image.dtype == torch.uint8
            height, width = image.shape[1:]
            channel = int(image.float().mean(dim=(1, 2)).argmax())
            found.append(
                Detections(
                    boxes=torch.tensor([[0.0, 0.0, width, height]]),
                    labels=torch.tensor([channel + 1]),
                    scores=torch.tensor([0.9]),
                    mask_probs=torch.ones(1, 4, 4),
                    image_size_hw=(height, width),
                )
            )
        return found


@pytest.fixture
def coloured(tmp_path, write):
    """Seven images of different sizes, red, green or blue all over; one object each, with ids 30, 20, 10."""
    ids = {0: 30, 1: 20, 2: 10}
    dataset = {
        "images": [],
        "annotations": [],
        "categories": [{"id": id_, "name": f"channel {channel}"} for channel, id_ in ids.items()],
    }
    for i in range(7):
        width, height, colour = 20 + 3 * i, 40 - 2 * i, [0, 0, 0]
        colour[i % 3] = 255
        Image.new("RGB", (width, height), tuple(colour)).save(tmp_path / f"{i}.png")
        dataset["images"].append({"id": 100 - i, "file_name": f"{i}.png", "height": height, "width": width})
        outline = [[0, 0, width, 0, width, height, 0, height]]
        dataset["annotations"].append(
            {
                "id": i + 1,
                "image_id": 100 - i,
                "category_id": ids[i % 3],
                "segmentation": outline,
                "iscrowd": 0,
            }
            | {"bbox": [0, 0, width, height], "area": width * height}
        )
    return write("truth.json", dataset), tmp_path


@pytest.mark.parametrize(("batch_size", "threads"), [(1, 1), (3, 2), (16, "auto")])
def test_every_image_meets_the_model_once_and_keeps_its_label(coloured, batch_size, threads):
    annotations, folder = coloured
    index = CocoIndex.read(annotations, folder)
    channels = [int(category.name[-1]) for category in index.categories]
    evaluator = CocoEvaluator(load_ground_truth(annotations), [30, 20, 10])
    detect_split(Labels(), index, evaluator, torch.device("cpu"), batch_size, threads)
    assert channels == [2, 1, 0]  # by id
    assert len(evaluator.results) == 7
    metrics = evaluator.compute()
    assert metrics["bbox"]["AP"] == metrics["segm"]["AP50"] == pytest.approx(1)


def test_an_image_of_another_size_stops_the_evaluation(coloured):
    annotations, folder = coloured
    Image.new("RGB", (9, 9)).save(folder / "3.png")
    index = CocoIndex.read(annotations, folder)
    evaluator = CocoEvaluator(load_ground_truth(annotations))
    with pytest.raises(DataError, match=r"3\.png"):
        detect_split(Labels(), index, evaluator, torch.device("cpu"), 2, 2)


@pytest.mark.parametrize(("cuda", "mps", "taken"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_auto_takes_the_gpu_that_there_is(monkeypatch, cuda, mps, taken):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto").type == taken


def test_devices_and_batches_are_checked(coloured):
    assert choose_device("cpu") == torch.device("cpu")
    for name in ("cuda:99", "abacus"):
        with pytest.raises(ConfigError, match=f"device={name} cannot be used"):
            choose_device(name)
    index = CocoIndex.read(*coloured)
    evaluator = CocoEvaluator(load_ground_truth(coloured[0]))
    with pytest.raises(ConfigError, match="batch_size is 0"):
        detect_split(Labels(), index, evaluator, torch.device("cpu"), 0, 1)
    with pytest.raises(ConfigError, match="num_workers is 'many'"):
        detect_split(Labels(), index, evaluator, torch.device("cpu"), 1, "many")


def test_the_shipped_configuration_is_the_promised_one():
    cfg = OmegaConf.to_container(compose("evaluate", ["output=x"]))
    assert {"model", "data", "split", "predictions", "annotations", "output", "backend"} <= cfg.keys()
    assert cfg["data"] == {
        "root": None,
        "train": "annotations/train.json",
        "val": "annotations/val.json",
        "test": None,
        "images": "images",
        "image": {"page": None, "range": None, "channels": None},  # as the model file says
    }
    assert (cfg["iou_types"], cfg["max_detections"], cfg["threshold"]) == ("auto", "auto", "auto")
