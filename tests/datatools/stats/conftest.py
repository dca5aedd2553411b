"""Fixtures of the statistics tests."""

from stats_fixtures import index_of, settings_of

__all__ = ["index_of", "settings_of"]
