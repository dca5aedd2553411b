"""An exported file in the place of the model file: evaluate, predict, info, benchmark."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import finemask
from finemask.cli import main
from finemask.inference.exported_model import exported_parts

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

SIZES_HW = ((64, 96), (90, 50), (33, 120))


@pytest.fixture(scope="session")
def dataset(exported: Path) -> Path:
    """Three images; every second object that the model file finds there is annotated, so that ranks count in AP."""
    root = exported / "data"
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    predictor = finemask.load(exported / "model.safetensors", device="cpu")
    images, annotations = [], []
    for number, (height, width) in enumerate(SIZES_HW, start=1):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": height, "width": width})
        annotations += predictor.predict(pixels).to_coco(image_id=number)[::2]
    annotations = [one | {"id": at, "iscrowd": 0} for at, one in enumerate(annotations, start=1)]
    categories = [category._asdict() for category in predictor.categories]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "val.json").write_text(json.dumps(content))
    return root


def test_evaluate_finds_the_same_ap(exported: Path, dataset: Path, tmp_path: Path) -> None:
    metrics = {}
    for name in ("model.safetensors", "out/model.onnx"):
        output = tmp_path / Path(name).suffix[1:]
        words = [f"model={exported}/{name}", f"data.root={dataset}", f"output={output}", "device=cpu"]
        assert main(["evaluate", *words]) == 0
        metrics[name] = json.loads((output / "metrics.json").read_text())
    wanted, found = metrics.values()
    for kind in ("bbox", "segm"):
        assert 0.2 < wanted[kind]["AP"] < 0.9
        assert found[kind]["AP"] == pytest.approx(wanted[kind]["AP"], abs=1e-3)
    assert abs(found["detections"] - wanted["detections"]) <= 1  # one may have the very score of the threshold
    page = (tmp_path / "onnx" / "report" / "index.html").read_text()
    assert "exported from weights of SHA-256" in page


def test_predict_writes_the_same(exported: Path, dataset: Path, tmp_path: Path) -> None:
    found = []
    for name in ("model.safetensors", "out/model.onnx"):
        output = tmp_path / Path(name).suffix[1:]
        words = [f"model={exported}/{name}", f"source={dataset}/images", f"output={output}", "device=cpu"]
        assert main(["predict", *words, "save=[coco]", "tile=64"]) == 0
        found.append(json.loads((output / "predictions.json").read_text()))
    assert len(found[0]) == len(found[1]) > 10
    scores = [np.sort([one["score"] for one in each]) for each in found]
    np.testing.assert_allclose(*scores, atol=1e-4)


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["tta=flip"], "tta= cannot change an exported file"),
        (["suppression=mask", "nms_thresh=0.4"], "suppression= nms_thresh= cannot change an exported file"),
        (["detections_per_img=5"], "detections_per_img= cannot change an exported file"),
    ],
)
def test_what_a_graph_cannot_do_is_named(exported, dataset, tmp_path, capsys, verb, words, named) -> None:
    source = [f"data.root={dataset}"] if verb == "evaluate" else [f"source={dataset}/images"]
    assert main([verb, f"model={exported}/out/model.onnx", *source, f"output={tmp_path}/out", *words]) == 2
    assert named in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_info_says_what_it_is(exported: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    path = exported / "out" / "model.onnx"
    assert main(["info", str(path)]) == 0
    shown = capsys.readouterr().out
    of_model = finemask.load(exported / "model.safetensors", device="cpu").header.sha256
    for words in ("red fig", "dätte", "0.20", "exported from", of_model, f"{path.stat().st_size / 2**20:.1f} MiB"):
        assert words in shown
    assert "verified" not in shown
    assert main(["info", str(path), "json=true"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["sha256"] == of_model
    assert content["file"] == {"path": str(path), "bytes": path.stat().st_size}


def test_the_size_of_two_files(tmp_path: Path) -> None:
    assert exported_parts(tmp_path / "model.xml") == [tmp_path / "model.xml", tmp_path / "model.bin"]


SMALL = ["images=1", "height=64", "width=96", "objects=2", "rounds=1", "batch_size=1"]


def test_benchmark_measures_it(exported: Path, tmp_path: Path, capsys) -> None:
    words = [f"model_file={exported}/out/model.onnx", "work=[predict]", f"output={tmp_path}/speed.json"]
    assert main(["benchmark", *words, *SMALL]) == 0
    assert "model.onnx on " in capsys.readouterr().out
    found = json.loads((tmp_path / "speed.json").read_text())
    assert found["model"].endswith("model.onnx")
    assert found["work"]["predict"]["images_per_s"] > 0


def test_an_exported_file_is_not_trained(exported: Path, capsys) -> None:
    assert main(["benchmark", f"model_file={exported}/out/model.onnx", *SMALL]) == 2
    assert 'cannot be trained: it is an exported file. Leave train out, "work=[predict]"' in capsys.readouterr().err


def test_benchmark_trains_a_model_file(exported: Path, capsys) -> None:
    assert main(["benchmark", f"model_file={exported}/model.safetensors", "work=[train]", "device=cpu", *SMALL]) == 0
    assert "s a step of 1" in capsys.readouterr().out
