"""Annotations are the same whether or not anybody looks for the images."""

import numpy as np
import pytest
from stats_data import rectangle, write_coco

from finemask.data.index import CocoIndex
from finemask.data.shapes import draw_shapes
from finemask.datatools.stats.objects import measure_objects
from finemask.datatools.stats.read import read_index
from finemask.errors import DataError


def test_both_ways_give_the_same_objects(tmp_path):
    root = draw_shapes(tmp_path, images=10, size=64, seed=1)
    path = root / "annotations" / "train.json"
    with_images, without = (measure_objects(read_index(path, folder)) for folder in (root / "images", None))
    for name, value in vars(with_images).items():
        assert np.array_equal(value, getattr(without, name)), name
    index = read_index(path, None)
    reference = CocoIndex.read(path, root / "images")
    assert index.fingerprint == reference.fingerprint
    assert index.categories == reference.categories
    assert index.category_ids == reference.category_ids
    assert index.file_names == reference.file_names


def test_faults_are_refused_either_way(tmp_path):
    path = write_coco(tmp_path, [(20, 20)], [(0, "a", rectangle((20, 20), 0, 0, 5, 5))])
    path.write_text(path.read_text().replace('"image_id": 100', '"image_id": 7'))
    for folder in (tmp_path / "images", None):
        with pytest.raises(DataError, match="7"):
            read_index(path, folder)
