"""A tab of a headless browser, for the tests of a folder; they are skipped where there is none."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from browser import Tab, browser_tab, find_browser


@pytest.fixture(scope="package")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """Opened once; a test opens its page in it."""
    browser = find_browser()
    if browser is None:
        pytest.skip("needs Chromium or Chrome on the PATH")
    with ExitStack() as stack:
        try:
            tab = stack.enter_context(browser_tab(browser, tmp_path_factory.mktemp("profile")))
        except (AssertionError, OSError) as error:
            pytest.skip(f"{browser} does not start without a screen: {error}")
        yield tab
