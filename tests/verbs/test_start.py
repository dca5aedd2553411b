"""What starts fast: a verb does not wait for what it does not need."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finemask.data.shapes import draw_shapes

CODE = """
import sys
from finemask.cli import main
code = main(sys.argv[1:])
print("heavy:", *sorted(set({heavy}) & set(sys.modules)))
sys.exit(code)
"""
WITH_TORCH = ("torch", "torchvision", "pytorch_lightning", "albumentations")
NOT_TO_PREDICT = (
    "torch._dynamo", "torch._inductor", "torch.utils.tensorboard", "sympy", "scipy", "pandas", "matplotlib",
    "pytorch_lightning", "torchmetrics", "albumentations", "jinja2", "pycocotools.coco", "timm", "onnx",
    "finemask.data", "finemask.evaluation", "finemask.training", "finemask.reports", "finemask.serving",
)  # fmt: skip
FILE = "annotations={root}/annotations/train.json"
VERBS = [
    ("check", FILE, "images={root}/images", "report={out}/report.json"),
    ("convert", "source={root}/annotations", "images=none", "output={out}/converted"),
    ("split", FILE, "images={root}/images", "output={out}/annotations"),
    ("stats", FILE, "images={root}/images", "output={out}/stats"),
    ("tile", FILE, "images={root}/images", "output={out}/tiles", "size=64"),
    ("synth", "output={out}/drawn"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_shapes(tmp_path_factory.mktemp("data") / "shapes", images=8, size=96, seed=3, val_fraction=0.25)


@pytest.mark.parametrize("words", VERBS, ids=lambda words: words[0])
def test_a_verb_of_data_runs_without_torch(root: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert heavy_imports("data", *(word.format(root=root, out=tmp_path) for word in words)) == ""


def test_a_results_file_is_evaluated_without_torch(root: Path, tmp_path: Path) -> None:
    truth = json.loads((root / "annotations/val.json").read_text())
    found = [{key: entry[key] for key in ("image_id", "category_id", "bbox")} for entry in truth["annotations"]]
    (tmp_path / "found.json").write_text(json.dumps([entry | {"score": 0.5} for entry in found]))
    files = (f"annotations={root}/annotations/val.json", f"predictions={tmp_path}/found.json")
    assert heavy_imports("evaluate", *files, f"output={tmp_path}/report") == ""


def test_a_model_file_is_described_without_torch(tiny_model_file: Path) -> None:
    assert heavy_imports("info", str(tiny_model_file)) == ""


def test_images_are_predicted_without_what_only_training_and_evaluation_need(
    tiny_model_file: Path, tmp_path: Path
) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)).save(tmp_path / "a.png")
    words = (f"model={tiny_model_file}", f"source={tmp_path}/a.png", f"output={tmp_path}/found", "device=cpu")
    assert heavy_imports("predict", *words, heavy=NOT_TO_PREDICT) == ""
    assert (tmp_path / "found/predictions.json").is_file()


def heavy_imports(*argv: str, heavy: tuple[str, ...] = WITH_TORCH) -> str:
    """What a command imported of the large packages."""
    code = CODE.replace("{heavy}", repr(heavy))
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("heavy:")
    return last.removeprefix("heavy:").strip()
