"""A stream says something while it waits, and never ends in silence."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from sampler.errors import EngineDead, EngineError
from service.settings import Settings
from tests.service.checks import GOOD, assert_still_answers
from tests.service.faulty import FaultyEngine, ThreadEngine
from tests.service.serving import serving
from tests.service.tables import endless_table, letters_table

STREAM = GOOD | {"stream": True}


def lines(http: httpx.Client, request: dict[str, Any]) -> Iterator[str]:
    """The lines of a stream that say something."""
    with http.stream("POST", "/v1/completions", json=request) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        yield from (line for line in reply.iter_lines() if line)


def test_a_stream_is_chunks_and_then_done(http: httpx.Client) -> None:
    *chunks, done = lines(http, STREAM | {"n": 3})

    assert done == "data: [DONE]"
    parsed = [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]
    assert sorted(chunk["choices"][0]["index"] for chunk in parsed) == [0, 1, 2]
    assert all(chunk["object"] == "text_completion" for chunk in parsed)
    assert not any("usage" in chunk for chunk in parsed)


def test_usage_comes_last_when_asked_for(http: httpx.Client) -> None:
    *chunks, usage, _ = lines(http, STREAM | {"n": 2, "stream_options": {"include_usage": True}})

    assert all(json.loads(chunk.removeprefix("data: "))["usage"] is None for chunk in chunks)
    last = json.loads(usage.removeprefix("data: "))
    assert last["choices"] == []
    assert last["usage"]["power"]["steps"] == 4


def test_a_stream_that_waits_sends_comments() -> None:
    engine = FaultyEngine(letters_table(), delay_s=0.2)
    with (
        serving(engine, Settings(keepalive_s=0.02)) as url,
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        received = list(lines(http, STREAM | {"power": None}))

    assert received[0].startswith(":")
    assert received[-1] == "data: [DONE]"
    assert len([line for line in received if line.startswith("data: ")]) > 1


def test_openai_reads_over_the_comments() -> None:
    engine = FaultyEngine(letters_table(), delay_s=0.1)
    with (
        serving(engine, Settings(keepalive_s=0.01)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
        client.completions.create(model="letters", prompt="a", max_tokens=2, stream=True) as stream,
    ):
        assert [chunk.choices[0].finish_reason for chunk in stream][-1] in {"stop", "length"}


@pytest.mark.slow
@pytest.mark.parametrize("failure", [EngineError("the model failed"), EngineDead("gone"), RuntimeError("secret")])
def test_a_stream_whose_engine_fails_ends_with_an_error_that_openai_raises(failure: Exception) -> None:
    engine = FaultyEngine(letters_table(), fail=lambda call: failure if call > 1 else None)
    with (
        serving(engine) as url,
        httpx.Client(base_url=url, timeout=30) as http,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        with (
            client.completions.create(model="letters", prompt=["a", "b"], max_tokens=1, stream=True) as stream,
            pytest.raises(openai.APIError) as caught,
        ):
            list(stream)
        assert "secret" not in str(caught.value)
        assert (caught.value.body or {})["type"] == "server_error"  # type: ignore[index]

        *_, last = lines(http, STREAM)
        assert json.loads(last.removeprefix("data: ")).keys() == {"error"}
        engine.fail = lambda call: None
        assert_still_answers(http)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [None, "yz", ["zzz", "yx"]], ids=str)
def test_plain_text_comes_as_it_is_drawn_and_nothing_is_taken_back(stop: Any) -> None:
    engine = ThreadEngine(endless_table(), token_s=0.01)
    request = {"model": "letters", "prompt": "a", "max_tokens": 24, "seed": 3, "n": 2, "stop": stop}
    with serving(engine) as url, httpx.Client(base_url=url, timeout=30) as http:
        whole = http.post("/v1/completions", json=request).json()["choices"]
        *chunks, _ = lines(http, request | {"stream": True})
    choices = [json.loads(chunk.removeprefix("data: "))["choices"][0] for chunk in chunks]
    for i in range(2):
        mine = [choice for choice in choices if choice["index"] == i]
        assert "".join(choice["text"] for choice in mine) == whole[i]["text"]
        assert [choice["finish_reason"] for choice in mine[:-1]] == [None] * (len(mine) - 1)
        assert mine[-1]["finish_reason"] == whole[i]["finish_reason"]
    assert len(choices) > 3, "in pieces"


def test_the_first_text_comes_while_the_rest_is_drawn() -> None:
    engine = ThreadEngine(endless_table(), token_s=0.05)
    request = STREAM | {"power": None, "max_tokens": 40}
    with serving(engine) as url, httpx.Client(base_url=url, timeout=30) as http:
        for line in lines(http, request):
            if line.startswith("data: "):
                assert engine.in_flight == 1
                break


def test_logprobs_of_a_plain_stream_come_with_the_whole_answer(http: httpx.Client) -> None:
    request = GOOD | {"power": None, "logprobs": 1, "n": 3}
    whole = http.post("/v1/completions", json=request).json()["choices"]
    *chunks, _ = lines(http, request | {"stream": True})

    found = [json.loads(chunk.removeprefix("data: "))["choices"][0] for chunk in chunks]
    assert sorted(found, key=lambda choice: choice["index"]) == whole
