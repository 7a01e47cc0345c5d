"""What a reader does on the explorer's page, and what the service says of the same run."""

from typing import Any

import httpx
from playwright.sync_api import Page, expect

from tests.ui.browsing import PATIENCE_MS

MOMENTS = 4 * (1 + 6)
"""Of a run with the form's own blocks and steps."""


def start(page: Page, **fields: Any) -> None:
    """Fill the form's fields, by the API's names, and run."""
    for name, value in fields.items():
        page.locator(f"[id='{name.replace('__', '.')}']").fill(str(value))
    page.get_by_role("button", name="Run", exact=True).click()


def finish(page: Page, patience_ms: float = PATIENCE_MS) -> None:
    """Wait for the end of a run that goes well."""
    expect(page.locator(".status .notice.good")).to_contain_text("Finished", timeout=patience_ms)


def answer(page: Page, panel: int = 0) -> str:
    """The text of a chain's answer as it is shown."""
    return page.locator(".panel").nth(panel).locator("> .tokens").inner_text()


def readout(page: Page) -> Any:
    """Where in time the page is."""
    return page.locator(".readout")


def free_keys(page: Page) -> None:
    """Leave whatever control has the focus."""
    page.evaluate("document.activeElement.blur()")


def completion(url: str, steps: int = 6, **fields: Any) -> dict[str, Any]:
    """The API's own answer to what the form asks by itself."""
    power = {"method": "entropy_cut", "alpha": 4, "cut_power": 4, "blocks": 4, "steps_per_block": steps, "top_k": 50}
    body = {"model": "letters", "prompt": "The capital of France is", "max_tokens": 48, "seed": 1, "power": power}
    reply = httpx.post(f"{url}/v1/completions", json=body | fields, timeout=300)
    assert reply.status_code == 200, reply.text
    return reply.json()
