"""Texts and files that nobody vouches for, on the explorer's page: shown as text, or refused in words."""

import json
from typing import Any

from playwright.sync_api import expect

from tests.service.faulty import FaultyEngine
from tests.service.serving import serving
from tests.ui.browsing import Visit, assert_accessible, assert_no_sideways_scrolling
from tests.ui.explorer_page import answer, finish, free_keys, readout, start
from tests.ui.recordings import HOSTILE, hostile_recording, long_recording, open_recording


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
