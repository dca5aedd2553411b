"""Fixtures of the tests of pages."""

from browser_fixtures import tab
from evaluation_fixtures import dataset
from faulty_fixtures import faulty
from stats_fixtures import index_of, settings_of

__all__ = ["dataset", "faulty", "index_of", "settings_of", "tab"]
