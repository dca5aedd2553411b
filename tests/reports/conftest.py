"""Fixtures of the tests of pages."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from browser import Tab, browser_tab, find_browser
from evaluation_fixtures import dataset
from faulty_fixtures import faulty
from stats_fixtures import index_of, settings_of

__all__ = ["dataset", "faulty", "index_of", "settings_of"]


@pytest.fixture(scope="package")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    browser = find_browser()
    if browser is None:
        pytest.skip("needs Chromium or Chrome on the PATH")
    with ExitStack() as stack:
        try:
            tab = stack.enter_context(browser_tab(browser, tmp_path_factory.mktemp("profile")))
        except (AssertionError, OSError) as error:
            pytest.skip(f"{browser} does not start without a screen: {error}")
        yield tab
