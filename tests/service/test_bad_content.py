"""Contents that are too much together, or just not: each is answered, and so is the next request."""

import json
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest

from sampler.trace import Segment
from service.settings import Settings
from tests.service.checks import GOOD, assert_error, assert_still_answers
from tests.service.conftest import MODEL
from tests.service.faulty import FaultyEngine
from tests.service.serving import serving
from tests.service.tables import endless_table, letters_table

CONTEXT = 64
PLAIN: dict[str, Any] = {"model": MODEL, "seed": 1}
CHAT = "/v1/chat/completions"


@pytest.fixture
def small() -> Any:
    """A client of a server with a short context."""
    with (
        serving(FaultyEngine(letters_table(), context=CONTEXT)) as url,
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        yield http


def test_a_prompt_exactly_at_the_limit_is_answered_and_one_over_is_refused(small: httpx.Client) -> None:
    for tokens, max_tokens in [(CONTEXT - 4, 4), (CONTEXT - 1, 1), (1, CONTEXT - 1)]:
        fits = PLAIN | {"prompt": [0] * tokens, "max_tokens": max_tokens}
        assert small.post("/v1/completions", json=fits).status_code == 200
        for over in ({"prompt": [0] * (tokens + 1)}, {"max_tokens": max_tokens + 1}):
            error = assert_error(small.post("/v1/completions", json=fits | over), 400)
            assert error["code"] == "context_length_exceeded"
            assert str(CONTEXT) in error["message"]
    scored = PLAIN | {"prompt": [0] * CONTEXT, "max_tokens": 0, "echo": True, "logprobs": 1}
    assert small.post("/v1/completions", json=scored).status_code == 200
    assert_error(small.post("/v1/completions", json=scored | {"prompt": [0] * (CONTEXT + 1)}), 400)
    assert_still_answers(small)


def test_a_conversation_exactly_at_the_limit_is_answered_and_one_over_is_refused(small: httpx.Client) -> None:
    def messages(letters: int) -> list[dict[str, str]]:
        return [{"role": "user", "content": "a" * letters}]

    used = small.post("/tokenize", json={"messages": messages(0)}).json()["count"]
    room = CONTEXT - used
    fits = PLAIN | {"messages": messages(room - 1)}
    assert small.post(CHAT, json=fits).json()["usage"]["completion_tokens"] == 1
    assert small.post(CHAT, json=fits | {"max_tokens": 1}).status_code == 200
    for over in ({"messages": messages(room)}, {"max_tokens": 2}):
        assert assert_error(small.post(CHAT, json=fits | over), 400)["code"] == "context_length_exceeded"
    assert_still_answers(small)


@pytest.mark.parametrize("route", ["/v1/completions", CHAT, "/tokenize"])
def test_a_text_that_cannot_fit_is_refused_before_it_is_encoded(small: httpx.Client, route: str) -> None:
    text = "🎲" * 500_000
    body = {"prompt": text} if route != CHAT else {"messages": [{"role": "user", "content": text}]}
    error = assert_error(small.post(route, json={"model": MODEL} | body), 400)

    assert error["code"] == "context_length_exceeded"
    assert "2000000 bytes" in error["message"]
    assert_still_answers(small)


def test_a_chains_report_is_bounded_and_a_stream_of_events_offered(http: httpx.Client) -> None:
    power = {"blocks": 256, "steps_per_block": 1000, "include": ["chain"]}
    error = assert_error(http.post("/v1/completions", json=GOOD | {"max_tokens": 400, "power": power}), 422)

    assert error["param"] == "power.include"
    assert "4194304" in error["message"]
    assert "stream_events" in error["message"]
    assert_still_answers(http)


@pytest.mark.slow
def test_a_chains_report_within_the_limit_is_given(http: httpx.Client) -> None:
    with (
        serving(FaultyEngine(letters_table()), Settings(max_chain_tokens=4 + 2 * (2 + 4))) as url,
        httpx.Client(base_url=url) as small,
    ):
        body = GOOD | {"power": {"blocks": 2, "steps_per_block": 2, "include": ["chain"]}}
        assert len(small.post("/v1/completions", json=body).json()["choices"][0]["power"]["chain"]) == 4
        assert_error(small.post("/v1/completions", json=body | {"n": 2}), 422)


@pytest.mark.parametrize(
    "text", [" \n\t", "a\0b", "e\u0301\u202eעברית", "<|im_end|><|endoftext|><eos>", "🎲" * 100, "x" * 20_000]
)
def test_odd_texts_are_answered_in_chat_too(http: httpx.Client, text: str) -> None:
    messages = [{"role": role, "content": text} for role in ("system", "user", "assistant", "user")]
    reply = http.post(CHAT, json=PLAIN | {"messages": messages, "max_tokens": 2})

    assert reply.status_code == 200 or reply.json()["error"]["code"] == "context_length_exceeded"
    assert_still_answers(http)


def test_the_same_seed_many_times_at_once_gives_the_same_chat(http: httpx.Client) -> None:
    body = PLAIN | {"messages": [{"role": "user", "content": "a"}], "max_tokens": 4, "n": 8, "power": GOOD["power"]}

    def answers(_: int) -> list[str]:
        return [choice["message"]["content"] for choice in http.post(CHAT, json=body).json()["choices"]]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(answers, range(8)))
    assert all(each == found[0] for each in found)


class NanEngine(FaultyEngine):
    """An engine whose numbers are not numbers once a response has `after` tokens, and in every score."""

    after = 0

    async def propose(self, request: Any) -> Segment:
        """Draw, and spoil."""
        segment = await super().propose(request)
        tokens = [
            token if request.position + i < self.after else token._replace(log_p=math.nan, log_mass=-math.inf)
            for i, token in enumerate(segment.tokens)
        ]
        return replace(segment, tokens=tuple(tokens))

    async def score(self, ids: Sequence[int], start: int, head: int = 0) -> Any:
        """Score, and spoil."""
        tokens, rows = await super().score(ids, start, head)
        spoilt = [replace(row, log_norm=math.nan) for row in rows]
        return [token._replace(log_p=math.nan) for token in tokens], spoilt


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("route", ["/v1/completions", CHAT])
def test_numbers_that_are_none_are_null_in_every_reply(route: str, stream: bool) -> None:
    if route == CHAT:
        body: dict[str, Any] = {"messages": [{"role": "user", "content": "a"}], "logprobs": True, "top_logprobs": 2}
    else:
        body = {"prompt": [0, 1, 0], "logprobs": 2, "echo": True}
    with serving(NanEngine(endless_table())) as url, httpx.Client(base_url=url, timeout=30) as http:
        reply = http.post(route, json=PLAIN | body | {"max_tokens": 3, "stream": stream})
    assert reply.status_code == 200, reply.text[:300]
    chunks = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith(("data: {", "{"))]
    parsed = [json.loads(chunk, parse_constant=lambda name: pytest.fail(f"{name} in a reply")) for chunk in chunks]
    found = [c["logprobs"] for each in parsed for c in each["choices"] if c["logprobs"] is not None]
    assert found
    assert "null" in reply.text


@pytest.mark.parametrize("name", ["blocks", "steps_per_block", "early_rejection", "mode", "include", "particles"])
def test_null_is_no_number_of_the_power_object(http: httpx.Client, name: str) -> None:
    error = assert_error(http.post("/v1/completions", json=GOOD | {"power": {name: None}}), 422)

    assert error["param"] == f"power.{name}"
    assert_still_answers(http)
