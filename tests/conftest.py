"""Fixtures of the whole suite."""

import gc
import json
import os
from pathlib import Path

# Before torch is imported: the threads of two test processes on two cores would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from PIL import Image

from finemask.data.shapes import draw_shapes

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection() -> None:
    """Thousands of tests and what they import are not looked through for garbage again and again."""
    gc.disable()


def pytest_collection_finish() -> None:
    """From here on for what the tests leave."""
    gc.freeze()
    gc.enable()


def pytest_sessionfinish() -> None:
    """triton complains at exit of whatever it has made that is not freed."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Real datasets, weights and independent expected results that lie beside a development checkout."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "datasets").is_dir():
        pytest.skip("needs the shared development data beside the repository; a plain clone has none")
    return folder


@pytest.fixture(scope="session")
def shapes_dir(tmp_path_factory):
    """34 drawn images (one without objects, two with a crowd) of 96 px."""
    return draw_shapes(tmp_path_factory.mktemp("shapes"), images=34, size=96, seed=3)


@pytest.fixture
def write_dataset(tmp_path):
    """Writes a COCO file and its images; returns the file and the folder."""

    def write(document, *, name="train.json", make_images=True):
        path = tmp_path / "annotations" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        if make_images and isinstance(document, dict):
            for entry in document["images"]:
                file = folder / entry["file_name"]
                file.parent.mkdir(parents=True, exist_ok=True)
                size = (entry["height"], entry["width"], 3)
                Image.fromarray(np.full(size, entry["id"] % 256, np.uint8)).save(file)
        return path, folder

    return write


@pytest.fixture
def document():
    """Two images, sparse category ids out of order, one annotation of each kind."""
    return {
        "images": [
            {"id": 7, "file_name": "b.png", "height": 10, "width": 12},
            {"id": 3, "file_name": "sub/a.png", "height": 8, "width": 8},
            {"id": 5, "file_name": "empty.png", "height": 6, "width": 9},
        ],
        "categories": [{"id": 9, "name": "leaf"}, {"id": 4, "name": "nut", "supercategory": "food"}],
        "annotations": [
            {"id": 100, "image_id": 3, "category_id": 9, "segmentation": [[1, 1, 6, 1, 6, 6, 1, 6]]},
            {
                "id": 20,
                "image_id": 7,
                "category_id": 4,
                "segmentation": {"size": [10, 12], "counts": [25, 3, 92]},
            },
            {"id": 30, "image_id": 7, "category_id": 9, "iscrowd": 1, "bbox": [8.5, 2, 2, 3.2]},
            {
                "id": 40,
                "image_id": 7,
                "category_id": 9,
                "segmentation": [[0, 0, 4, 0, 4, 4], [6, 6, 20, 6, 20, 20, 6, 20]],
            },
        ],
    }
