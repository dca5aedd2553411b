"""The program beside the ONNX file, without torch and finemask, against the predictor."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import finemask
from finemask.export.onnx_runner import paste, run_lengths
from finemask.ops.mask_ops import masks_to_rles
from finemask.ops.rle import rle_to_mask

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

# Whoever asks for torch or finemask gets an ImportError, as where they are not installed.
ALONE = "import sys; sys.modules['torch'] = sys.modules['finemask'] = None; "
AS_A_PROGRAM = ALONE + "import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
AS_A_MODULE = ALONE + (
    "from model_runner import Model; import numpy; found = Model().find(numpy.load('image.npy'), threshold=0.05); "
    "numpy.savez('found.npz', boxes=[one['box'] for one in found], scores=[one['score'] for one in found], "
    "masks=[one['mask'] for one in found]); print([one['class'] for one in found])"
)


@pytest.fixture(scope="session")
def deployed(exported: Path, tmp_path_factory) -> Path:
    """A folder with the ONNX file, its program and three photos."""
    folder = tmp_path_factory.mktemp("deployed")
    for name in ("model.onnx", "model_runner.py"):
        shutil.copy(exported / "out" / name, folder)
    pixels = np.random.default_rng(3).integers(0, 256, (90, 140, 3), dtype=np.uint8)
    np.save(folder / "image.npy", pixels)
    Image.fromarray(pixels).save(folder / "plain.png")
    turned = Image.new("RGB", (1, 1)).getexif()
    turned[0x0112] = 6
    Image.fromarray(pixels).save(folder / "turned.png", exif=turned)
    Image.fromarray(pixels).convert("RGBA").save(folder / "clear.png")
    return folder


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", *words], cwd=folder, capture_output=True, text=True, check=False)


def test_lines_of_json_are_what_the_predictor_finds(deployed: Path) -> None:
    photos = ["plain.png", "turned.png", "clear.png"]
    done = run(deployed, AS_A_PROGRAM, "model_runner.py", *photos)
    assert (done.returncode, done.stderr) == (0, "")
    predictor = finemask.load(deployed / "model.onnx")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["image"] for line in lines] == photos
    for line in lines:
        wanted = predictor.predict(deployed / line["image"])
        objects = line["objects"]
        assert [one["class"] for one in objects] == list(wanted.class_names)
        assert len(objects) > 3
        np.testing.assert_allclose([one["score"] for one in objects], wanted.scores, atol=1e-6)
        np.testing.assert_allclose([one["box"] for one in objects], wanted.boxes, atol=1e-4)
        masks = [coco_mask.decode(coco_mask.frPyObjects(one["segmentation"], *wanted.image_size_hw)) for one in objects]
        assert np.mean(np.array(masks, dtype=bool) != wanted.masks) < 1e-5


def test_it_can_be_imported(deployed: Path) -> None:
    done = run(deployed, AS_A_MODULE)
    assert done.stderr == ""
    wanted = finemask.load(deployed / "model.onnx").predict(np.load(deployed / "image.npy"), threshold=0.05)
    found = np.load(deployed / "found.npz")
    np.testing.assert_allclose(found["boxes"], wanted.boxes, atol=1e-4)
    np.testing.assert_allclose(found["scores"], wanted.scores, atol=1e-6)
    assert np.mean(found["masks"] != wanted.masks) < 1e-5


def test_a_photo_of_sixteen_bits_is_not_guessed_at(deployed: Path) -> None:
    Image.fromarray(np.zeros((40, 40), dtype=np.uint16)).save(deployed / "deep.png")
    done = run(deployed, AS_A_PROGRAM, "model_runner.py", "deep.png")
    assert done.returncode == 1
    assert "deep.png: finemask has to read this file" in done.stderr


@pytest.mark.parametrize(
    "box",
    [
        [3.2, 4.7, 30.1, 22.9],
        [0, 0, 40, 30],  # the whole image, grown beyond it
        [39.5, 29.5, 40, 30],  # less than a pixel, in the corner
        [0, 12.5, 0.4, 13],
        [17, 3, 17, 29],  # no width
    ],
)
def test_masks_are_pasted_as_finemask_pastes_them(box) -> None:
    import torch

    rng = np.random.default_rng(1)
    prob = rng.random((28, 28)).astype(np.float32)
    corners = np.array(box, dtype=np.float32)
    (wanted,) = masks_to_rles(torch.from_numpy(prob)[None], torch.from_numpy(corners)[None], (30, 40))
    np.testing.assert_array_equal(paste(prob, corners, 30, 40), rle_to_mask(wanted))


@pytest.mark.parametrize("fill", [[0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 1], [0, 1, 1, 0]])
def test_run_lengths_by_pycocotools(fill) -> None:
    mask = np.array(fill, dtype=bool).reshape(2, 2)
    np.testing.assert_array_equal(coco_mask.decode(coco_mask.frPyObjects(run_lengths(mask), 2, 2)), mask)
