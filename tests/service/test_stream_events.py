"""`power.stream_events` tells a chain step by step, in chunks that the official client reads over."""

import json
from typing import Any

import httpx
import openai
import pytest

from sampler.events import Kept
from sampler.params import PowerParams
from service.admission import Admission
from service.call import Call
from service.patience import Patience
from service.plan import Plan
from service.progress import EVENTS_WAITING, Progress
from service.settings import Settings
from tests.service.checks import GOOD, assert_error, assert_still_answers
from tests.service.conftest import MODEL
from tests.service.faulty import FaultyEngine
from tests.service.serving import serving
from tests.service.tables import endless_table

POWER: dict[str, Any] = {"alpha": 2.0, "blocks": 2, "steps_per_block": 6, "stream_events": True}
CHAINS = [
    {"method": "entropy_cut"},
    {"method": "uniform_cut"},
    {"method": "multiple_try"},
    {"method": "entropy_cut", "mode": "paper"},
    {"method": "uniform_cut", "mode": "paper"},
]


def stream(http: httpx.Client, route: str = "/v1/completions", **fields: Any) -> list[dict[str, Any]]:
    """The chunks of a stream that ends well."""
    body = GOOD | {"stream": True, "power": POWER} | fields
    with http.stream("POST", route, json=body) as reply:
        assert reply.status_code == 200, reply.read()[:500]
        lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def events(chunks: list[dict[str, Any]], choice: int = 0) -> list[dict[str, Any]]:
    """What one chain told."""
    told = [chunk["power_event"] for chunk in chunks if "power_event" in chunk]
    return [event for event in told if event["choice"] == choice]


@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_the_last_event_has_the_text_of_the_answer(http: httpx.Client, chain: dict[str, Any]) -> None:
    chunks = stream(http, n=8, max_tokens=4, power=POWER | chain)
    answers = {choice["index"]: choice for chunk in chunks for choice in chunk["choices"]}
    for choice in range(8):
        told = events(chunks, choice)
        assert told[0]["type"] == "extended"
        assert told[-1]["text"] == answers[choice]["text"]
        assert told[-1]["length"] == len(answers[choice]["power"]["token_ids"])


def test_events_are_the_steps_that_the_chain_reports(http: httpx.Client) -> None:
    chunks = stream(http, n=4, power=POWER | {"include": ["chain"]})
    answers = {choice["index"]: choice for chunk in chunks for choice in chunk["choices"]}
    added = ("type", "choice", "text", "proposal_text")
    for choice in range(4):
        steps = [event for event in events(chunks, choice) if event["type"] == "stepped"]
        assert [{k: v for k, v in step.items() if k not in added} for step in steps] == answers[choice]["power"][
            "chain"
        ]
        assert not any(step["moved"] and not step["accepted"] for step in steps)


def test_events_come_while_the_chain_runs_and_before_its_answer() -> None:
    engine = FaultyEngine(endless_table(), delay_s=0.01)
    with serving(engine) as url, httpx.Client(base_url=url, timeout=30) as http:
        chunks = stream(http, max_tokens=8)
    kinds = ["event" if "power_event" in chunk else "answer" for chunk in chunks]
    assert kinds == ["event"] * (len(kinds) - 1) + ["answer"]
    assert len(kinds) == 2 + 12 + 1


def test_events_change_no_answer_and_none_come_unasked(http: httpx.Client) -> None:
    told, untold = stream(http, n=4), stream(http, n=4, power=POWER | {"stream_events": False})

    def answers(chunks: list[dict[str, Any]]) -> list[Any]:
        return sorted((choice["index"], choice) for chunk in chunks for choice in chunk["choices"])

    assert answers(told) == answers(untold)
    assert not events(untold)


@pytest.mark.parametrize("method", ["smc", "tmc", "best_of_n"])
def test_methods_without_steps_tell_their_stages(http: httpx.Client, method: str) -> None:
    chunks = stream(http, power={"method": method, "stream_events": True})

    assert {event["type"] for event in events(chunks)} == {"extended"}


def test_chat_tells_them_too_and_the_official_client_reads_over_them(client: openai.OpenAI, http: httpx.Client) -> None:
    messages: list[Any] = [{"role": "user", "content": "hi"}]
    with client.chat.completions.create(
        model=MODEL, messages=messages, max_tokens=4, stream=True, extra_body={"power": POWER}
    ) as made:
        chunks = list(made)
    told = [(chunk.model_extra or {}).get("power_event") for chunk in chunks]
    assert sum(event is not None for event in told) == 14
    assert all(chunk.choices == [] for chunk, event in zip(chunks, told, strict=True) if event)


def test_without_a_stream_events_are_refused(http: httpx.Client) -> None:
    error = assert_error(http.post("/v1/completions", json=GOOD | {"power": POWER}), 422)

    assert error["param"] == "power.stream_events"
    assert_still_answers(http)


async def test_a_reader_who_does_not_read_costs_a_bounded_memory() -> None:
    engine = FaultyEngine(endless_table())
    plan = Plan(
        "entropy_cut",
        PowerParams(4),
        [(0,)],
        [1],
        1,
        None,
        frozenset(),
        engine.tokenizer,
        True,
        Call(),
        Admission(Settings()).enter("a", 1),
        stream_events=True,
    )
    progress = Progress(plan, Patience(plan.call, None))
    for step in range(EVENTS_WAITING + 10):
        progress.tell(0, Kept(0, 1, 1, step, 0.0, 0, 0))
    assert progress._queue.qsize() == EVENTS_WAITING
    progress._queue.get_nowait()
    progress.tell(0, Kept(0, 1, 1, 0, 0.0, 0, 0))
    last = [progress._queue.get_nowait() for _ in range(EVENTS_WAITING)][-1]
    assert last.dropped == 10
