"""Divergence: distances against a plain table walk, positions as promised, and a model whose decisions are known."""

import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from evals.client import read_reply
from evals.divergence import BOTTOM, TOP, Probe, choose, entropy, read_trace
from evals.probing import add_up, write_divergence
from evals.records import Key
from evals.settings import Arm
from evals.statistics.editing import edit_distances, mean_normalised_distance
from tests.evals.running import STANDARD, carry, plan
from tests.evals.servers import Scripted, completion, served

LENGTH = 60
DECISIONS = (4, 6, 8, 10, 12, 14)
PROBE = Probe(positions=6, resamples=6, suffix_tokens=LENGTH, gap=1)


def walked(a: list[int], b: list[int]) -> int:
    """Levenshtein's distance, cell by cell."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


@given(st.lists(st.lists(st.integers(0, 3), max_size=9), min_size=2, max_size=5))
def test_edit_distances_are_those_of_a_plain_walk(sequences: list[list[int]]) -> None:
    assert edit_distances(sequences).tolist() == [walked(a, b) for a, b in combinations(sequences, 2)]


def test_normalised_distances() -> None:
    assert mean_normalised_distance([[1, 2], [1, 2]]) == 0
    assert mean_normalised_distance([[1, 2, 3, 4], []]) == 1
    assert mean_normalised_distance([[], []]) == 0
    assert mean_normalised_distance([[1]]) is None


def test_entropy_of_what_is_reported() -> None:
    assert entropy([math.log(0.5)] * 2, 1.0) == pytest.approx(math.log(2))
    assert entropy([math.log(0.25)] * 2, 0.5) == pytest.approx(math.log(2)), "brought to one"
    assert entropy([0.0], 1.0) == entropy([], 0.0) == 0


def test_a_trace_without_log_probabilities_is_refused() -> None:
    with pytest.raises(ValueError, match="top_logprobs"):
        read_trace(read_reply(completion()))


def test_positions_are_from_the_tenths_inside_the_margins_and_apart() -> None:
    rng = np.random.default_rng(0)
    jumps = np.zeros(400)
    jumps[rng.permutation(400)[:200]] = rng.random(200)
    chosen = choose(jumps, Probe(), rng)
    inner = np.sort(jumps[20:380])
    for name, positions in chosen.items():
        assert len(positions) == 5
        assert min(np.diff(positions)) >= 10
        assert all(20 <= each < 380 for each in positions)
        level = inner[-36] if name == TOP else inner[35]
        assert all(jumps[each] >= level if name == TOP else jumps[each] <= level for each in positions)
    assert choose(np.zeros(1), Probe(), rng) == {TOP: [], BOTTOM: []}
    assert not set(chosen[TOP]) & set(chosen[BOTTOM])


def test_ties_are_broken_at_random() -> None:
    seen = {tuple(choose(np.zeros(300), Probe(), np.random.default_rng(seed))[BOTTOM]) for seed in range(5)}
    assert len(seen) == 5


class Deciding(Scripted):
    """A model of characters: `x` throughout, but at six positions `a` or `b`, evenly."""

    def __init__(self, ids: bool) -> None:
        self.ids = ids
        super().__init__()

    def more_routes(self) -> list[Route]:
        return [Route("/tokenize", self.tokenize, methods=["POST"])] if self.ids else []

    async def tokenize(self, request: Request) -> Response:
        return JSONResponse({"tokens": list(map(ord, (await request.json())["prompt"]))})

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        prompt = body["prompt"] if isinstance(body["prompt"], str) else "".join(map(chr, body["prompt"]))
        start = len(prompt.split("Answer:")[1])
        choices = [self.choice(body, start, index) for index in range(body.get("n", 1))]
        usage = {"prompt_tokens": len(prompt), "completion_tokens": LENGTH - start}
        return JSONResponse({"choices": choices, "usage": usage})

    def choice(self, body: dict[str, Any], start: int, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([body["seed"], index])
        text = "".join("ab"[rng.integers(2)] if at in DECISIONS else "x" for at in range(start, LENGTH))
        text = text[: body["max_tokens"]]
        even = {"a": math.log(0.5), "b": math.log(0.5)}
        tops = [even if start + at in DECISIONS else {"x": 0.0} for at in range(len(text))]
        found = {"index": index, "text": text, "finish_reason": "stop"}
        if "logprobs" in body:
            found["logprobs"] = {"top_logprobs": tops, "text_offset": list(range(len(text)))}
        return found | ({"power": {"token_ids": list(map(ord, text))}} if self.ids else {})


@pytest.mark.slow
@pytest.mark.parametrize("ids", [True, False])
def test_jumps_that_decide_diverge_more(ids: bool, tmp_path: Path) -> None:
    server = Deciding(ids)
    with served(server.app) as url:
        chosen = plan(url, tmp_path, STANDARD, problems=6, max_tokens=LENGTH, max_stops=0, probe=PROBE)
        records = carry(chosen)
        calls = len(server.bodies)
        assert carry(chosen) == records
        assert len(server.bodies) == calls, "what was probed is not probed again"
    one = records[Key("standard", "letters/0", 0)]
    assert [each["at"] for each in one["groups"][TOP]] == list(DECISIONS)
    assert one["prefix"] == ("ids" if ids else "text")
    assert one["reported_mass"] == pytest.approx(1)
    redraws = [body for body in server.bodies if "n" in body]
    assert all(body["n"] == 6 and body["power"] == {"method": "low_temperature", "alpha": 4.0} for body in redraws)
    assert {isinstance(body["prompt"], list) for body in redraws} == {ids}
    found = add_up(list(records.values()), PROBE)
    assert found["problems"] == 6
    assert found["measures"]["distance"]["difference"]["lower"] > 0
    assert found["measures"]["position"]["difference"]["upper"] < 0, "here the groups differ in place, and it says so"
    text = write_divergence(tmp_path, PROBE)
    assert "6 problems (0 too short, 0 failed)" in text
    assert json.loads((tmp_path / "divergence.json").read_text())["prefix"] == ["ids" if ids else "text"]


def test_answers_without_entropies_or_too_short_are_counted_apart(tmp_path: Path) -> None:
    server = Scripted(otherwise=lambda body: JSONResponse(completion()))
    with served(server.app) as url:
        records = carry(plan(url, tmp_path / "a", problems=3, probe=PROBE))
        assert {each["failure"]["kind"] for each in records.values()} == {"malformed"}
        assert add_up(list(records.values()), PROBE)["failed"] == 3
        short = completion("a", logprobs={"top_logprobs": [{"a": 0.0}], "text_offset": [0]})
        server.otherwise = lambda body: JSONResponse(short)
        records = carry(plan(url, tmp_path / "b", problems=3, probe=PROBE))
    found = add_up(list(records.values()), PROBE)
    assert (found["too_short"], found["problems"], found["measures"]) == (3, 0, {})
    assert "0 problems (3 too short" in write_divergence(tmp_path / "b", PROBE)


def test_on_powercut(powercut: str, tmp_path: Path) -> None:
    """A table knows no prompts, so its redraws begin anew; what is asked for and reported fits all the same."""
    arm = Arm("trace", {"method": "low_temperature", "alpha": 1.0, "top_k": None})
    records = carry(plan(powercut, tmp_path, arm, problems=4, max_tokens=8, max_stops=0, probe=Probe(margin=0, gap=1)))
    assert {each["status"] for each in records.values()} == {"answered"}
    for each in records.values():
        assert each["length"] == 0 or 0 < each["reported_mass"] <= 1 + 1e-9
