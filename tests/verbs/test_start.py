"""What starts fast: a verb that computes nothing with torch does not wait for it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from finemask.data.shapes import draw_shapes

CODE = """
import sys
from finemask.cli import main
code = main(sys.argv[1:])
print("heavy:", *sorted({"torch", "torchvision", "pytorch_lightning", "albumentations"} & set(sys.modules)))
sys.exit(code)
"""
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


def heavy_imports(*argv: str) -> str:
    """What a command imported of the large packages."""
    done = subprocess.run([sys.executable, "-c", CODE, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("heavy:")
    return last.removeprefix("heavy:").strip()
