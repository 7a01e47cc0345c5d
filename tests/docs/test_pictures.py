"""The pictures show what powercut computes: their numbers come out again, and so do the drawings."""

import json
from pathlib import Path
from typing import Any

import pytest

from docs.tools.figures import CHAIN, STEPS, distances, plan_or_guess_laws, run_chain
from docs.tools.pictures import FOLDER, NUMBERS, PICTURES, write
from sampler.engine import EngineOptions, load_engine
from tests.docs.blocks import ROOT


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    """The numbers that are drawn."""
    return json.loads((FOLDER / NUMBERS).read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_numbers_of_small_models_come_out_again(figures: dict[str, Any]) -> None:
    for name, values in plan_or_guess_laws().items():
        assert values == (pytest.approx(figures["laws"][name]) if name in ("p", "q", "pi") else figures["laws"][name])
    assert figures["steps"] == list(STEPS)
    for cut, rows in figures["distances"].items():
        assert distances(cut, [0])[0] == pytest.approx(rows[0], abs=1e-9)
        assert all(row[-1] < row[0] for row in rows)
        assert sum(row[-1] for row in rows) / len(rows) < 0.01, "they come close to the power distribution"


@pytest.mark.slow
def test_the_drawings_come_out_again(figures: dict[str, Any], tmp_path: Path) -> None:
    write(figures, tmp_path)
    for name in (NUMBERS, *PICTURES):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), f"{name}: run make pictures"


def test_the_page_shows_every_picture_and_says_its_numbers(figures: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    assert all(f"(pictures/{name})" in page for name in PICTURES)
    laws = figures["laws"]
    for start in ("PLAN", "GUESS"):
        where = [i for i, answer in enumerate(laws["answers"]) if answer.startswith(start)]
        shown = " | ".join(f"{sum(laws[law][i] for i in where):.2f}" for law in ("p", "q", "pi"))
        assert f"| begins with {start} | {shown} |" in page


def test_savings_draw_fewer_tokens_and_every_step_is_there(figures: dict[str, Any]) -> None:
    plain, early, both = (counts[-1] for counts in figures["chain"]["drawn"].values())
    assert plain > early > both
    assert len(figures["chain"]["steps"]) == CHAIN.planned_steps


@pytest.mark.model
async def test_the_chain_on_the_default_model_comes_out_again(figures: dict[str, Any]) -> None:
    engine = load_engine("transformers", EngineOptions(dtype="fp32", device="cpu"))
    try:
        answer, _ = await run_chain(engine, CHAIN)
        texts = [engine.tokenizer.response_bytes([token]).decode(errors="replace") for token in answer.trace.ids]
    finally:
        await engine.aclose()
    assert texts == figures["chain"]["tokens"]
    assert list(answer.trace.entropy) == pytest.approx(figures["chain"]["entropy"], abs=1e-3)
