"""Workflows called from Python with the options of their verb, completed and checked by ``verb_options``."""

import json
from pathlib import Path

import pytest

from finemask.config import verb_options
from finemask.data.shapes import draw_shapes
from finemask.errors import ConfigError
from finemask.evaluation.ground_truth import load_ground_truth
from finemask.evaluation.numbers.pycocotools_reference import ground_truth_as_predictions
from finemask.workflows.compare_models import compare_models
from finemask.workflows.data.dataset_statistics import write_statistics
from finemask.workflows.data.find_suspects import write_suspects
from finemask.workflows.evaluate_model import evaluate


@pytest.fixture(scope="module")
def perfect(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Annotations, images, and the annotations as results; in a folder that Hydra's grammar could not name."""
    root = draw_shapes(tmp_path_factory.mktemp("it's [here]") / "data", images=6, size=64, seed=1, val_fraction=0.5)
    annotations, results = root / "annotations/val.json", root / "results.json"
    results.write_text(json.dumps(ground_truth_as_predictions(load_ground_truth(annotations))))
    return annotations, root / "images", results


def test_results_are_evaluated_and_compared(perfect: tuple[Path, Path, Path], tmp_path: Path) -> None:
    annotations, _, results = perfect
    metrics = evaluate(predictions=results, annotations=annotations, output=tmp_path / "evaluation")
    assert metrics["segm"]["AP"] == pytest.approx(1)
    values = {"a": results, "b": results, "annotations": annotations, "output": tmp_path / "comparison"}
    content, paths = compare_models(verb_options("compare", values))
    assert [content["segm"]["AP"][side] for side in "ab"] == pytest.approx([1, 1])
    assert content["changed_images"] == []
    assert all(path.is_file() and path.parent == tmp_path / "comparison" for path in paths)


def test_labels_are_measured_and_not_contradicted(perfect: tuple[Path, Path, Path], tmp_path: Path) -> None:
    annotations, images, results = perfect
    values = {"predictions": results, "annotations": annotations, "images": images, "output": tmp_path / "suspects"}
    assert write_suspects(verb_options("data suspects", values)).content["suspects"] == []
    values = {"annotations": annotations, "output": tmp_path / "statistics"}
    write_statistics(verb_options("data stats", values, ["sample=1"]))
    assert {path.name for path in (tmp_path / "statistics").iterdir()} >= {"stats.json", "index.html"}


def test_what_cannot_be_is_refused_as_on_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="examples cannot be -1"):
        verb_options("compare", {"a": tmp_path, "b": tmp_path, "output": tmp_path, "examples": -1})
    with pytest.raises(ConfigError, match="Did you mean 'max_suspects'"):
        verb_options("data suspects", {"max_suspect": 3})
