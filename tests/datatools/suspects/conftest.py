"""Fixtures of the suspects tests."""

from faulty_fixtures import Faulty, faulty

__all__ = ["Faulty", "faulty"]
