"""What tests do on the page of the analyses."""

from typing import Any

from playwright.sync_api import Page, expect

from tests.ui.browsing import Visit


def open_at(visit: Visit, url: str, name: str, **how: Any) -> Page:
    """The page with an analysis chosen and its fields told; `how` as for `visit`."""
    page = visit(f"{url}/ui/analysis#{name}", **how)
    settled(page, name)
    return page


def settled(page: Page, name: str) -> None:
    """Wait until the page shows an analysis."""
    expect(page.get_by_role("heading", level=2)).to_have_text(name)
    expect(page.locator("#fields dl").first).to_be_attached()


def run(page: Page) -> None:
    """Run what stands in the editor, until its picture is there."""
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#fault")).to_be_empty()
    expect(page.get_by_role("figure").get_by_role("img")).to_be_visible()


def write(page: Page, text: str) -> None:
    """Put a request into the editor."""
    page.get_by_role("textbox", name="Request").fill(text)


def copied(page: Page, form: str) -> str:
    """The call in one of its forms, as the clipboard has it."""
    page.get_by_label(form, exact=True).check()
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copied")).to_have_text("Copied")
    return page.evaluate("navigator.clipboard.readText()")
