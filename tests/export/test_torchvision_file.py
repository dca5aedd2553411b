"""The weights in torchvision's own model, without finemask; TorchScript of that model; what torchvision cannot hold."""

import ast
import json
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from model_cases import model_config
from PIL import Image

import finemask
from finemask.cli import main
from finemask.errors import ConfigError, ModelFileError
from finemask.export import certificate
from finemask.export.torchvision_file import build_torchvision, check_torchvision
from finemask.export.torchvision_source import torchvision_source
from finemask.model.build import build_model
from finemask.model_file import load_model_file, save_model_file
from finemask.model_header import ModelHeader
from finemask.types import Category

SMALL = (
    "model.weights=none",
    "model.min_size=96",
    "model.max_size=160",
    "model.backbone.out_channels=16",
    "model.anchors.sizes=[12,24,48,96,160]",
    "model.box_head.representation_size=32",
    "model.mask_head.channels=[16,16]",
    "model.rpn.pre_nms_top_n_test=60",
    "model.rpn.post_nms_top_n_test=40",
)
NAMES = ('quote " and \\', "dätte", "blue")
WITHOUT_FINEMASK = """
import sys
sys.modules["finemask"] = None
import contextlib, io, json, numpy, os, runpy, torch
from model_torchvision import CLASSES, THRESHOLDS, load
model = load()
images = numpy.load("images.npz")
answers = {}
with torch.inference_mode():
    for name in images:
        (found,) = model([torch.from_numpy(images[name]).permute(2, 0, 1) / 255])
        answers |= {name + "_" + key: value.numpy() for key, value in found.items()}
numpy.savez("answers.npz", **answers)
sys.argv = [os.path.abspath("model_torchvision.py"), os.path.abspath("photo.png")]
os.chdir("..")
with contextlib.redirect_stdout(io.StringIO()) as shown:
    runpy.run_path(sys.argv[0], run_name="__main__")
print(json.dumps([type(model).__module__, CLASSES, THRESHOLDS, shown.getvalue()]))
"""


def small_model(name: str, *overrides: str):
    config = model_config(name, *SMALL, *overrides)
    torch.manual_seed(2)
    model = build_model(config, num_classes=len(NAMES) + 1).eval()
    categories = [Category(number, text) for number, text in enumerate(NAMES, start=4)]
    thresholds = {"global": 0.2, "per_class": {"blue": 0.25}}
    return model, ModelHeader(config, categories, model.preprocessing, thresholds=thresholds)


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A model file whose parts are torchvision's, and what is exported of it."""
    folder = tmp_path_factory.mktemp("torchvision")
    model, header = small_model("resnet18_fpn")
    save_model_file(folder / "model.safetensors", model.state_dict(), header)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificate, "PROBE_SIZES_HW", certificate.PROBE_SIZES_HW[2:5:2])
        for form in ("torchvision", "torchscript"):
            with redirect_stdout(StringIO()) as shown:
                assert main(["export", f"model={folder}/model.safetensors", f"format={form}"]) == 0
            assert ("deprecated TorchScript" in " ".join(shown.getvalue().split())) == (form == "torchscript")
    return folder


IMAGES = {
    name: np.random.default_rng(5).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    # 77, 154 and 231 to 96 are rounded in single precision otherwise than in double
    for name, size_hw in {"wide": (77, 154), "high": (170, 50), "small": (20, 33)}.items()
}


@pytest.fixture(scope="session")
def alone(folder: Path) -> tuple[str, list[str], list[float], str]:
    """One process without finemask: what it says of the model, and what the Python file prints as a program."""
    np.savez(folder / "images.npz", **IMAGES)
    Image.fromarray(IMAGES["wide"]).save(folder / "photo.png")
    command = [sys.executable, "-c", WITHOUT_FINEMASK]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout))


def test_what_is_written(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir() if path.is_file() and path.suffix not in (".npz", ".png")) == [
        "model.pth",
        "model.pth.parity.json",
        "model.safetensors",
        "model.torchscript",
        "model.torchscript.parity.json",
        "model_torchvision.py",
    ]
    for name in ("model.pth", "model.torchscript"):
        parity = json.loads((folder / f"{name}.parity.json").read_text())
        assert parity["agrees"] is True
        assert parity["worst"]["box_px"] < 0.01
    weights = torch.load(folder / "model.pth", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())


def test_torchvision_alone_finds_the_same(folder: Path, alone: tuple[str, list[str], list[float], str]) -> None:
    module, classes, thresholds, _ = alone
    assert module == "torchvision.models.detection.mask_rcnn"
    assert classes == ["__background__", *NAMES]
    assert thresholds == [1.0, 0.2, 0.2, 0.25]
    answers = np.load(folder / "answers.npz")
    predictor = finemask.load(folder / "model.safetensors", device="cpu")
    for name, image in IMAGES.items():
        wanted = predictor.predict(image, threshold=0.0)
        assert len(wanted) > 10
        np.testing.assert_array_equal(answers[f"{name}_labels"], wanted.labels)
        np.testing.assert_allclose(answers[f"{name}_boxes"], wanted.boxes, atol=1e-3)
        np.testing.assert_allclose(answers[f"{name}_scores"], wanted.scores, atol=1e-5)
        masks = answers[f"{name}_masks"][:, 0] > 0.5
        assert np.mean(masks != wanted.masks) < 1e-4


def test_the_python_file_is_a_program_too(folder: Path, alone: tuple[str, list[str], list[float], str]) -> None:
    wanted = finemask.load(folder / "model.safetensors", device="cpu").predict(IMAGES["wide"])
    lines = alone[3].splitlines()
    assert len(lines) == len(wanted) > 0
    assert lines[0].startswith(f"{wanted.class_names[0]} {wanted.scores[0]:.3f} [")
    assert lines[0].endswith(f"{wanted.masks[0].sum()} pixels")


def test_torchscript_alone_finds_the_same(folder: Path) -> None:
    extra = {"finemask": ""}
    script = torch.jit.load(folder / "model.torchscript", _extra_files=extra)
    assert [category["name"] for category in json.loads(extra["finemask"])["categories"]] == list(NAMES)
    predictor = finemask.load(folder / "model.safetensors", device="cpu")
    for image in IMAGES.values():
        boxes, labels, scores, masks = script(torch.from_numpy(image))
        wanted = predictor.predict(image, threshold=0.0)
        np.testing.assert_array_equal(labels, wanted.labels)
        np.testing.assert_allclose(boxes.numpy(), wanted.boxes, atol=1e-3)
        np.testing.assert_allclose(scores.numpy(), wanted.scores, atol=1e-5)
        assert masks.shape == (len(wanted), 28, 28)
        assert [part.shape[0] for part in script(torch.from_numpy(image), 1.0)] == [0, 0, 0, 0]
        assert len(script(torch.from_numpy(image))[0]) == len(wanted)  # the threshold was of that call only


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("light", ["model.backbone.norm=frozen_bn", "model.backbone.norm_eps=0.001"]),
        ("mobilenet_v3_fpn", ["model.backbone.norm=bn", "model.backbone.fpn_norm=gn"]),
        ("resnet18_fpn", ["model.backbone.norm=gn", "model.roi_heads.nms_thresh=0.3"]),
        ("resnet18_fpn", ["model.mask_head.norm=bn", "model.rpn.conv_depth=2", "model.backbone.fpn_norm=bn"]),
    ],
)
def test_the_parts_that_torchvision_has(name: str, overrides: list[str]) -> None:
    """Also those with statistics: what is not set as in the model would be seen."""
    model, header = small_model(name, *overrides)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    theirs = build_torchvision(model, header)
    image = torch.from_numpy(IMAGES["wide"]).permute(2, 0, 1)
    with torch.inference_mode():
        (wanted,), (found,) = model([image]), theirs([image / 255])
    assert len(found["boxes"]) > 10
    torch.testing.assert_close(found["boxes"], wanted["boxes"], atol=1e-3, rtol=0)
    torch.testing.assert_close(found["scores"], wanted["scores"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("model/box_predictor=cascade", "CascadeBoxPredictor (model.box_predictor)"),
        ("model/mask_predictor=point_rend", "PointRendMaskPredictor (model.mask_predictor)"),
        ("model/mask_predictor=deep_fcn", "DeepFCNMaskPredictor (model.mask_predictor)"),
        ("model/suppression=class_agnostic", "ClassAgnosticNMS (model.suppression)"),
        ("model.clahe=2.0", "model.clahe"),
        ("model=tiny", "small_fpn (model.backbone)"),
    ],
)
def test_what_torchvision_has_not_is_named(override: str, named: str) -> None:
    name = override.removeprefix("model=") if override.startswith("model=") else "resnet18_fpn"
    model, _ = small_model(name, *([] if override.startswith("model=") else [override]))
    with pytest.raises(ConfigError, match="torchvision has no part for") as caught:
        check_torchvision(model)
    assert named in str(caught.value)


def test_a_file_cannot_smuggle_code_into_the_python_file(folder: Path) -> None:
    """What a model file says becomes text in a program that is run: as a value, never as code."""
    model, header = load_model_file(folder / "model.safetensors")
    evil = '"); raise SystemExit("run") #'
    model.config["backbone"]["norm"] = evil
    model.roi_heads.mask_roi_pool.canonical_scale = model.roi_heads.box_roi_pool.canonical_scale = evil
    header = replace(
        header, categories=[category._replace(name=evil + category.name) for category in header.categories]
    )
    tree = ast.parse(torchvision_source(model, header, Path('a"b\n.pth')))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert "SystemExit" not in names
    assert "AnchorGenerator" in names


@pytest.mark.parametrize("name", ["model.pth", "model.torchscript", "model.pt2"])
def test_files_that_hold_code_are_not_opened(folder: Path, name: str) -> None:
    (folder / "model.pt2").touch()
    with pytest.raises(ModelFileError, match=name.replace(".", r"\.")):
        finemask.load(folder / name)
    (folder / "model.pt2").unlink()
