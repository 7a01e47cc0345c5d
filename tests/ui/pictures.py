"""`python -m tests.ui.pictures`: the two pictures of the chain explorer in the README and in docs/explorer.md.

The default model runs with a fixed seed, so the pictures show the same chain each time: in the light one both cut laws
on the same seed, in the dark one four chains and R-hat.
"""

import argparse
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from sampler.engine import EngineOptions, load_engine
from tests.service.serving import ROOT, serving
from tests.ui.browsing import chromium

FOLDER = ROOT / "docs" / "pictures"
PROMPT = "The best way to learn a language is"
WAIT_MS = 300_000
WIDTH = 1280
MARGIN = 8
COLOURS = 256
"""Of a picture: enough for text on tints, in a third of the bytes."""


def run(browser: Browser, url: str, *, dark: bool, compare: bool, **fields: Any) -> Page:
    """The page after a run."""
    scheme = "dark" if dark else "light"
    page = browser.new_page(color_scheme=scheme, viewport={"width": WIDTH, "height": 900}, reduced_motion="reduce")
    page.set_default_timeout(WAIT_MS)
    page.goto(f"{url}/ui/")
    for name, value in {"prompt": PROMPT, **fields}.items():
        page.locator(f"[id='{name}']").fill(str(value))
    if compare:
        page.get_by_label("Compare entropy cut").check()
    page.get_by_role("button", name="Run", exact=True).click()
    page.locator(".status .notice.good").wait_for()
    page.evaluate("document.activeElement.blur()")
    return page


def go_back_to(page: Page, *outcomes: str) -> None:
    """To the last moment at which the first chains have these outcomes."""
    while page.locator(".readout").inner_text().split()[1] != "1":
        found = [text.split(" ", 1)[1] for text in page.locator(".badge").all_inner_texts()]
        if tuple(found[: len(outcomes)]) == outcomes:
            return
        page.keyboard.press("ArrowLeft")


def picture(page: Page, path: Path) -> None:
    """The viewer, without the form above it."""
    box = page.locator(".viewer").bounding_box()
    assert box is not None
    top = box["y"] + page.evaluate("window.scrollY") - MARGIN
    clip: Any = {"x": 0, "y": top, "width": WIDTH, "height": box["height"] + 2 * MARGIN}
    page.screenshot(path=path, full_page=True, clip=clip)
    with Image.open(path) as taken:
        reduced = taken.convert("RGB").quantize(
            COLOURS, Image.Quantize.MAXCOVERAGE
        )  # rare colours are lines of the pictures
    reduced.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Make both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--only", choices=["light", "dark"])
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    engine = load_engine("transformers", EngineOptions())
    with serving(engine) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        if options.only != "dark":
            page = run(browser, url, dark=False, compare=True)
            go_back_to(page, "accepted", "rejected early")
            picture(page, folder / "explorer-light.png")
        if options.only != "light":
            page = run(browser, url, dark=True, compare=False, n=4)
            page.get_by_label("Colour tokens by").select_option("jump")
            go_back_to(page, "accepted")
            picture(page, folder / "explorer-dark.png")
        browser.close()


if __name__ == "__main__":
    main()
