"""The worked example of docs/how_matching_works.md, computed."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.evaluation.numbers.coco_numbers import scores_of
from finemask.evaluation.numbers.match_table import MatchTable, match_tables
from finemask.evaluation.result_table import ResultTable

PAGE = Path(__file__).resolve().parents[3] / "docs/how_matching_works.md"


def page_tables() -> list[list[dict[str, str]]]:
    """The tables of the page; the first column without a heading is called "name"."""
    tables: list[list[list[str]]] = []
    previous = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            if not previous.startswith("|"):
                tables.append([])
            tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        previous = line
    return [
        [dict(zip([heading or "name" for heading in head], row, strict=True)) for row in rows]
        for head, _, *rows in tables
    ]


OBJECTS, DETECTIONS, MATCHES, _ = page_tables()
NAMES = [row["name"] for row in OBJECTS]


def numbers(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


@pytest.fixture(scope="module")
def table() -> MatchTable:
    crowd = [row["kind"] == "crowd" for row in OBJECTS]
    dataset = {
        "images": [{"id": 1, "height": 10, "width": 1000}],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": numbers(row["box"]), "iscrowd": int(is_crowd)}
            for row, is_crowd in zip(OBJECTS, crowd, strict=True)
        ],
    }
    assert sum(crowd) == 1
    truth = ground_truth_from_dict(dataset)
    results = [
        {"image_id": 1, "category_id": 1, "bbox": numbers(row["box"]), "score": float(row["score"])}
        for row in DETECTIONS
    ]
    ious = [float(row["IoU"]) for row in MATCHES]
    return match_tables(truth, ResultTable(truth, results), ["bbox"], 100, ious)["bbox"]


def test_the_overlaps_are_those_of_the_page(table):
    shown = {(row["name"], name): float(row[name]) for row in DETECTIONS for name in NAMES if row[name]}
    names = [DETECTIONS[number]["name"] for number in table.detections.result.tolist()]
    pairs = zip(table.overlaps.detection.tolist(), table.overlaps.object.tolist(), table.overlaps.iou, strict=True)
    assert {(names[row], NAMES[object_]): round(float(iou), 2) for row, object_, iou in pairs} == shown


def test_the_matches_are_those_of_the_page(table):
    assert len(MATCHES) == 2
    for iou, row in enumerate(MATCHES):
        of_result = dict(zip(table.detections.result.tolist(), table.matched(iou).tolist(), strict=True))
        found = [[*NAMES, "–"][of_result[number]] for number in range(len(DETECTIONS))]
        assert found == [row[detection["name"]] for detection in DETECTIONS]


def test_precision_and_ap_are_those_of_the_page(table):
    scores = scores_of(table, 100)
    for iou, row in enumerate(MATCHES):
        is_true = table.is_true(iou)[table.counts(iou)]
        precision = np.cumsum(is_true) / np.arange(1, len(is_true) + 1)
        shown = [float(Fraction(text.strip())) for text in row["precision, best first"].split(",")]
        assert precision.tolist() == pytest.approx(shown)
        assert scores.precision[iou, :, 0, 0].mean() == pytest.approx(float(row["AP"]), abs=5e-4)


def test_the_contested_detections_are_those_of_the_page(table):
    """d1 and d2 alone go through the loop."""
    at_least = table.overlaps.at_least(0.5)
    several = {row for row in at_least.detection.tolist() if (at_least.detection == row).sum() > 1}
    contested = {object_ for row, object_ in zip(at_least.detection, at_least.object, strict=True) if row in several}
    names = {
        DETECTIONS[table.detections.result[row]]["name"]
        for row, object_ in zip(at_least.detection, at_least.object, strict=True)
        if object_ in contested
    }
    assert names == {"d1", "d2"}
