"""The chain explorer on running services: runs, time, comparison, keys, errors, hostile texts, lost connections."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from service.keys import new_key
from service.settings import Settings
from tests.service.faulty import FaultyEngine
from tests.service.serving import serving, wait_until
from tests.service.tables import endless_table, letters_table
from tests.ui.browsing import PATIENCE_MS, Visit, assert_accessible, assert_no_sideways_scrolling
from tests.ui.proxying import at_a_path
from tests.ui.recordings import HOSTILE, hostile_recording, long_recording, open_recording
from tests.ui.test_shell import give_key

KEY, KEY_LINE = new_key("reader")
MOMENTS = 4 * (1 + 6)
"""Of a run with the form's own blocks and steps."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(FaultyEngine(letters_table())) as url:
        yield url


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


def test_a_run_shows_the_api_s_answer_and_steps_back(visit: Visit, url: str) -> None:
    page = visit(f"{url}/ui/")
    expect(page.locator("#model")).to_have_text("letters")
    start(page)
    finish(page)
    expect(readout(page)).to_have_text(f"moment {MOMENTS} of {MOMENTS}")
    reply = completion(url)["choices"][0]
    assert answer(page).replace("<eos>", "") == reply["text"]
    expect(page.locator(".numbers")).to_contain_text(f"log p = {reply['power']['log_p']:.2f}".replace("-", "−"))
    expect(page.locator(".verdict")).to_contain_text("24 steps accepted")
    page.get_by_role("button", name="One step back").click()
    expect(readout(page)).to_have_text(f"moment {MOMENTS - 1} of {MOMENTS}")
    expect(page.locator("#live")).to_contain_text(f"Moment {MOMENTS - 1} of {MOMENTS}. ")
    page.get_by_role("button", name="First moment").click()
    expect(page.locator(".badge")).to_have_text("→ extended")
    expect(page.locator(".panel header")).to_contain_text("stage 1 of 4")


def test_steps_arrive_while_the_chain_runs_and_a_stop_frees_the_service(visit: Visit) -> None:
    engine = FaultyEngine(endless_table(), delay_s=0.05)
    with serving(engine) as url:
        page = visit(f"{url}/ui/")
        start(page, power__steps_per_block=500)
        expect(page.locator(".tokens .t").first).to_be_visible()
        expect(readout(page)).to_have_text(re.compile("moment ([5-9]|[0-9]{2,}) of"))
        expect(page.get_by_role("button", name="Stop")).to_be_enabled()
        page.get_by_role("button", name="One step back").click()
        at, last = readout(page).inner_text().split()[1::2]
        expect(readout(page)).not_to_have_text(re.compile(f" of {last}$"))
        assert readout(page).inner_text().split()[1] == at, "who steps back stays there while more arrives"
        expect(page.get_by_label("Follow live")).not_to_be_checked()
        open_recording(page, long_recording(tokens=8, blocks=2, steps=2))
        expect(page.locator(".status")).to_contain_text("a recording of made up")
        wait_until(lambda: engine.in_flight == 0, "a file that is opened to end the run")
        expect(readout(page)).to_have_text("moment 1 of 6")
        start(page)
        expect(page.locator(".tokens .t").first).to_be_visible()
        page.get_by_role("button", name="Stop").click()
        expect(page.locator(".status .notice.warn")).to_contain_text("Stopped, after")
        wait_until(lambda: engine.in_flight == 0, "the service to free the work")
        expect(page.get_by_role("button", name="Save as JSON")).to_be_visible()


def test_two_cut_laws_run_on_the_same_seed_with_several_chains(visit: Visit, url: str) -> None:
    page = visit(f"{url}/ui/")
    page.get_by_label("Compare entropy cut").check()
    start(page, n=4, power__steps_per_block=12, power__alpha=1, seed=7)
    finish(page)
    titles = page.locator(".panel h3").all_inner_texts()
    assert titles == [f"{name} cut, chain {i}" for name in ("Entropy", "Uniform") for i in range(1, 5)]
    power = {"method": "uniform_cut", "alpha": 1, "blocks": 4, "steps_per_block": 12, "top_k": 50}
    reply = completion(url, n=4, seed=7, power=power | {"include": ["diagnostics"]})
    for choice in range(4):
        assert answer(page, 4 + choice).replace("<eos>", "") == reply["choices"][choice]["text"]
    r_hat = reply["power_diagnostics"][0]["log_pi"]["r_hat"]
    expect(page.locator(".verdict").nth(1)).to_contain_text(f"R-hat of log π {r_hat:.3f}")
    accepted = page.get_by_role("img", name="Acceptance by stage")
    assert "Uniform cut" in (accepted.get_attribute("aria-label") or "")


def test_keys_move_in_time_and_in_the_text(visit: Visit, url: str) -> None:
    page = visit(f"{url}/ui/")
    open_recording(page, long_recording(tokens=24, blocks=2, steps=4))
    free_keys(page)
    expect(readout(page)).to_have_text("moment 1 of 10")
    for key, moment in [("ArrowRight", 2), ("End", 10), ("ArrowLeft", 9), ("Home", 1), ("ArrowLeft", 1)]:
        page.keyboard.press(key)
        expect(readout(page)).to_have_text(f"moment {moment} of 10")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(readout(page)).to_have_text("moment 3 of 10")
    page.keyboard.press("Space")
    page.keyboard.press("Home")
    page.locator(".panel > .tokens").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    inspector = page.locator(".inspector")
    expect(inspector).to_contain_text("token 2 · id 5")
    for word in ("entropy", "jump Δ", "log p", "cut here"):
        expect(inspector).to_contain_text(word)
    expect(readout(page)).to_have_text("moment 1 of 10")
    page.keyboard.press("Escape")
    expect(inspector).to_be_hidden()


def test_tokens_can_be_coloured_by_four_measures(visit: Visit, url: str) -> None:
    page = visit(f"{url}/ui/")
    open_recording(page, long_recording(tokens=24, blocks=2, steps=4))
    seen = set()
    for measure in ("entropy", "jump", "surprise", "cut"):
        page.get_by_label("Colour tokens by").select_option(measure)
        seen.add(page.eval_on_selector_all(".panel > .tokens .t", "all => all.map((one) => one.className).join()"))
        expect(page.locator(".legend")).to_contain_text("%" if measure == "cut" else "nats")
    assert len(seen) == 4


def test_the_key_is_asked_for_once(visit: Visit) -> None:
    with serving(FaultyEngine(letters_table()), Settings(keys=KEY_LINE)) as url:  # type: ignore[arg-type]
        page = visit(f"{url}/ui/", refused=(401,))
        give_key(page, KEY)
        expect(page.locator("#model")).to_have_text("letters")
        page.get_by_label("Compare entropy cut").check()
        start(page)
        finish(page)
        expect(page.get_by_role("dialog")).to_have_count(0)


WRONG = {
    "power.alpha": ("0.5", "power.alpha: Input should be greater than or equal to 1"),
    "power.blocks": ("2.5", "power.blocks: "),
    "n": ("1000", "n: Input should be less than or equal to 128"),
    "max_tokens": ("-1", "max_tokens: Input should be greater than or equal to 0"),
    "seed": ("9223372036854775808", "seed: a whole number"),
}


def test_an_error_stands_at_the_field_that_it_names(visit: Visit, url: str) -> None:
    page = visit(f"{url}/ui/", refused=(422,))
    for name, (value, message) in WRONG.items():
        field, error = page.locator(f"[id='{name}']"), page.locator(f"[id='{name}-error']")
        start(page, **{name: value})
        expect(error).to_contain_text(message)
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_be_focused()
        expect(page.locator(".viewer")).to_be_hidden()
        field.fill("4")
    start(page)
    finish(page)
    for name in WRONG:
        expect(page.locator(f"[id='{name}-error']")).to_be_empty()


def test_the_bounds_are_the_service_s(visit: Visit, url: str) -> None:
    page = visit(f"{url}/ui/")
    expect(page.locator("[id='power.alpha-hint']")).to_contain_text("1–100")
    assert page.locator("[id='power.blocks']").get_attribute("max") == "256"
    expect(page.locator("[id='power.tries']")).to_be_hidden()
    page.get_by_label("Method").select_option("multiple_try")
    expect(page.locator("[id='power.tries']")).to_be_visible()
    start(page)
    finish(page)
    expect(page.locator(".panel h3")).to_have_text("Multiple try")


def test_a_lost_connection_is_said_and_the_same_seed_gives_the_same_chain(visit: Visit) -> None:
    engine = FaultyEngine(endless_table(), delay_s=0.03)  # slow, since Chromium drops what it has not handed out yet
    with serving(engine) as url, at_a_path(url, cut_after=12) as proxied:
        page = visit(f"{proxied}/ui/", tolerated=("ERR_INCOMPLETE_CHUNKED_ENCODING",))
        start(page)
        said = page.locator(".status .notice.bad")
        expect(said).to_contain_text("The connection was lost")
        expect(said).to_contain_text("of 1 chain")
        expect(page.locator(".verdict")).to_contain_text("cut off")
        arrived = int(readout(page).inner_text().split()[-1])
        assert 0 < arrived <= 14
        page.route("**/v1/completions", lambda route: forward(route, url))
        page.get_by_role("button", name="Run again with the same seed").click()
        expect(page.locator(".status .notice.good")).to_contain_text("are those that had arrived before")
        expect(readout(page)).to_have_text(f"moment {MOMENTS} of {MOMENTS}")


def forward(route: Route, url: str) -> None:
    """Answer a request of the page by the service itself, past the proxy that loses connections."""
    request = route.request
    reply = httpx.post(
        f"{url}/v1/completions", content=request.post_data or "", headers={"content-type": "application/json"}
    )
    route.fulfill(status=reply.status_code, body=reply.content, content_type="text/event-stream")


def test_a_repeated_run_says_that_it_is_the_same(visit: Visit, url: str) -> None:
    page = visit(f"{url}/ui/")
    start(page)
    finish(page)
    script = """async () => {
        const load = (name) => import(new URL(`static/explorer/${name}.js`, document.baseURI));
        const { repeats } = await load("run");
        const event = (cut) => ({ choice: 0, type: "stepped", cut, proposal: [1], accepted: false });
        const made = (...cuts) => ({ lanes: [{ request: {}, events: cuts.map(event) }] });
        return [repeats(made(1, 2), made(1, 2, 3)), repeats(made(1, 2), made(1, 3, 3))];
    }"""
    assert page.evaluate(script) == [{"compared": 2, "same": True}, {"compared": 2, "same": False}]


def hostile_table() -> dict[str, Any]:
    """A model whose every token is hostile, the longest of 200,000 characters."""
    return {"vocab": HOSTILE, "eos": [], "logits": {}, "default": [0.0] * len(HOSTILE)}


def test_what_a_hostile_model_writes_is_only_text(visit: Visit) -> None:
    with serving(FaultyEngine(hostile_table())) as url:
        page = visit(f"{url}/ui/")
        start(page, max_tokens=24, power__top_k="", prompt=HOSTILE[0])
        finish(page)
        assert page.title() == "Chain explorer · powercut"
        assert page.locator(".viewer script, .viewer img").count() == 0
        assert page.locator(".tokens").first.evaluate("(one) => getComputedStyle(one).unicodeBidi") == "isolate"
        assert_accessible(page)
        assert_no_sideways_scrolling(page)


def test_a_hostile_recording_is_only_text_and_long_tokens_show_on_demand(visit: Visit, url: str) -> None:
    page = visit(f"{url}/ui/", width=375)
    open_recording(page, hostile_recording())
    text = answer(page)
    for shown in (HOSTILE[0], HOSTILE[1], HOSTILE[2], "⟨U+202E⟩esrever", "שלום", "👩‍👩‍👧‍👦", "␀␇␛[31m", "␍↵"):
        assert shown in text
    assert len(text) < 2000, "the token of 200,000 characters is clipped"
    expect(page.locator(".prompt")).to_contain_text(HOSTILE[1])
    page.locator(".panel > .tokens .clipped").click()
    whole = page.get_by_role("dialog")
    expect(whole).to_contain_text("200,000 characters")
    assert whole.locator("pre").evaluate("(one) => one.textContent.length") == 200_000
    page.get_by_role("button", name="Close").click()
    free_keys(page)
    page.keyboard.press("End")
    expect(page.locator(".badge")).to_have_text("⊣ rejected early")
    expect(page.locator(".stop")).to_contain_text("stopped here, after 11 tokens")
    assert_no_sideways_scrolling(page)


BROKEN = [
    ("{", "not JSON"),
    ('{"a": 1}', "no powercut_recording"),
    ('{"powercut_recording": 2}', "version 2; this page reads version 1"),
    ('{"powercut_recording": 1, "lanes": []}', "one to eight lanes"),
]


def test_a_file_that_is_no_recording_is_refused_in_words(visit: Visit, url: str) -> None:
    page = visit(f"{url}/ui/")
    for text, message in BROKEN:
        open_recording(page, text)
        expect(page.locator(".form > .error")).to_contain_text(message)
        expect(page.locator(".viewer")).to_be_hidden()


CHANGES = {
    "type": "stumbled",
    "cut": 99,
    "proposal": [1.5],
    "tokens": {"start": 0, "text_start": 0, "text": [], "log_p": [], "log_z": [], "entropy": []},
    "choice": 3,
}


def test_a_recording_with_a_broken_event_is_refused_and_named(visit: Visit, url: str) -> None:
    page = visit(f"{url}/ui/")
    for field, value in CHANGES.items():
        made = long_recording(tokens=8, blocks=2, steps=2)
        made["lanes"][0]["events"][2][field] = value
        open_recording(page, made)
        expect(page.locator(".form > .error")).to_contain_text("lane 1, event 3")
        expect(page.locator(".viewer")).to_be_hidden()
    open_recording(page, long_recording(tokens=8, blocks=2, steps=2))
    expect(page.locator(".form > .error")).to_be_empty()
    expect(readout(page)).to_have_text("moment 1 of 6")


def test_a_recording_can_be_dropped_on_the_page(visit: Visit, url: str) -> None:
    page = visit(f"{url}/ui/")
    script = """(text) => {
        const files = new DataTransfer();
        files.items.add(new File([text], "dropped.json"));
        const given = { dataTransfer: files, bubbles: true, cancelable: true };
        document.body.dispatchEvent(new DragEvent("dragover", given));
        document.body.dispatchEvent(new DragEvent("drop", given));
    }"""
    page.evaluate(script, json.dumps(long_recording(tokens=8, blocks=2, steps=2)))
    expect(page.locator(".status")).to_contain_text("dropped.json: a recording of made up, 4 steps of 1 chain")


def test_a_step_of_a_long_chain_touches_its_suffix_only(visit: Visit, url: str) -> None:
    """3,072 tokens; `python -m tests.bench.page` measures what that costs, with 160 steps."""
    page = visit(f"{url}/ui/")
    made = long_recording(steps=2)
    open_recording(page, made)
    free_keys(page)
    page.keyboard.press("End")
    expect(readout(page)).to_have_text("moment 48 of 48")
    step = made["lanes"][0]["events"][-1]
    assert page.locator(".panel > .tokens .t").count() == 3072
    script = """() => {
        window.touched = new Set();
        const watch = (records) => records.forEach((one) => window.touched.add(one.target));
        const options = { childList: true, subtree: true, attributes: true, characterData: true };
        new MutationObserver(watch).observe(document.querySelector(".panel > .tokens"), options);
    }"""
    page.evaluate(script)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    before = made["lanes"][0]["events"][-2]
    most = 3072 - min(step["cut"], before["cut"]) + 2
    touched = page.evaluate("window.touched.size")
    assert 0 < touched <= 2 * most, "an element, and the text in it"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_kind_of_step_is_accessible_and_fits_a_phone(visit: Visit, url: str, dark: bool) -> None:
    page = visit(f"{url}/ui/", dark=dark, width=375)
    open_recording(page, long_recording(tokens=24, blocks=2, steps=4))
    free_keys(page)
    seen = set()
    for _ in range(10):
        seen.add(page.locator(".badge").inner_text())
        if len(seen) < 4 or page.locator(".badge").inner_text() not in seen:
            assert_no_sideways_scrolling(page)
        page.keyboard.press("ArrowRight")
    assert {"→ extended", "✓ accepted", "✗ rejected"} <= seen
    for measure in ("entropy", "cut"):
        page.get_by_label("Colour tokens by").select_option(measure)
        assert_accessible(page)
