"""What starts fast: a verb that computes nothing with torch does not wait for it."""

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
    argv = [word.format(root=root, out=tmp_path) for word in words]
    done = subprocess.run([sys.executable, "-c", CODE, "data", *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy:"
