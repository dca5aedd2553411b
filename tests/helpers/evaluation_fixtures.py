"""Fixtures of an evaluation: a small dataset, and a file of any content."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluation_data import square


@pytest.fixture
def dataset() -> dict[str, Any]:
    """Three images (the last one empty), two categories with sparse ids, four objects and a crowd region."""
    annotations = [
        {"id": 10, "image_id": 5, "category_id": 3, "segmentation": square(2, 2, 10)},
        {"id": 11, "image_id": 5, "category_id": 3, "segmentation": square(30, 30, 20)},
        {"id": 12, "image_id": 5, "category_id": 90, "segmentation": square(2, 30, 12)},
        {"id": 13, "image_id": 7, "category_id": 3, "segmentation": square(10, 10, 40)},
        {"id": 14, "image_id": 7, "category_id": 3, "segmentation": square(60, 60, 30), "iscrowd": 1},
    ]
    return {
        "images": [
            {"id": 5, "file_name": "a.png", "height": 64, "width": 80},
            {"id": 7, "file_name": "b.png", "height": 100, "width": 100},
            {"id": 9, "file_name": "c.png", "height": 32, "width": 32},
        ],
        "categories": [{"id": 90, "name": "nut"}, {"id": 3, "name": "<fig> & co"}],
        "annotations": annotations,
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    def write(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write
