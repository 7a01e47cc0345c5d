"""The explorer's replay, without its page: what it makes of a service's events is what the service answers."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Page

from sampler.cuts import CutState, advance, cut_law
from tests.service.faulty import FaultyEngine
from tests.service.serving import serving
from tests.service.tables import endless_table
from tests.ui.browsing import Visit

LOAD = "const load = (name) => import(new URL(`static/explorer/${name}.js`, document.baseURI));"
REPLAY = """
    const { newRecording, take, toJson, fromJson } = await load("recording");
    const { Replay, textOf } = await load("replay");
    const recording = newRecording("letters", [given.request], "now");
    const lane = recording.lanes[0];
    for (const chunk of given.chunks) take(lane, chunk);
    lane.status = "done";
    const again = fromJson(toJson(recording)).lanes[0];
    const replay = new Replay(again);
    for (const event of again.events) replay.push(event);
    replay.close();
    const sum = (tokens) => tokens.reduce((all, token) => all + token.logP, 0);
    return replay.chains.map((frames) => ({
      ids: frames.at(-1).after.map((token) => token.id),
      text: textOf(frames.at(-1).after),
      logP: frames.at(-1).logP,
      sums: frames.map((frame) => sum(frame.after)),
      told: frames.map((frame) => frame.logP),
      kinds: frames.map((frame) => frame.kind),
      gap: frames.at(-1).gap,
    }));
"""


@pytest.fixture(scope="module")
def endless_url() -> Iterator[str]:
    with serving(FaultyEngine(endless_table())) as url:
        yield url


def script(page: Page, body: str, given: Any = None) -> Any:
    """The value of a script that can load the explorer's modules."""
    return page.evaluate(f"async (given) => {{ {LOAD} {body} }}", given)


def streamed(url: str, **fields: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A request, and the chunks of its stream."""
    power = {"method": "entropy_cut", "alpha": 2, "blocks": 3, "steps_per_block": 6} | fields.pop("power", {})
    request = {"model": "letters", "prompt": "x", "max_tokens": 12, "n": 3, "seed": 5, **fields, "power": power}
    events = {"stream_events": True, "include": ["tokens", "diagnostics"]}
    body = request | {"stream": True, "power": power | events, "stream_options": {"include_usage": True}}
    text = httpx.post(f"{url}/v1/completions", json=body, timeout=60).text
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]", text[-300:]
    return request, [json.loads(line) for line in lines[:-1]]


def answers(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The final choices, in order."""
    return sorted((choice for chunk in chunks for choice in chunk["choices"]), key=lambda choice: choice["index"])


METHODS: list[dict[str, Any]] = [
    {},
    {"method": "uniform_cut"},
    {"method": "multiple_try", "tries": 2},
    {"method": "uniform_cut", "mode": "paper"},
    {"max_generated_tokens": 9, "prefetch": False},
]


def test_the_last_frame_is_the_answer(visit: Visit, url: str, endless_url: str) -> None:
    page = visit(f"{url}/ui/")
    for served, power in itertools.product((url, endless_url), METHODS):
        request, chunks = streamed(served, power=power)
        frames = script(page, REPLAY, {"request": request, "chunks": chunks})
        for frame, answer in zip(frames, answers(chunks), strict=True):
            assert frame["ids"] == answer["power"]["token_ids"]
            assert frame["text"] == answer["text"]
            assert frame["logP"] == pytest.approx(answer["power"]["log_p"], abs=1e-4)
            assert frame["sums"] == pytest.approx(frame["told"], abs=1e-3), "at every moment"
            assert "ended" not in frame["kinds"]


def test_lost_events_are_counted_and_the_answer_is_still_right(visit: Visit, endless_url: str) -> None:
    request, chunks = streamed(endless_url, n=1)
    told = [chunk for chunk in chunks if "power_event" in chunk]
    lost = told[2:-2]
    told[-2]["power_event"]["dropped"] = len(lost)
    left = [chunk for chunk in chunks if chunk not in lost]
    [frame] = script(visit(f"{endless_url}/ui/"), REPLAY, {"request": request, "chunks": left})
    assert frame["gap"] == len(lost) > 0
    assert frame["ids"] == answers(chunks)[0]["power"]["token_ids"]


def test_a_cut_within_a_character_gives_the_token_before_it_its_text_back(visit: Visit, url: str) -> None:
    body = """
        const { frameAfter, textOf } = await load("replay");
        const all = (count, value) => Array(count).fill(value);
        const numbers = (n) => ({ log_p: all(n, -1), log_z: all(n, 0), entropy: all(n, 1), names: {} });
        const place = { choice: 0, stage: 1, stages: 1, generated_tokens: 2 };
        const first = { ...place, type: "extended", ids: [1, 2], finished: false };
        first.tokens = { start: 0, text_start: 0, text: ["a", "\\ufffd"], ...numbers(2) };
        const second = { ...place, type: "extended", ids: [1, 2, 3], finished: false };
        second.tokens = { start: 2, text_start: 1, text: ["", "é"], ...numbers(1) };
        const one = frameAfter(null, first);
        const two = frameAfter(one, second);
        return [textOf(one.after), textOf(two.after), two.after.map((token) => token.entropy)];
    """
    assert script(visit(f"{url}/ui/"), body) == ["a�", "aé", [1, 1, 1]]


@pytest.mark.parametrize("method", ["entropy_cut", "uniform_cut"])
def test_the_probability_of_a_cut_is_the_sampler_s(visit: Visit, url: str, method: str) -> None:
    entropies = np.random.default_rng(3).uniform(0, 3, 20).tolist()
    law, state, weights = cut_law(method.removesuffix("_cut"), 3.0), CutState(), []
    for entropy in entropies:
        state = advance(law, state, entropy)
        weights.append(state.log_weight)
    body = """
        const { cutLaw, jumpOf } = await load("measures");
        const tokens = given.entropies.map((entropy) => ({ entropy }));
        return cutLaw(tokens, { power: { method: given.method, cut_power: 3 } });
    """
    found = script(visit(f"{url}/ui/"), body, {"entropies": entropies, "method": method})
    assert found == pytest.approx(np.exp(np.array(weights) - state.log_norm).tolist(), abs=1e-12)


def test_a_trace_that_cannot_be_cut_has_no_probability_of_a_cut(visit: Visit, url: str) -> None:
    body = """
        const { cutLaw } = await load("measures");
        const certain = cutLaw([{ entropy: 0 }, { entropy: 0 }], { power: { method: "entropy_cut" } });
        return [certain, cutLaw([{ entropy: null }], { power: { method: "entropy_cut" } })];
    """
    assert script(visit(f"{url}/ui/"), body) == [[0, 0], None]
