"""The chain explorer on the default model: tokens and steps arrive, time, two cut laws, saved and opened again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from sampler.engine import EngineOptions, load_engine
from tests.service.serving import serving
from tests.ui.browsing import Visit, assert_accessible
from tests.ui.explorer_page import answer, completion, finish, free_keys, readout, start
from tests.ui.test_saved_page import saved

pytestmark = pytest.mark.model

MODEL_MS = 240_000
"""Far longer than a run of the model takes, even beside other work."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(load_engine("transformers", EngineOptions())) as url:
        yield url


def test_a_chain_of_the_model_from_its_first_token_to_a_saved_page(visit: Visit, url: str, tmp_path: Path) -> None:
    page = visit(f"{url}/ui/", accept_downloads=True)
    start(page, max_tokens=24, power__steps_per_block=3)
    expect(page.locator(".tokens .t").first).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_be_enabled()
    finish(page, MODEL_MS)
    moments = 4 * (1 + 3)
    expect(readout(page)).to_have_text(f"moment {moments} of {moments}")
    model = page.locator("#model").inner_text()
    reply = completion(url, 3, model=model, max_tokens=24)["choices"][0]
    shown = answer(page)
    assert shown.replace("↵", "").replace("<|im_end|>", "").split() == reply["text"].split()
    assert_accessible(page)
    free_keys(page)
    page.keyboard.press("ArrowLeft")
    expect(readout(page)).to_have_text(f"moment {moments - 1} of {moments}")
    alone = visit(saved(page, "HTML", tmp_path).as_uri())
    alone.get_by_role("button", name="Last moment").click()
    assert answer(alone) == shown
    page.locator("#file").set_input_files(saved(page, "JSON", tmp_path))
    page.get_by_role("button", name="Last moment").click()
    assert answer(page) == shown


def test_two_cut_laws_of_the_model_begin_alike(visit: Visit, url: str) -> None:
    page = visit(f"{url}/ui/")
    page.get_by_label("Compare entropy cut").check()
    start(page, max_tokens=24, power__steps_per_block=3)
    finish(page, MODEL_MS)
    page.get_by_role("button", name="First moment").click()
    assert answer(page, 0) == answer(page, 1), "the same seed draws the same beginning"
    page.get_by_role("button", name="One step on").click()
    for panel in (0, 1):
        expect(page.locator(".panel .said").nth(panel)).to_contain_text("Cut before token")
