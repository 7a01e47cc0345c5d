"""Failures of the engine are errors with the right status that tell nothing of its insides; the server lives on."""

import json
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import pytest

from sampler import errors
from tests.service.checks import GOOD, assert_error, assert_still_answers
from tests.service.faulty import FaultyEngine
from tests.service.serving import metric, serving, wait_until
from tests.service.tables import letters_table

SECRET = "0x7f00dead"
LONG_CHAIN = {"alpha": 1, "blocks": 4, "steps_per_block": 1000}
STATUSES: dict[str, tuple[Exception, int, str]] = {
    "error": (errors.EngineError("the model failed: ValueError"), 500, "engine_error"),
    "dead": (errors.EngineDead("the engine has been closed"), 503, "engine_dead"),
    "overloaded": (errors.EngineOverloaded("no room now"), 429, "engine_overloaded"),
    "memory": (errors.EngineOutOfMemory("the model ran out of memory"), 503, "out_of_memory"),
    "numerical": (errors.NumericalError("the model's logits hold NaN"), 500, "numerical_error"),
    "bug": (RuntimeError(f"<object at {SECRET}>"), 500, "internal_error"),
    "key": (KeyError(SECRET), 500, "internal_error"),
}


@pytest.mark.slow
@pytest.mark.parametrize("power", [None, GOOD["power"]], ids=["standard", "power"])
@pytest.mark.parametrize("name", STATUSES)
def test_a_failing_engine_has_its_status_and_the_server_answers_after(name: str, power: dict[str, Any] | None) -> None:
    failure, status, code = STATUSES[name]
    engine = FaultyEngine(letters_table(), fail=lambda call: failure)
    with serving(engine) as url, httpx.Client(base_url=url, timeout=30) as http:
        reply = http.post("/v1/completions", json=GOOD | {"power": power})

        error = assert_error(reply, status)
        assert error["code"] == code
        assert SECRET not in reply.text
        assert error["type"] == ("rate_limit_error" if status == 429 else "server_error")
        engine.fail = lambda call: None
        assert_still_answers(http)


@pytest.mark.slow
def test_an_unexpected_error_does_not_cost_the_connection() -> None:
    engine = FaultyEngine(letters_table(), fail=lambda call: RuntimeError() if call % 2 else None)
    with serving(engine) as url, httpx.Client(base_url=url, timeout=30) as http:
        for _ in range(20):
            assert_error(http.post("/v1/completions", json=GOOD | {"power": None}), 500)
            assert http.post("/v1/completions", json=GOOD | {"power": None}).status_code == 200


def only(bad: int) -> Callable[[int], Exception | None]:
    """Failures at one call."""
    return lambda call: errors.EngineError("once") if call == bad else None


@pytest.mark.slow
@pytest.mark.parametrize("bad", range(1, 6))
def test_one_failed_call_is_asked_again_and_changes_no_answer(bad: int) -> None:
    engine = FaultyEngine(letters_table(), fail=only(bad))
    request = GOOD | {"power": {"alpha": 1, "blocks": 1, "steps_per_block": 20}}
    with serving(engine) as url, httpx.Client(base_url=url, timeout=30) as http:
        disturbed = http.post("/v1/completions", json=request).json()
        assert engine.calls > bad
        calm = http.post("/v1/completions", json=request).json()

    assert disturbed["choices"] == calm["choices"]


@pytest.mark.slow
def test_when_one_chain_fails_the_others_are_cancelled() -> None:
    engine = FaultyEngine(letters_table(), fail=lambda call: RuntimeError() if call == 1 else None)
    request = GOOD | {"n": 16, "power": {"alpha": 1, "blocks": 1, "steps_per_block": 1000}}
    with serving(engine) as url, httpx.Client(base_url=url, timeout=30) as http:
        assert_error(http.post("/v1/completions", json=request), 500)
        assert engine.in_flight == 0
        assert engine.calls < 16 * 1000
        assert_still_answers(http)


def test_openai_raises_its_own_errors_for_them() -> None:
    engine = FaultyEngine(letters_table(), fail=lambda call: errors.EngineOverloaded("no room now"))
    with serving(engine) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.RateLimitError):
            client.completions.create(model="letters", prompt="a")
        engine.fail = lambda call: errors.EngineDead("gone")
        with pytest.raises(openai.InternalServerError) as caught:
            client.completions.create(model="letters", prompt="a")
        assert caught.value.status_code == 503


def test_readyz_and_a_gauge_tell_a_dead_engine_and_livez_does_not_care() -> None:
    engine = FaultyEngine(letters_table())
    with serving(engine) as url, httpx.Client(base_url=url, timeout=30) as http:
        assert http.get("/readyz").status_code == 200
        assert metric(url, "powercut:engine_alive") == 1
        engine.is_alive = False
        assert http.get("/readyz").status_code == 503
        assert http.get("/livez").status_code == 200
        assert metric(url, "powercut:engine_alive") == 0, "what an alert asks where nobody asks /readyz"


def test_health_answers_while_the_engine_is_busy() -> None:
    engine = FaultyEngine(letters_table(), delay_s=600.0)
    with (
        serving(engine) as url,
        httpx.Client(base_url=url, timeout=30) as http,
        http.stream("POST", "/v1/completions", json=GOOD | {"stream": True}),
    ):
        wait_until(lambda: engine.in_flight == 1, "the request to reach the engine")
        for path in ("/livez", "/readyz", "/v1/models"):
            assert httpx.get(f"{url}{path}", timeout=30).status_code == 200
        assert engine.in_flight == 1


@pytest.mark.slow
def test_health_answers_while_long_chains_run() -> None:
    """A chain may cost the engine nothing for thousands of steps; it must let others have the loop all the same."""
    engine = FaultyEngine(letters_table())
    with serving(engine) as url, posted(url, GOOD | {"n": 128, "power": LONG_CHAIN}) as connection:
        wait_until(lambda: engine.calls > 0, "the chains to begin")
        for _ in range(3):
            assert httpx.get(f"{url}/livez", timeout=30).status_code == 200
        answered, _, _ = select.select([connection], [], [], 0)
        assert not answered, "the chains still run, for minutes"


@contextmanager
def posted(url: str, body: dict[str, Any]) -> Iterator[socket.socket]:
    """A completion asked for on a bare connection, which shows whether an answer has begun to come."""
    host, port = url.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        yield connection


@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["x" * 28, [0] * 28], ids=["text", "ids"])
def test_a_prompt_exactly_at_the_context_is_answered_and_one_over_refused(prompt: str | list[int]) -> None:
    with (
        serving(FaultyEngine(letters_table(), context=32)) as url,
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        assert http.post("/v1/completions", json=GOOD | {"prompt": prompt}).status_code == 200
        over = http.post("/v1/completions", json=GOOD | {"prompt": prompt + prompt[:1]})  # type: ignore[operator]
        error = assert_error(over, 400)
        assert error["code"] == "context_length_exceeded"
        assert all(number in error["message"] for number in ("29", "4", "32"))
