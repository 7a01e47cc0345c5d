"""Files that are no good recording: refused in words, and what was shown before is shown still."""

import copy
import json
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, expect

from tests.ui.browsing import Visit
from tests.ui.explorer_page import answer, readout
from tests.ui.recordings import long_recording, open_recording

Change = Callable[[dict[str, Any]], Any]
"""Makes a good recording a bad one, in place."""


def good() -> dict[str, Any]:
    """A recording of one chain of 24 tokens, with all that a finished run has."""
    made = long_recording(tokens=24, blocks=2, steps=4)
    lane = made["lanes"][0]
    lane["final"]["choices"] = [{"index": 0, "text": "x", "power": {"ended_by": "completed", "log_p": -1.0}}]
    counts = {"accepted": 1, "steps": 8, "moved": 1, "generated_tokens": 50, "free_tokens": 2, "cost_ratio": 2.0}
    lane["final"]["usage"] = {"power": counts}
    return made


def event(**fields: Any) -> Change:
    """Changes the third event, which is a step."""
    return lambda made: made["lanes"][0]["events"][2].update(fields)


def request(**fields: Any) -> Change:
    """Changes the lane's request."""
    return lambda made: made["lanes"][0].update(request=made["lanes"][0]["request"] | fields)


def final(**fields: Any) -> Change:
    """Changes how the lane ended."""
    return lambda made: made["lanes"][0]["final"].update(fields)


def choice(**fields: Any) -> Change:
    """Changes the answer."""
    return lambda made: made["lanes"][0]["final"]["choices"][0].update(fields)


CHAINS = {"chains": 2, "distinct_answers": 2, "reason": "x", "log_pi": {"r_hat": 1.0, "ess_bulk": 9.0}}
BAD: dict[str, tuple[Change, str]] = {
    "a chain of another kind": (event(choice="__proto__"), "event 3: it belongs to no chain"),
    "stages without end": (event(stages=300_000_000), "event 3: stages is too large"),
    "a stage after the last": (event(stage=3), "event 3: stage is too large"),
    "a cut far beyond": (event(dropped=1, cut=30_000_000), "event 3: cut is too large"),
    "a step that is no number": (event(step="<b>"), "event 3: step is no number"),
    "dropped as a text": (event(dropped="1"), "event 3: dropped is no number"),
    "log p as a text": (event(log_p="−1"), "event 3: log_p is no number"),
    "an endless log p": (event(log_p=1e300), "event 3: log_p is no number"),
    "log u as a list": (event(log_u=[]), "event 3: log_u is no number"),
    "a start elsewhere": (lambda made: made["lanes"][0]["events"][0]["tokens"].update(start=99), "start is too large"),
    "a name of another kind": (
        lambda made: made["lanes"][0]["events"][2]["tokens"].update(names={"6": {}}),
        "event 3: a name is no text",
    ),
    "max_tokens as a word": (request(max_tokens="many"), "lane 1 has an impossible max_tokens"),
    "a seed as a list": (request(seed=[1]), "lane 1 has an impossible seed"),
    "alpha beyond numbers": (request(power={"method": "entropy_cut", "alpha": 10**30}), "that is no number"),
    "no request of its own": (lambda made: made.pop("request"), "it has no request"),
    "no model": (lambda made: made.pop("model"), "it names no model"),
    "diagnostics without R-hat": (final(diagnostics={"chains": 2}), "lane 1 has broken diagnostics"),
    "R-hat as a text": (final(diagnostics=CHAINS | {"log_pi": {"r_hat": "1"}}), "lane 1 has broken diagnostics"),
    "usage without counts": (final(usage={"power": {}}), "lane 1 has broken usage"),
    "an answer without an end": (choice(power={}), "lane 1 has a broken answer"),
    "an answer of another chain": (choice(index="__proto__"), "lane 1 has a broken answer"),
    "more answers than chains": (final(choices=[None] * 9), "lane 1 has a broken answer"),
}


def test_files_that_would_break_the_page_are_refused_in_words(visit: Visit, url: str) -> None:
    page = visit(f"{url}/ui/")
    open_recording(page, good())
    expect(readout(page)).to_have_text("moment 1 of 10")
    page.get_by_role("button", name="One step on").click()
    shown = answer(page)
    error = page.locator(".form > .error")
    for name, (change, message) in BAD.items():
        made = copy.deepcopy(good())
        change(made)
        open_recording(page, made, f"{name}.json")
        expect(error, name).to_contain_text(message)
    assert (answer(page), readout(page).inner_text()) == (shown, "moment 2 of 10")
    assert page.evaluate("Object.keys(Array.prototype).length + Object.keys(Object.prototype).length") == 0
    open_recording(page, good())
    expect(error).to_be_empty()
    expect(readout(page)).to_have_text("moment 1 of 10")


SMALL_AND_HUGE = """async () => {
    const load = (name) => import(new URL(`static/explorer/${name}.js`, document.baseURI));
    const { Replay } = await load("replay");
    const place = { choice: 0, stage: 1, stages: 1, generated_tokens: 1 };
    const replay = new Replay({ request: {}, final: { choices: [] } });
    replay.push({ ...place, type: "extended", ids: [1, 2] });
    const step = { ...place, type: "stepped", dropped: 1, cut: 130_000, proposal: [1], moved: true };
    try {
        for (let i = 0; i < 2000; i += 1) replay.push(step);
    } catch (error) {
        return [error.message, replay.count > 500];
    }
    return null;
}"""


def test_a_small_file_cannot_fill_the_memory(visit: Visit, url: str) -> None:
    found = visit(f"{url}/ui/").evaluate(SMALL_AND_HUGE)
    assert found == ["the traces are more than this page can hold", True]


MANY_MOMENTS = """async () => {
    const { Acceptance, LogPi } = await import(new URL("static/explorer/figures.js", document.baseURI));
    const frame = { kind: "kept", stage: 1, stages: 2, logP: -1 };
    const lane = { method: "entropy_cut", request: { temperature: 2, power: {} } };
    const chains = [{ lane, choice: 0, frames: new Array(150_000).fill(frame) }];
    return [new LogPi(), new Acceptance()].map((figure) => {
        figure.update(chains);
        return figure.drawing.getAttribute("aria-label");
    });
}"""


def test_more_moments_than_a_call_can_have_arguments_are_drawn(visit: Visit, url: str) -> None:
    log_pi, acceptance = visit(f"{url}/ui/").evaluate(MANY_MOMENTS)
    assert log_pi == "log π. Entropy cut is at −0.5 nats.", "α is 1 / temperature"
    assert acceptance == "Acceptance by stage. Entropy cut: – accepted."


def fail_to_read(page: Page) -> None:
    """As Chromium does where a file has been removed since it was chosen."""
    script = 'Blob.prototype.text = () => Promise.reject(new DOMException("it is gone", "NotFoundError"))'
    page.evaluate(f"() => {{ {script}; }}")


def test_a_file_that_has_vanished_is_said(visit: Visit, url: str) -> None:
    page = visit(f"{url}/ui/")
    open_recording(page, good())
    expect(readout(page)).to_have_text("moment 1 of 10")
    fail_to_read(page)
    open_recording(page, good(), "gone.json")
    expect(page.locator(".form > .error")).to_have_text("gone.json cannot be shown: it is gone")
    expect(readout(page)).to_have_text("moment 1 of 10")


RESTORED = """async (text) => {
    const load = (name) => import(new URL(`static/explorer/${name}.js`, document.baseURI));
    const [{ Viewer }, { fromJson }] = [await load("viewer"), await load("recording")];
    const viewer = new Viewer(() => {});
    document.body.append(viewer.element);
    const bad = fromJson(text);
    bad.lanes[0].final.usage = { power: { get steps() { throw new Error("a fault of the page"); } } };
    const tried = (recording) => {
        try {
            viewer.open(recording, { atStart: true });
        } catch (error) {
            return [error.message, viewer.element.hidden, viewer.timeline.moment, viewer.recording?.model ?? null];
        }
        return null;
    };
    const first = tried({ ...bad, model: "bad" });
    viewer.open(fromJson(text), { atStart: true });
    viewer.timeline.go(3);
    const second = tried({ ...bad, model: "bad" });
    return [first, second, viewer.element.querySelector(".readout").textContent];
}"""


def test_a_fault_in_showing_one_recording_leaves_the_one_before_in_place(visit: Visit, url: str) -> None:
    first, second, where = visit(f"{url}/ui/").evaluate(RESTORED, json.dumps(good()))
    assert first == ["a fault of the page", True, 0, None]
    assert second == ["a fault of the page", False, 3, "made up"]
    assert where == "moment 4 of 10"
