"""`include: ["tokens"]` with `stream_events`: the tokens of each event, enough to follow a chain token by token."""

from typing import Any

import httpx
import numpy as np
import pytest

from sampler.engines.tabular import TabularTokenizer
from sampler.events import Extended, Statistics
from sampler.params import PowerParams
from service.admission import Admission
from service.call import Call
from service.patience import Patience
from service.plan import Plan
from service.progress import TOKENS_WAITING, Progress
from service.settings import Settings
from service.telling import pieces, tokens_report
from tests.service.checks import GOOD, assert_error
from tests.service.faulty import FaultyEngine
from tests.service.serving import serving
from tests.service.tables import endless_table
from tests.service.test_stream_events import events, stream

POWER: dict[str, Any] = {"alpha": 2.0, "blocks": 3, "steps_per_block": 6, "stream_events": True, "include": ["tokens"]}
Tokens = list[tuple[int, str, float, float]]


def follow(told: list[dict[str, Any]]) -> Tokens:
    """The trace that the tokens of events make: (id, text, log p, log Z) each."""
    trace: Tokens = []
    for event in told:
        if "tokens" not in event or (event["type"] == "stepped" and not event["moved"]):
            continue
        tokens, start = event["tokens"], event["tokens"]["start"]
        back = start - tokens["text_start"]
        ids = event["ids"][start:] if event["type"] == "extended" else event["proposal"]
        kept = trace[: start - back]
        if back:
            kept.append((trace[start - 1][0], tokens["text"][0], *trace[start - 1][2:]))
        columns = zip(ids, tokens["text"][back:], tokens["log_p"], tokens["log_z"], strict=True)
        trace = [*kept, *columns]
        assert "".join(text for _, text, *_ in trace) == event["text"]
    return trace


@pytest.mark.parametrize("chain", [{}, {"method": "multiple_try"}, {"method": "uniform_cut", "mode": "paper"}], ids=str)
def test_followed_tokens_are_the_answer_s(http: httpx.Client, chain: dict[str, Any]) -> None:
    chunks = stream(http, n=6, max_tokens=4, power=POWER | chain)
    answers = {choice["index"]: choice for chunk in chunks for choice in chunk["choices"]}
    for choice in range(6):
        trace = follow(events(chunks, choice))
        assert [token for token, *_ in trace] == answers[choice]["power"]["token_ids"]
        assert sum(log_p for *_, log_p, _ in trace) == pytest.approx(answers[choice]["power"]["log_p"], abs=1e-4)
        assert "".join(text for _, text, *_ in trace) == answers[choice]["text"]


def test_the_statistics_make_the_ratio(http: httpx.Client) -> None:
    chunks = stream(http, power=POWER | {"method": "uniform_cut", "early_rejection": False}, max_tokens=4)
    trace: Tokens = []
    compared = 0
    for event in events(chunks):
        if event["type"] == "stepped":
            current = sum(log_z for *_, log_z in trace[event["cut"] + 1 :])
            assert event["power_term"] == pytest.approx(sum(event["tokens"]["log_z"][1:]) - current, abs=1e-4)
            compared += 1
        trace = follow(events(chunks)[: events(chunks).index(event) + 1])
    assert compared == 18


def test_they_change_nothing_else_and_come_only_if_asked_for(http: httpx.Client) -> None:
    asked, unasked = (events(stream(http, power=POWER | {"include": [*include]})) for include in (["tokens"], []))
    assert [{k: v for k, v in event.items() if k != "tokens"} for event in asked] == unasked
    assert any("tokens" in event for event in asked)


def test_the_end_of_sequence_has_a_name_and_no_text(http: httpx.Client) -> None:
    told = [event["tokens"] for event in events(stream(http, n=8, max_tokens=4, power=POWER)) if "tokens" in event]
    ended = [tokens for tokens in told if tokens["names"]]
    assert ended
    assert all(tokens["names"] == {"2": "<eos>"} and "" in tokens["text"] for tokens in ended)


def test_without_events_they_are_refused(http: httpx.Client) -> None:
    power = {"include": ["tokens"]}
    assert assert_error(http.post("/v1/completions", json=GOOD | {"power": power}), 422)["param"] == "power.include"
    streamed = GOOD | {"power": power, "stream": True}
    assert assert_error(http.post("/v1/completions", json=streamed), 422)["param"] == "power.include"


def test_a_character_of_several_tokens_is_the_last_one_s() -> None:
    halves = HalfTokenizer(["a", "é", "!"], frozenset())
    assert pieces([0], [1, 2, 3], halves) == (1, ["", "é", "!"])
    assert pieces([], [0, 1], halves) == (0, ["a", "�"])
    assert pieces([0, 1], [2, 3], halves) == (1, ["", "é", "!"])  # the token before the cut said U+FFFD so far
    assert pieces([0, 1], [3], halves) == (1, ["", "�!"])
    assert pieces([0], [], halves) == (1, [])


def test_only_a_token_that_stands_for_no_text_has_a_name() -> None:
    halves = HalfTokenizer(["a", "é", "!", "", "<eos>"], frozenset({4}))
    column = np.zeros(4)
    event = Extended(0, 1, 1, (0, 1, 2, 4), True, 4, Statistics(column, column, column))
    report = tokens_report(event, event.ids, halves)
    assert report["text"] == ["a", "", "é", ""]
    assert report["names"] == {"4": "<eos>"}, "the first half of a character is no token without text"


class HalfTokenizer(TabularTokenizer):
    """0 is "a"; 1 and 2 are the two bytes of "é"; 3 is "!", 4 the end."""

    def response_bytes(self, ids: Any) -> bytes:
        return b"".join([b"a", b"\xc3", b"\xa9", b"!", b""][token] for token in ids)


@pytest.mark.slow
def test_a_budget_that_ends_an_extension_is_told_too() -> None:
    with serving(FaultyEngine(endless_table())) as url, httpx.Client(base_url=url, timeout=30) as http:
        power = {"blocks": 1, "steps_per_block": 2, "max_generated_tokens": 3, "stream_events": True}
        chunks = stream(http, max_tokens=8, power=power | {"include": ["tokens"]})
    answer = chunks[-1]["choices"][0]
    assert answer["power"]["ended_by"] == "token_budget"
    assert [token for token, *_ in follow(events(chunks))] == answer["power"]["token_ids"]
    assert len(answer["power"]["token_ids"]) == 3


async def test_tokens_that_nobody_reads_cost_a_bounded_memory() -> None:
    engine = FaultyEngine(endless_table())
    call = Call()
    ticket = Admission(Settings()).enter("a", 1)
    include = frozenset({"tokens"})
    params = PowerParams(4)
    plan = Plan(
        "entropy_cut", params, [(0,)], [1], 1, None, include, engine.tokenizer, True, call, ticket, stream_events=True
    )
    progress = Progress(plan, Patience(call, None))
    column = np.zeros(TOKENS_WAITING // 4)
    event = Extended(0, 1, 1, (), False, 0, Statistics(column, column, column))
    for _ in range(10):
        progress.tell(0, event)
    assert progress._queue.qsize() == 4
