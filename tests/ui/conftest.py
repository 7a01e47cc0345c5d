"""One Chromium for all tests of the pages.

Playwright's synchronous interface keeps an event loop on the main thread for as long as it is started, and
pytest-asyncio starts its own for each asynchronous test. So the browser's fixture is of this package, not of the
session: it ends before a test of another folder begins. Tests in this folder are all synchronous.
"""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.service.faulty import FaultyEngine
from tests.service.serving import serving
from tests.service.tables import letters_table
from tests.ui.browsing import PATIENCE_MS, Visit, Visits, chromium


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test in a browser is slow: a page takes seconds where a call takes milliseconds."""
    for item in items:
        if isinstance(item, pytest.Function) and "browser" in item.fixturenames:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    path = chromium()
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []  # the sandbox does not run as root
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens pages; an error on the console, in a script, or a request to elsewhere fails the test."""
    visits = Visits(browser)
    yield visits.visit
    visits.close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A service on a table of words."""
    with serving(FaultyEngine(letters_table())) as url:
        yield url
