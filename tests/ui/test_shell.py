"""The frame of the pages: headers, addresses, colours, keys and streams, in Chromium on the running service."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from sampler.errors import EngineError
from service.keys import new_key
from service.settings import Settings
from tests.service.faulty import FaultyEngine
from tests.service.serving import serving
from tests.service.tables import letters_table
from tests.ui.browsing import Visit, assert_accessible, assert_no_sideways_scrolling
from tests.ui.proxying import at_a_path

KEY, KEY_LINE = new_key("reader")
PAGES = ["/ui/", "/ui/analysis", "/ui/api"]
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@pytest.fixture(scope="module")
def keyed_url() -> Iterator[str]:
    with serving(FaultyEngine(letters_table()), Settings(keys=KEY_LINE)) as url:  # type: ignore[arg-type]
        yield url


def run(page: Page, script: str) -> Any:
    """The value of a script in the page, which may await and has the session's module."""
    imported = "const session = await import(new URL('static/session.js', document.baseURI));"
    return page.evaluate(f"(async () => {{ {imported} {script} }})()")


def give_key(page: Page, key: str) -> None:
    """Answer the dialog."""
    page.get_by_role("dialog").get_by_label("Key").fill(key)
    page.get_by_role("button", name="Use this key").click()


# What is sent.


@pytest.mark.parametrize(
    "path", [*PAGES, "/ui/static/base.css", "/ui/static/session.js", "/ui", "/ui/analysis/", "/ui/api/"]
)
def test_the_headers_forbid_all_but_what_the_pages_need(keyed_url: str, path: str) -> None:
    reply = httpx.get(keyed_url + path)
    assert reply.status_code in {200, 308}
    assert reply.headers["content-security-policy"] == POLICY
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert reply.headers["cache-control"] == "no-cache"


def test_what_the_browser_has_is_not_sent_again(url: str) -> None:
    first = httpx.get(f"{url}/ui/")
    again = httpx.get(f"{url}/ui/", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == POLICY
    assert httpx.head(f"{url}/ui/").headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize("path", [*PAGES, "/ui/saved.html", "/ui/static/base.css"])
def test_a_page_s_head_can_be_asked_for_alone(url: str, path: str) -> None:
    head, whole = httpx.head(url + path), httpx.get(url + path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "content-security-policy"):
        assert head.headers[name] == whole.headers[name]


@pytest.mark.parametrize("path", ["../__init__.py", "%2e%2e/__init__.py", "..%2findex.html", "nothing.js", "", "%00"])
def test_only_the_parts_of_pages_are_sent(url: str, path: str) -> None:
    reply = httpx.get(f"{url}/ui/static/{path}")
    assert reply.status_code == 404
    assert reply.json()["error"]["type"] == "invalid_request_error"


# Pages.


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_accessible_and_fits_a_phone(visit: Visit, url: str, path: str) -> None:
    page = visit(url + path, width=375, height=700)
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert_no_sideways_scrolling(page)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert_accessible(page)


def test_behind_a_proxy_at_a_path_every_address_is_relative(visit: Visit, url: str) -> None:
    with at_a_path(url) as proxied:
        page = visit(f"{proxied}/ui")
        assert page.url == f"{proxied}/ui/"
        page.get_by_role("link", name="Analysis").click()
        expect(page).to_have_url(f"{proxied}/ui/analysis")
        page.get_by_role("link", name="API").click()
        expect(page).to_have_url(f"{proxied}/ui/api")
        page.goto(f"{proxied}/ui/analysis/")
        assert page.url == f"{proxied}/ui/analysis"
        assert run(page, "return session.urlOf('/v1/models')") == f"{proxied}/v1/models"
        assert run(page, "return (await session.models())[0].id") == "letters"


def test_the_theme_is_the_system_s_until_the_reader_chooses_and_then_stays(visit: Visit, url: str) -> None:
    page = visit(f"{url}/ui/", dark=True)
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    switch = page.get_by_role("button", name="Theme")
    expect(switch).to_have_text("Theme: automatic")
    switch.click()
    expect(switch).to_have_text("Theme: light")
    light = page.evaluate(background)
    assert light != dark
    page.get_by_role("link", name="Analysis").click()
    expect(page).to_have_url(f"{url}/ui/analysis")
    expect(switch).to_have_text("Theme: light")
    assert page.evaluate(background) == light
    switch.click()
    expect(switch).to_have_text("Theme: dark")
    assert page.evaluate(background) == dark


def test_every_route_is_told_behind_a_key(visit: Visit, keyed_url: str) -> None:
    page = visit(f"{keyed_url}/ui/api", refused=(401,))
    give_key(page, KEY)
    page.get_by_text("/v1/completions").click()
    told = page.get_by_role("group").filter(has_text="/v1/completions")
    expect(told).to_contain_text("max_tokens")
    expect(told).to_contain_text("whole number from ")
    paths = httpx.get(f"{keyed_url}/openapi.json", headers={"Authorization": f"Bearer {KEY}"}).json()["paths"]
    assert page.locator("#routes details").count() == sum(map(len, paths.values()))
    assert_accessible(page)
    page.set_viewport_size({"width": 375, "height": 700})
    assert_no_sideways_scrolling(page)


# Keys.


def test_the_key_is_asked_for_once_and_never_in_an_address(visit: Visit, keyed_url: str) -> None:
    page = visit(f"{keyed_url}/ui/", refused=(401,))
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    both = "const both = Promise.all([session.models(), session.models()]); window.both = both.then((m) => m.length);"
    run(page, both)
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    assert_accessible(page)
    give_key(page, "wrong")
    expect(dialog.get_by_role("alert")).to_contain_text("the key is not valid")
    give_key(page, KEY)
    assert page.evaluate("window.both") == 2
    expect(dialog).to_have_count(0)
    page.reload()
    assert run(page, "return (await session.models())[0].id") == "letters"
    assert not [address for address in seen if KEY in address]
    assert KEY not in page.url


def test_closing_the_dialog_leaves_the_call_refused(visit: Visit, keyed_url: str) -> None:
    page = visit(f"{keyed_url}/ui/", refused=(401,))
    run(page, "window.refused = session.models().catch((error) => [error.name, error.status, error.code]);")
    page.get_by_role("button", name="Cancel").click()
    assert page.evaluate("window.refused") == ["ApiError", 401, "invalid_api_key"]


# Calls and streams.


def test_an_error_of_the_service_names_its_field(visit: Visit, url: str) -> None:
    page = visit(f"{url}/ui/", refused=(422,))
    script = """
        const body = {model: "letters", prompt: "x", max_tokens: -1};
        try { await session.call("v1/completions", {json: body}); } catch (e) { return [e.status, e.param, e.message]; }
    """
    status, param, message = run(page, script)
    assert (status, param) == (422, "max_tokens")
    assert message.startswith("max_tokens: ")


def test_a_service_that_is_gone_is_said_so(visit: Visit) -> None:
    with serving(FaultyEngine(letters_table())) as url:
        page = visit(f"{url}/ui/")
        run(page, "await session.models()")
    script = "try { await session.models(); } catch (error) { return [error.name, error.status, error.message]; }"
    assert run(page, script) == ["ApiError", 0, "the service cannot be reached"]


def test_a_key_that_no_header_can_hold_is_not_taken(visit: Visit, keyed_url: str) -> None:
    page = visit(f"{keyed_url}/ui/", refused=(401,))
    run(page, "window.done = session.models().then((m) => m.length);")
    give_key(page, "ключ")
    expect(page.get_by_role("dialog")).to_be_visible()
    give_key(page, f"  {KEY} ")
    assert page.evaluate("window.done") > 1


STREAM = """
    const received = [];
    const body = {model: "letters", prompt: "x", max_tokens: 4, seed: 5, stream: true,
                  power: {alpha: 2, blocks: 2, steps_per_block: 3, stream_events: true}};
    try {
      for await (const chunk of session.stream("v1/completions", body)) received.push(chunk);
      return [received.length, "complete", 0];
    } catch (error) { return [received.length, error.name, error.received]; }
"""


def test_a_stream_is_read_to_its_end(visit: Visit, url: str) -> None:
    count, ending, _ = run(visit(f"{url}/ui/"), STREAM)
    assert ending == "complete"
    assert count > 6, "an event for each step and the text"


def test_a_dropped_stream_is_no_complete_one(visit: Visit, url: str) -> None:
    with at_a_path(url, cut_after=3) as proxied:
        page = visit(f"{proxied}/ui/", tolerated=("ERR_INCOMPLETE_CHUNKED_ENCODING",))
        count, ending, received = run(page, STREAM)
    assert (ending, received) == ("Dropped", count)  # a browser may drop what came just before the loss


def test_an_error_within_a_stream_is_an_error(visit: Visit) -> None:
    with serving(FaultyEngine(letters_table(), fail=lambda call: EngineError("broken") if call > 1 else None)) as url:
        assert run(visit(f"{url}/ui/"), STREAM)[1] == "ApiError"


def test_events_are_read_however_the_network_cuts_them(visit: Visit, url: str) -> None:
    text = ': hello\r\n\r\ndata: {"a": "é🙂"}\n\nevent: x\rdata:1\rdata: 2\r\rid: 7\r\n\r\n'
    text += "data\n\ndata: last\r\n\r\ndata: lost"
    script = """(async (text) => {
        const { Parser } = await import(new URL("static/events.js", document.baseURI));
        const bytes = new TextEncoder().encode(text), found = new Set();
        for (let size = 1; size <= bytes.length; size += 1) {
          const parser = new Parser(), events = [];
          for (let at = 0; at < bytes.length; at += size) events.push(...parser.push(bytes.slice(at, at + size)));
          found.add(JSON.stringify(events));
        }
        return [...found];
    })"""
    page = visit(f"{url}/ui/")
    assert page.evaluate(f"text => {script}(text)", text) == ['["{\\"a\\": \\"é🙂\\"}","1\\n2","last"]']
