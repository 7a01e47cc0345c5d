"""The chain explorer on running services: runs, time, comparison, keys, errors, hostile texts, lost connections."""

import re

import httpx
import pytest
from playwright.sync_api import Route, expect

from service.keys import new_key
from service.settings import Settings
from tests.service.faulty import FaultyEngine
from tests.service.serving import serving, wait_until
from tests.service.tables import endless_table, letters_table
from tests.ui.browsing import Visit, assert_accessible, assert_no_sideways_scrolling
from tests.ui.explorer_page import MOMENTS, answer, completion, finish, free_keys, readout, start
from tests.ui.proxying import at_a_path
from tests.ui.recordings import long_recording, open_recording
from tests.ui.test_shell import give_key

KEY, KEY_LINE = new_key("reader")


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
    expect(readout(page)).to_have_text(re.compile(r"moment ([3-9]|10) of 10"))
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
