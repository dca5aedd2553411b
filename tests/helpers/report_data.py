"""The keys that only a written evaluation has, with plausible values: what the report draws them from."""

from typing import Any

import numpy as np
from html_page import Page

from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.evaluation.numbers.pycocotools_reference import ground_truth_as_predictions
from finemask.reports.evaluation_report import ReportContext, write_report


def evaluated(dataset, results=None):
    truth = ground_truth_from_dict(dataset)
    evaluator = CocoEvaluator(truth)
    evaluator.add_results(ground_truth_as_predictions(truth) if results is None else results)
    return evaluator


def report(tmp_path, evaluator, metrics=None, **options):
    metrics = metrics or evaluator.evaluate().metrics
    path = write_report(tmp_path / "report", evaluator, evaluator.results, metrics, ReportContext(**options))
    return path, Page(path.read_text(encoding="utf-8"))


def with_extras(metrics: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """A copy of an evaluation's metrics with intervals, thresholds, calibration, errors, confusion, slices, advice."""
    rng = np.random.default_rng(seed)
    names = list(metrics["per_class"])
    return metrics | {
        "confidence_interval": _intervals(metrics),
        "thresholds": {
            "best_f1": {"threshold": 0.412, "interval": [0.36, 0.47], "precision": 0.8, "recall": 0.6, "f1": 0.686},
            "precision_90": {"threshold": 0.72, "interval": [0.66, 0.8], "precision": 0.9, "recall": 0.41, "f1": 0.56},
            "recall_90": None,
            "per_class": {},
        },
        "calibration": {
            "iou": 0.5,
            "iou_type": metrics["operating_point"]["iou_type"],
            "error": 0.083,
            "bins": [
                {
                    "from": k / 10,
                    "to": (k + 1) / 10,
                    "detections": 0 if k == 0 else 30 * (11 - k) ** 2,
                    "mean_score": None if k == 0 else k / 10 + 0.05,
                    "precision": None if k == 0 else (k / 10) ** 1.3,
                }
                for k in range(10)
            ],
        },
        "errors": {
            "iou": 0.5,
            "background_iou": 0.1,
            metrics["operating_point"]["iou_type"]: {
                "AP50": 0.615,
                "types": {
                    "classification": {"count": 12, "gain": 0.004},
                    "localisation": {"count": 731, "gain": 0.094},
                    "both": {"count": 3, "gain": 0.0},
                    "duplicate": {"count": 48, "gain": 0.011},
                    "background": {"count": 306, "gain": 0.061},
                    "missed": {"count": 1044, "gain": 0.187},
                },
                "false_positive": 0.118,
                "false_negative": 0.223,
            },
        },
        "confusion": confusion(names, rng),
        "slices": [
            {"kind": "size", "name": "under 16 px", "ground_truths": 412, "recall": 0.31, "AP": 0.12},
            {"kind": "size", "name": "16 to 32 px", "ground_truths": 980, "recall": 0.66, "AP": 0.31},
            {"kind": "size", "name": "over 512 px", "ground_truths": 0, "recall": None, "AP": None},
            {"kind": "crowding", "name": "touching another", "ground_truths": 705, "recall": 0.52, "AP": None},
            {"kind": "border", "name": "cut by the border", "ground_truths": 133, "recall": 0.44, "AP": 0.2},
            {"kind": "image", "name": "1 to 5 objects", "ground_truths": 77, "recall": 0.71, "AP": 0.4},
        ],
        "advice": [
            {
                "gain": 0.187,
                "share": 0.41,
                "problem": "41 % of the missing AP is objects that no detection comes near, most of them under 16 px",
                "remedy": "data.tile or model.min_size=1200, so that small objects are seen larger",
            },
            {
                "gain": 0.094,
                "share": 0.21,
                "problem": "21 % of the missing AP is outlines that fit badly",
                "remedy": "a finer mask head: model.mask_resolution=56.",
            },
            {"gain": 0.061, "share": 0.14, "problem": "Something is found where <nothing> is labelled", "remedy": ""},
        ],
    }


def _intervals(metrics: dict[str, Any]) -> dict[str, Any]:
    def around(value: float | None) -> list[float] | None:
        return None if value is None else [max(value - 0.021, 0.0), min(value + 0.018, 1.0)]

    point = metrics["operating_point"]
    return {
        "level": 0.95,
        "resamples": 1000,
        **{kind: {key: around(value) for key, value in metrics[kind].items()} for kind in metrics["iou_types"]},
        "operating_point": {key: around(point[key]) for key in ("precision", "recall", "f1")},
        "per_class": {
            name: {key: around(row[key]) for key in ("bbox_AP", "segm_AP")}
            for name, row in metrics["per_class"].items()
        },
    }


def confusion(names: list[str], rng: np.random.Generator) -> dict[str, Any]:
    """A matrix in which most is right, some is missed, and neighbours are mixed up."""
    number = len(names)
    counts = np.zeros((number + 1, number + 1), dtype=np.int64)
    for row in range(number):
        counts[row, row] = rng.integers(5, 200)
        counts[row, number] = rng.integers(0, 60)
        counts[number, row] = rng.integers(0, 40)
        for column in rng.integers(0, number, 3).tolist():
            counts[row, column] += rng.integers(0, 20)
    return {
        "iou": 0.5,
        "iou_type": "segm",
        "threshold": 0.412,
        "names": [*names, "background"],
        "counts": counts.tolist(),
    }
