"""`python -m tests.bench.page`: what a step costs in the chain explorer, in milliseconds of Chromium's own accounts.

A recording of 3,072 tokens and 160 steps is opened from a file and walked through with the arrow key. Then the same
events arrive one by one, as from a running service. Reported of each step: scripting, style and layout.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tests.service.faulty import FaultyEngine
from tests.service.serving import serving
from tests.service.tables import endless_table
from tests.ui.browsing import chromium
from tests.ui.recordings import long_recording

ACCOUNTS = {"scripting": "ScriptDuration", "style": "RecalcStyleDuration", "layout": "LayoutDuration"}
LIVE = """async (recording) => {
  const load = (name) => import(new URL(`static/explorer/${name}.js`, document.baseURI));
  const { Viewer } = await load("viewer");
  const lane = recording.lanes[0];
  const viewer = new Viewer(() => {});
  document.getElementById("explorer").append(viewer.element);
  globalThis.waiting = lane.events;
  Object.assign(lane, { events: [], status: "running" });
  viewer.open(recording);
  globalThis.next = () => { viewer.push(0, globalThis.waiting.shift()); return new Promise(requestAnimationFrame); };
}"""


def accounts(session: Any) -> dict[str, float]:
    """Milliseconds so far of each kind of work."""
    found = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    return {name: 1000 * found[metric] for name, metric in ACCOUNTS.items()}


def busy(session: Any) -> float:
    """Milliseconds that the main thread has worked so far, at whatever."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(1000 * each["value"] for each in metrics if each["name"] == "TaskDuration")


def walk(page: Page, session: Any, steps: int, step: Callable[[], Any]) -> list[dict[str, float]]:
    """The cost of each of so many steps."""
    costs: list[dict[str, float]] = []
    for _ in range(steps):
        before = accounts(session)
        step()
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        after = accounts(session)
        costs.append({name: after[name] - before[name] for name in ACCOUNTS})
    return costs


def tell(what: str, costs: list[dict[str, float]]) -> None:
    """A line for each kind of work."""
    for name in ACCOUNTS:
        values = sorted(cost[name] for cost in costs)
        worst, median = values[-1], statistics.median(values)
        print(f"{what:34} {name:10} median {median:6.1f} ms   worst {worst:6.1f} ms   of {len(values)} steps")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=3072)
    parser.add_argument("--blocks", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    made = long_recording(options.tokens, options.blocks, options.steps)
    moments = options.blocks * (options.steps + 1)
    with serving(FaultyEngine(endless_table())) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{url}/ui/")
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})  # its own time, whatever else runs here
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "long.json"
            path.write_text(json.dumps(made))
            before = busy(session)
            page.locator("#file").set_input_files(path)
            page.locator(".panel .t").first.wait_for()
            print(f"opening {path.stat().st_size / 1e6:.0f} MB: {busy(session) - before:.0f} ms of the main thread")
        page.evaluate("document.activeElement.blur()")
        tell("stepping with the arrow key", walk(page, session, moments - 1, lambda: page.keyboard.press("ArrowRight")))
        page.reload()
        page.evaluate(LIVE, made)
        tell("events arriving", walk(page, session, moments, lambda: page.evaluate("next()")))
        browser.close()


if __name__ == "__main__":
    main()
