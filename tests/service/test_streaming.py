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
from tests.service.faulty import FaultyEngine
from tests.service.serving import serving
from tests.service.tables import letters_table

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
