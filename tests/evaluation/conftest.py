"""Fixtures of the evaluation tests."""

from evaluation_fixtures import dataset, write

__all__ = ["dataset", "write"]
