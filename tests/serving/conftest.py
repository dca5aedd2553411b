"""Fixtures of the tests of the server and its page."""

from browser_fixtures import tab

__all__ = ["tab"]
