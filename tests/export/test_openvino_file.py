"""The OpenVINO file against the model; both files or neither."""

import json
import os
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

import finemask
from finemask.cli import main
from finemask.config import verb_options
from finemask.errors import ModelFileError
from finemask.export import openvino_file
from finemask.export.agreement import agreement_of
from finemask.inference.exported_model import load_exported
from finemask.model_file import load_model_file
from finemask.model_header import header_to_json
from finemask.verbs.export import show
from finemask.workflows import export_model as export_workflow
from finemask.workflows.export_model import export_model

onnx = pytest.importorskip("onnx")
openvino = pytest.importorskip("openvino")


@pytest.fixture
def graph(exported: Path, monkeypatch: pytest.MonkeyPatch):
    """The graph of the one export stands for a second one."""

    def ready(model, extra):
        content = onnx.load(exported / "out" / "model.onnx")
        (default,) = [tensor for tensor in content.graph.initializer if tensor.name == "score_thresh"]
        content.graph.initializer.remove(default)
        del content.metadata_props[:]
        return content

    monkeypatch.setattr(openvino_file, "onnx_graph", ready)


@pytest.fixture(scope="session")
def folder(exported: Path) -> Path:
    """What ``format=openvino`` writes, into a folder with a blank in its name."""
    with pytest.MonkeyPatch.context() as patch:
        graph.__wrapped__(exported, patch)
        words = [f"model={exported}/model.safetensors", f"output='{exported}/my files/model.xml'"]
        assert main(["export", "format=openvino", *words]) == 0
    return exported / "my files"


def test_both_files_and_the_certificate(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["model.bin", "model.xml", "model.xml.parity.json"]
    parity = json.loads((folder / "model.xml.parity.json").read_text())
    assert parity["agrees"] is True
    assert min(parity["found"].values()) > 0
    assert parity["worst"]["box_px"] < 0.05
    assert list(parity["beside"]) == ["model.bin"]
    assert "openvino" in parity["versions"]


def test_the_runtime_alone_is_enough(folder: Path) -> None:
    core = openvino.Core()
    content = core.read_model(folder / "model.xml")
    names = [[port.get_any_name() for port in ports] for ports in (content.inputs, content.outputs)]
    assert names == [["image", "score_thresh"], ["boxes", "labels", "scores", "masks"]]
    header = json.loads(content.get_rt_info("finemask").value)
    assert [category["name"] for category in header["categories"]] == ["red fig", "dätte", "blue"]
    compiled = core.compile_model(content, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    image = np.random.default_rng(2).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    none = compiled({"image": image, "score_thresh": np.array(1.0, dtype=np.float32)})
    assert [none[name].shape for name in names[1]] == [(0, 4), (0,), (0,), (0, 28, 28)]


def test_nothing_after_many_with_a_head_that_judges_masks(exported: Path, model_with, tmp_path: Path) -> None:
    """Of no row, OpenVINO's convolutions give what they gave the time before; then all detections were those."""
    pytest.importorskip("onnxscript")
    model = model_with("model/mask_predictor=mask_iou")
    _, header = load_model_file(exported / "model.safetensors")
    openvino_file.write_openvino(model, header, tmp_path / "model.xml")
    file = load_exported(tmp_path / "model.xml")
    image = torch.randint(0, 256, (3, 90, 120), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    for thresh, least, most in ((0.0, 10, 100), (1.0, 0, 0), (0.0, 10, 100)):
        agreement = agreement_of(model, file, image, "noise", thresh)
        assert agreement.fault == ""
        assert least <= agreement.found_exported <= most


@pytest.mark.parametrize("size_hw", [(60, 90), (131, 64)])
def test_a_loaded_file_predicts_as_the_model_file_does(exported: Path, folder: Path, size_hw) -> None:
    image = np.random.default_rng(7).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    theirs, ours = finemask.load(folder / "model.xml"), finemask.load(exported / "model.safetensors", device="cpu")
    assert header_to_json(theirs.header) == header_to_json(ours.header)
    found, wanted = (predictor.predict(image, threshold=0.0) for predictor in (theirs, ours))
    assert len(found) == len(wanted) > 10
    far = np.abs(found.boxes[:, None] - wanted.boxes).max(axis=2) + 100 * (found.labels[:, None] != wanted.labels)
    pairs = far.argmin(axis=1)  # near ties may change places
    assert sorted(pairs) == list(range(len(wanted)))
    assert far.min(axis=1).max() < 0.01
    np.testing.assert_allclose(found.scores, wanted.scores[pairs], atol=1e-4)
    assert np.mean(found.masks != wanted.masks[pairs]) < 1e-3


@pytest.mark.usefixtures("graph")
def test_one_file_never_comes_alone(exported: Path, tmp_path: Path, monkeypatch) -> None:
    """What fails while the second file is written leaves the earlier pair as it was."""
    from finemask.model_file import load_model_file

    model, header = load_model_file(exported / "model.safetensors")
    for name in ("model.xml", "model.bin"):
        (tmp_path / name).write_text("earlier")

    def disk_full(content, path, **options) -> None:
        Path(path).with_suffix(".bin").write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(openvino, "save_model", disk_full)
    with pytest.raises(OSError, match="No space"):
        openvino_file.write_openvino(model, header, tmp_path / "model.xml")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("model.xml", "model.bin"), "earlier"
    )


def test_files_that_are_not_ours(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "model.xml").read_text()
    (tmp_path / "alone.xml").write_text(whole)
    for name, text in (("broken", whole[:1000]), ("foreign", whole.replace("<finemask", "<other"))):
        (tmp_path / f"{name}.xml").write_text(text)
        (tmp_path / f"{name}.bin").write_bytes((folder / "model.bin").read_bytes())
    (tmp_path / "short.xml").write_text(whole)
    (tmp_path / "short.bin").write_bytes((folder / "model.bin").read_bytes()[:1000])
    for name, message in (
        ("alone", "alone.bin is missing"),
        ("broken", "it cannot be opened"),
        ("foreign", "finemask did not write this file"),
        ("short", "it cannot be opened"),
        ("none", "no such file"),
    ):
        with pytest.raises(ModelFileError, match=message):
            finemask.load(tmp_path / f"{name}.xml")


LOWER = [f"precision={name}" for name in ("fp16", "int8")]


@pytest.mark.usefixtures("graph", "_one_probe")
@pytest.mark.parametrize("precision", LOWER)
def test_lower_precisions_say_what_they_cost(
    exported: Path, folder: Path, shapes: Path, tmp_path: Path, precision, monkeypatch
) -> None:
    if find_spec("nncf") is None:  # imported, it would put its loggers in the place of everybody's
        pytest.skip("nncf is not installed")
    monkeypatch.setattr(export_workflow, "LEAST_FOUND_ALIKE", 0.0)  # random weights: their ties fall either way
    words = [f"model={exported}/model.safetensors", f"output={tmp_path}/model.xml", f"data.root={shapes}"]
    done = export_model(verb_options("export", {}, [*words, "format=openvino", precision]))
    console = Console(file=StringIO(), width=80)
    show(console, done)
    name = precision.partition("=")[2]
    assert f"\n{name}: " in console.file.getvalue()
    full = folder / "model.bin"
    assert done.path.with_suffix(".bin").stat().st_size < 0.6 * full.stat().st_size
    parity = json.loads(done.parity.read_text())
    assert parity["rounding"]["calibrated_on"] == (0 if name == "fp16" else 3)
    assert set(parity["average_precision"]) == {"model", "exported"}
    image = np.random.default_rng(7).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    assert len(finemask.load(done.path).predict(image, threshold=0.0)) > 10
