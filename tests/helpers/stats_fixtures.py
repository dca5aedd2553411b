"""Settings of the shipped models, and indexes of small files."""

from functools import cache

import pytest
from stats_data import write_coco

from finemask.coco.index import CocoIndex
from finemask.config import compose, plain
from finemask.datatools.stats.input_resolution import ModelSettings


@pytest.fixture(scope="session")
def settings_of():
    """Settings of a model by its overrides."""

    @cache  # composing takes a moment
    def settings(*overrides):
        cfg = compose("train", ["data.root=DIR", *overrides])
        return ModelSettings.of(plain(cfg.model))

    return settings


@pytest.fixture
def index_of(tmp_path):
    """Writes a file as ``write_coco`` does and opens it."""

    def index(images, objects, **options):
        return CocoIndex.read(write_coco(tmp_path, images, objects, **options), tmp_path / "images")

    return index
