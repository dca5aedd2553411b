"""The notebook of docs/: its cells run, in order and in one namespace, on the images beside it.

They are executed here and not in a Jupyter kernel: nothing in them needs one, an error is an ordinary traceback, and
developing needs three packages less. A line ``!finemask …`` is a call of the command line.
"""

import ast
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import finemask
from finemask.cli import main

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
CELLS = json.loads((FOLDER / "first_model.ipynb").read_text(encoding="utf-8"))["cells"]


def source_of(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def run_cell(source: str, namespace: dict[str, Any]) -> Any:
    """What the cell's last line is worth, as Jupyter shows it."""
    if source.startswith("!finemask "):
        assert main(shlex.split(source.removeprefix("!finemask ").format_map(namespace))) == 0
        return None
    body = ast.parse(source).body
    last = ast.Expression(body.pop().value) if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), namespace)
    return None if last is None else eval(compile(last, "cell", "eval"), namespace)


def test_the_notebook_runs_from_labels_to_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    shown = []
    for cell in CELLS:
        if cell["cell_type"] == "code":
            shown.append(run_cell(source_of(cell), namespace))
            if "parameters" in cell["metadata"].get("tags", ()):
                assert namespace["epochs"] > 1
                namespace["epochs"] = 1
    sheet, losses, metrics, found, drawn = [value for value in shown if value is not None]
    assert isinstance(sheet, Image.Image)
    assert isinstance(drawn, Image.Image)
    assert set(losses) >= {"train/loss", "train/loss_mask", "train/loss_rpn_box_reg"}
    assert 0 <= metrics["val/segm_AP"] <= metrics["val/segm_AP50"] <= 1
    assert isinstance(found, finemask.Instances)
    assert found.categories[0].name == "nucleus"
    assert namespace["scores"]["segm"]["AP"] == pytest.approx(metrics["val/segm_AP"], abs=0.001)
    assert (tmp_path / "output/evaluation/report/index.html").is_file()


def test_the_notebook_is_stored_with_its_pictures_and_nobodys_paths() -> None:
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1)), "executed once, top to bottom"
    kinds = [kind for cell in code for output in cell["outputs"] for kind in output.get("data", ())]
    assert kinds.count("image/jpeg") == 2
    text = json.dumps(CELLS, ensure_ascii=False)
    assert "Traceback" not in text
    assert not re.search(r"/(home|root|tmp|Users|work)/", text)
    linked = re.findall(r"\]\(([^)]+)\)", "\n".join(source_of(cell) for cell in CELLS))
    assert linked
    assert [link for link in linked if not (FOLDER / link).is_file()] == []
