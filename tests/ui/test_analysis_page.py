"""The page of the analyses, in Chromium on the running service: examples, pictures, refusals, and how it is used."""

import io
import json
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from PIL import Image
from playwright.sync_api import Page, Request, expect

from service.analysis import ANALYSES
from service.app import create_app
from service.settings import Settings
from tests.analysis.conftest import PATIENCE_S
from tests.service.faulty import FaultyEngine
from tests.service.serving import serving_app, wait_until
from tests.service.tables import letters_table
from tests.ui.analysis_page import open_at, run, settled, write
from tests.ui.browsing import Visit, assert_accessible, assert_no_sideways_scrolling

LONG = {"mode": "simulate", "input_dim": 64, "num_facts": 1500, "trials": 1000, "seed": 0}
"""For associative-memory: a minute or more, so that what ends sooner was cancelled."""


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app(FaultyEngine(letters_table()), Settings(analysis_time_limit_s=PATIENCE_S))


@pytest.fixture(scope="module")
def url(app: FastAPI) -> Iterator[str]:
    with serving_app(app) as url:
        yield url


def calls(page: Page) -> list[Request]:
    """The requests to analyses that the page sends from now on."""
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if "/v1/analysis/" in request.url else None)
    return sent


# Running.


QUICK = [one.name for one in ANALYSES.values() if not one.job_only and not one.own_process]


def check_example(page: Page, name: str, sent: list[Request]) -> None:
    """The example of the analysis that the page shows runs as it is, and its reply and picture appear."""
    run(page)
    expect(page.locator("#status")).to_contain_text("Done in")
    picture = page.get_by_role("figure").get_by_role("img")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
    told = picture.get_attribute("alt") or ""
    assert told.startswith(f"Plot of {name}: ")
    assert len(told) > len(name) + 30, "it says what is on the axes"
    expect(page.get_by_role("rowheader", name="method").first).to_be_visible()
    reply = json.loads(page.locator("#reply pre.json").text_content() or "")
    assert ANALYSES[name].response.model_validate(reply)
    assert len(sent) == 2, "one for the reply, one for its picture"
    assert json.loads(sent[0].post_data or "") == ANALYSES[name].example
    assert page.locator("#reply .notice").count() == len(reply["warnings"])


def test_every_example_runs_as_it_is_and_shows_its_picture(visit: Visit, url: str, subtests: pytest.Subtests) -> None:
    page = open_at(visit, url, QUICK[0])
    sent = calls(page)
    for name in QUICK:
        with subtests.test(name=name):
            page.evaluate("name => { location.hash = name; }", name)
            settled(page, name)
            check_example(page, name, sent)
        sent.clear()


@pytest.mark.slow
def test_the_example_that_starts_a_process_with_torch_runs_too(visit: Visit, url: str) -> None:
    page = open_at(visit, url, "optimizer-convergence/torch-muon")
    check_example(page, "optimizer-convergence/torch-muon", calls(page))


def test_the_picture_is_of_the_run_whose_reply_is_shown(visit: Visit, url: str) -> None:
    page = open_at(visit, url, "pac-bayes-bounds")
    assert "seed" not in ANALYSES["pac-bayes-bounds"].example
    with page.expect_response(lambda reply: reply.headers["content-type"] == "image/png") as drawn:
        run(page)
    seed = json.loads(page.locator("#reply pre.json").text_content() or "")["seed"]
    assert Image.open(io.BytesIO(drawn.value.body())).info["Comment"] == f"seed {seed}"
    expect(page.locator("#caption")).to_contain_text(f"seed {seed}")


def test_a_private_release_is_paid_for_once(visit: Visit, url: str) -> None:
    page = open_at(visit, url, "private-subspace")
    example = {name: value for name, value in ANALYSES["private-subspace"].example.items() if name != "seed"}
    write(page, json.dumps({**example, "unsafe_debug": False, "dataset_id": "paid-once"}))
    sent = calls(page)
    run(page)
    reply = json.loads(page.locator("#reply pre.json").text_content() or "")
    first, second = (json.loads(one.post_data or "") for one in sent)
    assert reply["private"]
    assert "release_id" not in first
    assert second == {**first, "release_id": reply["release_id"]}
    assert reply["privacy"]["budget_remaining"]["epsilon"] == pytest.approx(2.0)


def test_the_request_is_sent_as_it_is_written(visit: Visit, url: str) -> None:
    page = open_at(visit, url, "memorisation-convergence")
    text = '{"mode": "theory",  "spikes": [2.50], "seed": 9007199254740993}\n'  # a double cannot hold this seed
    write(page, text)
    sent = calls(page)
    run(page)
    assert [one.post_data for one in sent] == [text, text]
    expect(page.locator("#caption")).to_contain_text("seed 9007199254740993")


# What is refused.


def test_an_error_names_the_field_and_shows_where_it_stands(visit: Visit, url: str) -> None:
    page = open_at(visit, url, "optimizer-convergence", refused=(422,))
    write(page, '{"seed": 1, "schedule": {"type": "power", "exponent": -2}, "objective": {"type": "diagonal_abs"}}')
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#fault")).to_contain_text("exponent: ")
    editor = page.get_by_role("textbox", name="Request")
    expect(editor).to_be_focused()
    expect(editor).to_have_attribute("aria-invalid", "true")
    assert editor.evaluate("e => e.value.slice(e.selectionStart, e.selectionEnd)") == '"exponent"'
    page.keyboard.press("End")
    page.keyboard.type(" ")
    expect(page.locator("#fault")).to_be_empty()


def test_what_is_no_object_is_not_sent(visit: Visit, url: str) -> None:
    page = open_at(visit, url, "pac-bayes-bounds")
    sent = calls(page)
    for text in ('{"n": 30,', "[1, 2]", "", "NaN"):
        write(page, text)
        expect(page.locator("#no-call")).to_be_visible()
        page.get_by_role("button", name="Run").click()
        expect(page.locator("#fault")).to_contain_text("The request ")
        page.get_by_role("button", name="Back to the example").click()
        expect(page.locator("#snippet")).to_be_visible()
        expect(page.locator("#fault")).to_be_empty()
    assert not sent


def test_cancelling_frees_the_worker(visit: Visit, app: FastAPI, url: str) -> None:
    page = open_at(visit, url, "associative-memory")
    write(page, json.dumps(LONG))
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#status")).to_have_text("Running …")
    wait_until(lambda: app.state.analyst.running == 1, "the analysis to run")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#status")).to_have_text("Cancelled.")
    wait_until(lambda: app.state.analyst.running == 0, "its worker to be freed")
    expect(page.get_by_role("button", name="Run")).to_be_enabled()


def test_choosing_another_analysis_ends_the_one_that_runs(visit: Visit, app: FastAPI, url: str) -> None:
    page = open_at(visit, url, "associative-memory")
    write(page, json.dumps(LONG))
    page.get_by_role("button", name="Run").click()
    wait_until(lambda: app.state.analyst.running == 1, "the analysis to run")
    page.get_by_role("link", name="benchmark-bounds").click()
    settled(page, "benchmark-bounds")
    wait_until(lambda: app.state.analyst.running == 0, "its worker to be freed")
    expect(page.locator("#status")).to_be_empty()
    run(page)


# How it is used.


def test_it_is_used_by_keyboard_alone(visit: Visit, url: str) -> None:
    page = open_at(visit, url, "pac-bayes-bounds")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    link = page.get_by_role("link", name="memorisation-convergence")
    for _ in range(len(ANALYSES)):
        page.keyboard.press("Tab")
        if link.evaluate("link => link === document.activeElement"):
            break
    page.keyboard.press("Enter")
    settled(page, "memorisation-convergence")
    for _ in range(2):
        page.keyboard.press("Tab")  # the paper, then the editor
    expect(page.get_by_role("textbox", name="Request")).to_be_focused()
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("figure").get_by_role("img")).to_be_visible()
    page.get_by_label("curl", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#snippet")).to_contain_text("Accept: image/png")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#snippet")).to_contain_text("import httpx")


def test_the_chosen_analysis_is_in_the_address(visit: Visit, url: str) -> None:
    page = open_at(visit, url, "benchmark-bounds")
    page.get_by_role("link", name="positive-query-learning/certificate").click()
    settled(page, "positive-query-learning/certificate")
    expect(page.locator("[aria-current=true]")).to_have_text("positive-query-learning/certificate")
    page.reload()
    settled(page, "positive-query-learning/certificate")
    page.go_back()
    settled(page, "benchmark-bounds")


def test_a_reply_is_accessible_and_fits_any_window(visit: Visit, url: str) -> None:
    page = open_at(visit, url, "benchmark-bounds")
    run(page)
    page.get_by_text("Fields of the request").click()
    page.get_by_text("The reply as JSON").click()
    for width in (1280, 375):
        page.set_viewport_size({"width": width, "height": 800})
        assert_no_sideways_scrolling(page)
        if width == 375:
            page.get_by_text("Analysis: ").click()  # the list is folded
            expect(page.get_by_role("link", name="private-subspace")).to_be_visible()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert_accessible(page)
    assert_no_sideways_scrolling(page)


def test_a_refusal_is_accessible(visit: Visit, url: str) -> None:
    page = open_at(visit, url, "pac-bayes-bounds", refused=(422,))
    write(page, '{"n": -1}')
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#fault")).to_contain_text("n: ")
    assert_accessible(page)


def test_fields_are_told_with_their_bounds(visit: Visit, url: str) -> None:
    page = open_at(visit, url, "optimizer-convergence")
    page.get_by_text("Fields of the request").click()
    told = page.locator("#fields").inner_text()
    assert "momentum number at least 0, below 1" in told
    assert "steps whole number from 1 to 200000" in told
    assert 'type: "warmup_power"' in told
