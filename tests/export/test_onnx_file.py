"""The exported file against the model; what is refused."""

import errno
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import finemask
from finemask.cli import main
from finemask.errors import FinemaskError, ModelFileError
from finemask.export import certificate
from finemask.export.agreement import compare
from finemask.export.formats import FORMATS
from finemask.export.onnx_file import fold_norms, quietly, translations, write_onnx
from finemask.export.preprocessing_graph import OPSET, preprocessing_graph
from finemask.inference.exported_model import load_exported
from finemask.model.suppression import NMS
from finemask.model_file import load_model_file, save_model_file
from finemask.model_header import header_to_json
from finemask.types import Preprocessing
from finemask.workflows import export_model as export_workflow
from finemask.workflows.evaluate_model import evaluate
from finemask.workflows.export_model import export, refuse, refuse_ap

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")


def test_the_certificate_says_what_was_compared(exported: Path) -> None:
    parity = json.loads((exported / "out" / "model.onnx.parity.json").read_text())
    assert parity["agrees"] is True
    assert min(parity["found"].values()) > 0
    assert len({tuple(image["size_hw"]) for image in parity["images"]}) >= 3
    assert parity["detections_compared"] > 100
    assert parity["worst"]["box_px"] < 0.05
    names = ["model.onnx", "model.onnx.parity.json", "model_runner.py"]
    assert sorted(path.name for path in (exported / "out").iterdir()) == names


def test_the_runtime_alone_is_enough(exported: Path) -> None:
    session = onnxruntime.InferenceSession(exported / "out" / "model.onnx")
    assert [(each.name, each.type) for each in session.get_inputs()] == [("image", "tensor(uint8)")]
    assert [each.name for each in session.get_outputs()] == ["boxes", "labels", "scores", "masks"]
    header = json.loads(session.get_modelmeta().custom_metadata_map["finemask"])
    assert [category["name"] for category in header["categories"]] == ["red fig", "dätte", "blue"]
    image = np.random.default_rng(2).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    none = session.run(None, {"image": image, "score_thresh": np.array(1.0, dtype=np.float32)})
    assert [part.shape for part in none] == [(0, 4), (0,), (0,), (0, 28, 28)]


_NORMS = """
<ir_version: 10, opset_import: ["" : 20]>
norms (float[1, 4, 9, 7] x) => (float[1, 4, 9, 7] last, float[1, 4, 9, 7] seen)
{
  a = Conv<pads = [1, 1, 1, 1]>(x, w)
  b = Mul(a, scale)
  c = Add(shift, b)
  d = Clip(c, low)
  e = Conv<pads = [1, 1, 1, 1], group = 4>(d, depthwise, bias)
  f = Mul(scale, e)
  g = Add(f, shift)
  seen = Conv<pads = [1, 1, 1, 1]>(g, w)
  h = Mul(seen, scale)
  i = Add(h, shift)
  j = Conv<pads = [1, 1, 1, 1]>(i, w)
  k = Mul(j, scale)
  last = Add(k, d)
}
"""


def test_frozen_normalisation_goes_into_the_convolution_before_it() -> None:
    """Factor first or second, with a bias or without; not where something else is added, or the map is an output."""
    from onnx import checker, numpy_helper, parser

    rng = np.random.default_rng(3)
    shapes = {
        "w": (4, 4, 3, 3), "depthwise": (4, 1, 3, 3), "bias": (4,),
        "scale": (4, 1, 1), "shift": (1, 4, 1, 1), "low": (),
    }  # fmt: skip
    whole = parser.parse_model(_NORMS)
    for name, shape in shapes.items():
        value = rng.normal(size=shape).astype(np.float32)
        whole.graph.initializer.append(numpy_helper.from_array(value, name))
    given = {"x": rng.normal(size=(1, 4, 9, 7)).astype(np.float32)}
    wanted = onnxruntime.InferenceSession(whole.SerializeToString()).run(None, given)
    assert fold_norms(whole.graph) == 2
    checker.check_model(whole)
    found = onnxruntime.InferenceSession(whole.SerializeToString()).run(None, given)
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)
    kinds = [node.op_type for node in whole.graph.node]
    assert kinds == ["Conv", "Clip", "Conv", "Conv", "Mul", "Add", "Conv", "Mul", "Add"]
    assert {"w", "scale", "shift"} <= {tensor.name for tensor in whole.graph.initializer}
    assert not {"bias", "depthwise"} & {tensor.name for tensor in whole.graph.initializer}


def test_group_norm_of_any_number_of_rows_and_of_none() -> None:
    """As where an image has no detection, and the mask head a norm."""
    torch.manual_seed(0)
    norm = torch.nn.GroupNorm(3, 12)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    rows = torch.randn(5, 12, 4, 6) * 3 + 1
    with quietly():
        program = torch.onnx.export(
            torch.export.export(norm, (rows,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)),
            dynamo=True,
            opset_version=OPSET,
            input_names=["rows"],
            custom_translation_table=translations(),
        )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    for some in (rows, rows[:1], rows[:0]):
        (found,) = session.run(None, {"rows": some.numpy()})
        np.testing.assert_allclose(found, norm(some).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("size_hw", [(60, 90), (131, 64)])
def test_a_loaded_file_predicts_as_the_model_file_does(exported: Path, size_hw: tuple[int, int]) -> None:
    image = np.random.default_rng(7).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    theirs = finemask.load(exported / "out" / "model.onnx")
    ours = finemask.load(exported / "model.safetensors", device="cpu")
    assert header_to_json(theirs.header) == header_to_json(ours.header)
    found, wanted = (predictor.predict(image) for predictor in (theirs, ours))
    assert len(found) == len(wanted) > 10
    far = np.abs(found.boxes[:, None] - wanted.boxes).max(axis=2) + 100 * (found.labels[:, None] != wanted.labels)
    pairs = far.argmin(axis=1)  # near ties may change places
    assert sorted(pairs) == list(range(len(wanted)))
    assert far.min(axis=1).max() < 0.01
    np.testing.assert_allclose(found.scores, wanted.scores[pairs], atol=1e-4)
    assert np.mean(found.masks != wanted.masks[pairs]) < 1e-3


def test_a_crowd_of_more_than_a_thousand_candidates(exported: Path, model_with, tmp_path: Path, monkeypatch) -> None:
    """From 1,001 on torchvision suppresses class by class; nothing is cut off behind."""
    crowd = ("pre_nms_top_n_test=1000", "post_nms_top_n_test=500")
    model = model_with(*(f"model.rpn.{key}" for key in crowd), "model.roi_heads.detections_per_img=2000")
    model.roi_heads.score_thresh = 0.0
    with torch.no_grad():
        for layer in (model.rpn.head.cls_logits, model.roi_heads.box_predictor.cls_score):
            layer.weight *= 40  # scores of random weights are so much alike that rounding would rank them
    _, header = load_model_file(exported / "model.safetensors")
    write_onnx(model, header, tmp_path / "model.onnx")
    file = load_exported(tmp_path / "model.onnx")
    file.score_thresh = 0.0
    candidates = []
    by_box = NMS.by_box
    monkeypatch.setattr(NMS, "by_box", lambda *given: candidates.append(len(given[1])) or by_box(*given))
    for name, image in list(certificate.probe_images())[:2]:
        with torch.inference_mode():
            (wanted,) = model([image])
        (found,) = file([image])
        agreement = compare(wanted, found, name, 0.0, 2000)
        assert agreement.fault == ""
        assert agreement.matched == agreement.found == agreement.found_exported > 300
    assert min(candidates) > 1000


@pytest.mark.usefixtures("_one_probe")
def test_one_other_weight_is_found_out(exported: Path) -> None:
    model, _ = load_model_file(exported / "model.safetensors")
    with torch.no_grad():
        model.roi_heads.box_predictor.bbox_pred.bias[5] += 0.5
    certified = certificate.certify(model, load_exported(exported / "out" / "model.onnx"), {})
    assert certified.faults
    with pytest.raises(FinemaskError, match=r"does not find what the model finds.*drawn 64x64 \(64 × 64 px") as caught:
        refuse(certified, Path("model.onnx"))
    assert "px" in str(caught.value)


@pytest.mark.usefixtures("_one_probe")
def test_what_disagrees_is_not_written(exported: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    ready = (exported / "out" / "model.onnx").read_bytes()
    monkeypatch.setitem(FORMATS, "onnx", replace(FORMATS["onnx"], write=lambda _, __, path: path.write_bytes(ready)))
    model, header = load_model_file(exported / "model.safetensors")
    with torch.no_grad():
        model.roi_heads.mask_predictor.mask_fcn_logits.bias[1] += 1.0  # one weight of a hundred thousand
    save_model_file(tmp_path / "model.safetensors", model.state_dict(), header)
    (tmp_path / "mine").mkdir()
    assert main(["export", f"model={tmp_path}/model.safetensors", f"output={tmp_path}/mine/new/deep/model.onnx"]) == 2
    assert "of a mask's pixels differ" in capsys.readouterr().err
    assert {path.name for path in tmp_path.rglob("*")} == {"model.safetensors", "mine"}, "no folder is left either"


def test_a_part_with_a_branch_is_said_in_words(exported: Path, model_with, tmp_path: Path, capfd) -> None:
    class Branching(torch.nn.Module):
        def forward(self, features, labels):
            return features.new_zeros(len(labels), 28, 28) if bool(features.sum() > 0) else features.mean(1)

    model = model_with()
    model.roi_heads.mask_predictor = Branching()
    _, header = load_model_file(exported / "model.safetensors")
    with pytest.raises(FinemaskError, match="torch's exporter cannot follow this model"):
        write_onnx(model, header, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["output=model.xml"], "output=model.xml does not end in .onnx"),
        (["format=tflite"], "format cannot be 'tflite'. It is onnx"),
        (["images=nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_asked_for(exported: Path, words, message, capsys) -> None:
    assert main(["export", f"model={exported}/model.safetensors", *words]) == 2
    assert message in capsys.readouterr().err


def test_files_that_are_not_ours(exported: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.onnx"
    foreign.write_bytes(preprocessing_graph(Preprocessing((64,), 96, (0, 0, 0), (1, 1, 1))).SerializeToString())
    broken = tmp_path / "broken.onnx"
    broken.write_bytes((exported / "out" / "model.onnx").read_bytes()[:1000])
    for path, message in (
        (foreign, "finemask did not write this file"),
        (broken, "it cannot be opened"),
        (tmp_path / "none.onnx", "no such file"),
    ):
        with pytest.raises(ModelFileError, match=message):
            finemask.load(path)


@pytest.mark.usefixtures("_one_probe")
def test_from_python_with_a_second_file(exported: Path, tmp_path: Path, monkeypatch) -> None:
    """A format of two files: both come to their place, and the certificate names both."""
    ready = (exported / "out" / "model.onnx").read_bytes()

    def write(model, header, path: Path) -> None:
        path.write_bytes(ready)
        path.with_suffix(".bin").write_bytes(b"weights")

    monkeypatch.setitem(FORMATS, "onnx", replace(FORMATS["onnx"], write=write))
    done = export(exported / "model.safetensors", tmp_path / "deep" / "model.onnx")
    assert done.certificate.faults == []
    assert done.path.read_bytes() == ready
    assert [path.read_bytes() for path in done.beside] == [b"weights"]
    assert done.megabytes * 2**20 == len(ready) + len(b"weights")
    parity = json.loads(done.parity.read_text())
    assert parity["beside"] == {"model.bin": hashlib.sha256(b"weights").hexdigest()}
    names = ["model.bin", "model.onnx", "model.onnx.parity.json"]
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == names


@pytest.mark.usefixtures("_one_probe")
def test_the_ap_of_both_is_stated(exported: Path, shapes: Path, tmp_path: Path, monkeypatch) -> None:
    ready = (exported / "out" / "model.onnx").read_bytes()
    monkeypatch.setitem(FORMATS, "onnx", replace(FORMATS["onnx"], write=lambda _, __, path: path.write_bytes(ready)))
    done = export(exported / "model.safetensors", tmp_path / "model.onnx", data_root=shapes)
    assert evaluate(exported / "model.safetensors", shapes, output=tmp_path / "evaluation")["segm"]["AP"] == (
        pytest.approx(done.certificate.average_precision["model"]["segm_AP"])
    )
    parity = json.loads(done.parity.read_text())
    assert parity["average_precision"]["exported"] == pytest.approx(parity["average_precision"]["model"])
    assert parity["split"]["images"] == 1
    assert {image["image"] for image in parity["images"]} > {"drawn 64x64"}  # and the one of the split


def test_an_ap_that_differs_is_refused() -> None:
    found = {"model": {"segm_AP": 0.5, "bbox_AP": 0.6}, "exported": {"segm_AP": 0.5, "bbox_AP": 0.597}}
    certified = certificate.Certificate(average_precision=found)
    assert certified.to_json()["agrees"] is False
    with pytest.raises(FinemaskError, match=r"not as good as the model on val.*bbox_AP 0.600 becomes 0.597"):
        refuse_ap(certified, "val", Path("model.onnx"))


@pytest.mark.usefixtures("_one_probe")
def test_nothing_is_left_where_the_disk_is_full(exported: Path, tmp_path: Path, monkeypatch) -> None:
    ready = (exported / "out" / "model.onnx").read_bytes()
    monkeypatch.setitem(FORMATS, "onnx", replace(FORMATS["onnx"], write=lambda _, __, path: path.write_bytes(ready)))
    for name in ("model.onnx", "model.onnx.parity.json"):
        (tmp_path / name).write_text("earlier")

    def disk_full(path, value) -> None:
        path.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(export_workflow, "write_json", disk_full)
    with pytest.raises(OSError, match="No space"):
        export(exported / "model.safetensors", tmp_path / "model.onnx")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("model.onnx", "model.onnx.parity.json"), "earlier"
    )
