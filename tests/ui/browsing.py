"""What a test sees of a page in Chromium, and what it lets pass."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

PATIENCE_MS = 90_000
"""Far longer than anything takes; only a failing test waits so long."""
GONE = "net::ERR_CONNECTION_REFUSED"
"""Of a service that a test has ended while its page still loads something; one that runs refuses nobody."""
SERIOUS = {"serious", "critical"}
Visit = Callable[..., Page]
"""What the fixture `visit` is; see `Visits.visit`."""


def chromium() -> str:
    """The path of Chromium; without one the test is skipped, but fails in CI, where it must run."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("CI must test the pages, and there is no chromium")
        pytest.skip("there is no chromium on this machine (apt install chromium)")
    return path


@dataclass
class Visits:
    """The pages that a test opens, and what went wrong in them.

    Attributes:
        browser: Where they open.
        faults: What the console, the scripts and the network complained of.
    """

    browser: Browser
    faults: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def visit(
        self,
        url: str,
        *,
        dark: bool = False,
        width: int = 1280,
        height: int = 800,
        refused: tuple[int, ...] = (),
        tolerated: tuple[str, ...] = (),
        **context: Any,
    ) -> Page:
        """A page in a browser profile of its own, loaded.

        Args:
            url: Of the page; requests to any other origin are faults.
            dark: The colour scheme that the system prefers.
            width: Of the window, in CSS pixels.
            height: Of the window, in CSS pixels.
            refused: Statuses that the test provokes, which Chromium notes on the console.
            tolerated: Parts of other messages on the console that the test provokes.
            **context: More of Playwright's `new_context`, as `accept_downloads`.
        """
        scheme = "dark" if dark else "light"
        size: Any = {"width": width, "height": height}
        opened = self.browser.new_context(color_scheme=scheme, viewport=size, reduced_motion="reduce", **context)
        self.contexts.append(opened)
        opened.set_default_timeout(PATIENCE_MS)
        page = opened.new_page()
        provoked = [*(f"responded with a status of {status} " for status in refused), *tolerated, GONE]
        self._watch(page, urlsplit(url).netloc, provoked)
        page.goto(url)
        return page

    def close(self) -> None:
        """Close all; a fault fails the test."""
        for context in self.contexts:
            context.close()
        assert not self.faults, self.faults

    def _watch(self, page: Page, netloc: str, tolerated: Sequence[str]) -> None:
        def hear(message: ConsoleMessage) -> None:
            provoked = any(part in message.text for part in tolerated)
            if message.type in {"error", "warning"} and not provoked:
                self.faults.append(f"console: {message.text} at {message.location}")

        def see(request: Request) -> None:
            address = urlsplit(request.url)
            if address.scheme not in {"data", "blob"} and address.netloc != netloc:
                self.faults.append(f"a request left the origin: {request.url}")

        page.on("console", hear)
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        page.on("request", see)


def assert_accessible(page: Page) -> None:
    """Serious and critical findings of axe-core fail, with the rule and the elements."""
    found = Axe().run(page).response["violations"]
    told = [
        (one["id"], one["help"], [node["html"] for node in one["nodes"]]) for one in found if one["impact"] in SERIOUS
    ]
    assert not told, told


def assert_no_sideways_scrolling(page: Page) -> None:
    """The page is no wider than its window."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{wide} px wider than the window"
