"""Settings of the shipped models, and indexes of small files."""

from functools import cache

import pytest
from stats_data import write_coco

from finemask.config import compose, plain
from finemask.datatools.stats.plan import ModelSettings
from finemask.datatools.stats.read import read_index


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
        return read_index(write_coco(tmp_path, images, objects, **options), tmp_path / "images")

    return index
