"""The self-contained page of a run: from the explorer and from the shell, opened from a folder with nobody to ask."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from typer.testing import CliRunner

from service.cli import app
from service.ui.saved import EXPORT, IMPORT, SLOT, bundle, empty_page, page_of
from tests.service.serving import ROOT
from tests.service.tables import letters_table
from tests.ui.browsing import Visit, assert_accessible, assert_no_sideways_scrolling
from tests.ui.explorer_page import answer, finish, free_keys, readout, start
from tests.ui.recordings import HOSTILE, hostile_recording, long_recording, open_recording

MODULES = sorted((ROOT / "service" / "ui" / "static" / "explorer").glob("*.js"))


def saved(page: Page, ending: str, folder: Path) -> Path:
    """The file that a button of the page saves."""
    with page.expect_download() as download:
        page.get_by_role("button", name=f"Save as {ending}").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_a_run_is_saved_and_opens_again_from_a_folder_and_in_the_explorer(
    visit: Visit, url: str, tmp_path: Path
) -> None:
    page = visit(f"{url}/ui/", accept_downloads=True)
    start(page, prompt="</script><script>document.title='owned'</script>")
    finish(page)
    shown, numbers = answer(page), page.locator(".numbers").inner_text()
    as_json, as_html = saved(page, "JSON", tmp_path), saved(page, "HTML", tmp_path)
    assert as_html.name == "powercut-entropy_cut-seed-1.html"

    seen: list[str] = []
    alone = visit("about:blank")
    alone.on("request", lambda request: seen.append(request.url))
    alone.goto(as_html.as_uri())
    free_keys(alone)
    alone.keyboard.press("End")
    assert (answer(alone), alone.locator(".numbers").inner_text()) == (shown, numbers)
    assert seen == [as_html.as_uri()], "nothing is asked for"
    assert alone.title() == "Chain explorer · powercut"
    expect(alone.get_by_role("link", name="Save the JSON")).to_be_visible()

    page.locator("#file").set_input_files(as_json)
    expect(page.locator(".status")).to_contain_text("a recording of letters, 24 steps of 1 chain")
    expect(readout(page)).to_have_text("moment 1 of 28")
    page.get_by_role("button", name="Last moment").click()
    assert (answer(page), page.locator(".numbers").inner_text()) == (shown, numbers)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_saved_page_is_accessible_and_fits_a_phone(visit: Visit, tmp_path: Path, dark: bool) -> None:
    path = tmp_path / "saved.html"
    path.write_text(page_of(long_recording(tokens=24, blocks=2, steps=4)))
    page = visit(path.as_uri(), dark=dark, width=375)
    page.get_by_role("button", name="Last moment").click()
    assert_accessible(page)
    assert_no_sideways_scrolling(page)


def test_a_saved_page_shows_hostile_texts_as_text(visit: Visit, tmp_path: Path) -> None:
    path = tmp_path / "saved.html"
    path.write_text(page_of(hostile_recording()), encoding="utf-8")
    page = visit(path.as_uri())
    assert HOSTILE[0] in answer(page)
    assert page.title() == "Chain explorer · powercut"


def test_a_saved_page_whose_recording_is_broken_says_so(visit: Visit, tmp_path: Path) -> None:
    path = tmp_path / "saved.html"
    path.write_text(page_of({"powercut_recording": 1, "lanes": []}))
    expect(visit(path.as_uri()).get_by_role("alert")).to_contain_text("one to eight lanes")


def sample(folder: Path, *options: str) -> Any:
    """`powercut sample` on the table; in a thread, since Playwright has an event loop in this one."""
    table = folder / "letters.json"
    table.write_text(json.dumps(letters_table()))
    given = ["--engine", "tabular", "--model", str(table), "--max-tokens", "4", "--seed", "3", *options]
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(CliRunner().invoke, app, ["sample", "hi </script>", *given]).result()


def recording_in(path: Path) -> dict[str, Any]:
    """The recording that lies in a page."""
    [data] = re.findall(r'<script type="application/json" id="recording">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(data)


@pytest.mark.parametrize("options", [(), ("--chains", "5", "--method", "uniform_cut"), ("--method", "multiple_try")])
def test_the_command_writes_the_same_page(visit: Visit, tmp_path: Path, options: tuple[str, ...]) -> None:
    path = tmp_path / "run.html"
    result = sample(tmp_path, "--html", str(path), *options)
    assert result.exit_code == 0, result.output
    assert path.read_text().replace(json.dumps(0), "").count("<script") == 3
    recording = recording_in(path)
    page = visit(path.as_uri())
    page.get_by_role("button", name="Last moment").click()
    texts = result.stdout.removesuffix("\n").split("\n\n")
    for choice, text in enumerate(texts):
        assert answer(page, choice).replace("<eos>", "") == text
    expect(page.locator(".panel")).to_have_count(len(texts))
    assert recording["request"]["prompt"] == "hi </script>"
    if len(texts) > 1:
        expect(page.locator(".verdict")).to_contain_text("R-hat of log π")


def test_the_command_s_recording_is_one_that_the_explorer_opens(visit: Visit, url: str, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    sample(tmp_path, "--html", str(path))
    page = visit(f"{url}/ui/")
    open_recording(page, recording_in(path))
    expect(page.locator(".status")).to_contain_text("a recording of letters, 40 steps of 1 chain")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--html", "/nowhere/run.html"), "--html: no file can be written at /nowhere/run.html"),
        (("--html", "run.html", "--method", "smc"), "--html: the method smc does not use it"),
        (("--html", "run.html", "--method", "standard"), "--html: the method standard does not use it"),
    ],
)
def test_a_page_that_cannot_be_is_refused_before_anything_runs(
    tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    result = sample(tmp_path, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


# What makes one script out of modules.


def test_the_page_has_one_place_for_a_recording_and_nothing_ends_its_scripts() -> None:
    page = empty_page()
    assert page.count(SLOT) == 1
    assert page.count("</script") == 3
    assert page.count("</style") == 1
    assert "<!--" not in page


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_modules_import_and_export_in_the_one_form_that_can_be_joined(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    rest = EXPORT.sub("", IMPORT.sub("", text))
    assert not re.search(r"^\s*(import|export)\b", rest, re.MULTILINE)
    assert "innerHTML" not in text
    assert "insertAdjacentHTML" not in text


def test_no_two_modules_give_the_same_name_to_something() -> None:
    names = re.findall(r"^(?:async )?(?:function\*?|class|const|let) (\w+)", bundle("explorer/saved.js"), re.MULTILINE)
    assert len(names) > 80
    assert len(names) == len(set(names)), sorted(name for name in set(names) if names.count(name) > 1)
