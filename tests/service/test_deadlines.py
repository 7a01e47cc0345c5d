"""Deadlines count from arrival: the server's is an error with what was reached, a client's own is an answer."""

import asyncio
import time
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from sampler.errors import EngineError
from sampler.methods import METHODS, POWER_METHODS
from service.api.requests import CompletionRequest
from service.call import Call
from service.errors import ApiError
from service.patience import Patience
from service.runner import Runner
from service.settings import Settings
from tests.service.checks import GOOD
from tests.service.faulty import EncodingEngine, FaultyEngine
from tests.service.serving import metric, serving, wait_until
from tests.service.tables import letters_table

LONG_CHAIN: dict[str, Any] = {"alpha": 1, "blocks": 2, "steps_per_block": 1000, "memo_tree": False}


def error_of(reply: httpx.Response, status: int) -> dict[str, Any]:
    """The error of a reply, which may say what was reached."""
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error.keys() - {"reached"} == {"message", "type", "param", "code"}
    return error


@pytest.mark.slow
def test_a_request_that_runs_too_long_is_504_with_what_it_reached() -> None:
    engine = FaultyEngine(letters_table(), delay_s=0.01)
    with serving(engine, Settings(request_timeout_s=1.5)) as url, httpx.Client(base_url=url, timeout=60) as http:
        error = error_of(http.post("/v1/completions", json=GOOD | {"n": 2, "power": LONG_CHAIN}), 504)
        assert error["code"] == "timeout"
        assert "1.5 s" in error["message"]
        reached = error["reached"]
        assert (reached["state"], reached["answers"], reached["answers_finished"]) == ("running", 2, 0)
        assert 1 <= reached["stage"] <= reached["stages"] == 2
        assert 1 <= reached["steps"] < 4000
        assert reached["generated_tokens"] >= 1
        wait_until(lambda: engine.in_flight == 0, "the engine to be freed")
        assert http.post("/v1/completions", json=GOOD).status_code == 200


def test_a_client_s_deadline_that_passes_in_the_queue_is_an_answer_of_nothing() -> None:
    engine = FaultyEngine(letters_table(), delay_s=600.0)
    with (
        serving(engine, Settings(max_running_requests=1)) as url,
        httpx.Client(base_url=url, timeout=60) as http,
        http.stream("POST", "/v1/completions", json=GOOD | {"stream": True}),
    ):
        wait_until(lambda: engine.in_flight == 1, "the first to run")
        power = GOOD["power"] | {"deadline_s": 0.3}
        reply = http.post("/v1/completions", json=GOOD | {"n": 2, "power": power})
        assert reply.status_code == 200
        for choice in reply.json()["choices"]:
            assert (choice["text"], choice["finish_reason"]) == ("", "length")
            assert (choice["power"]["ended_by"], choice["power"]["stage"]) == ("deadline", 0)
        assert engine.calls == 1, "nothing was drawn for it"
        assert metric(url, "vllm:num_requests_waiting") == 0


@pytest.mark.slow
def test_the_server_s_deadline_covers_the_queue() -> None:
    engine = FaultyEngine(letters_table(), delay_s=600.0)
    limits = Settings(max_running_requests=1, request_timeout_s=1.0)
    with serving(engine, limits) as url, httpx.Client(base_url=url, timeout=60) as http:
        with http.stream("POST", "/v1/completions", json=GOOD | {"stream": True}) as running:
            wait_until(lambda: engine.in_flight == 1, "the first to run")
            engine.delay_s = 600.0
            error = error_of(http.post("/v1/completions", json=GOOD), 504)
            assert error["reached"]["generated_tokens"] == 0
            last = running.read().decode().strip().splitlines()[-1]
            assert '"timeout"' in last, "the stream ended with its own error"
        wait_until(lambda: engine.in_flight == 0, "the engine to be freed")


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_the_server_s_deadline_covers_the_encoding_of_the_prompt(stream: bool) -> None:
    engine = EncodingEngine(letters_table())
    with serving(engine, Settings(request_timeout_s=0.5)) as url:
        try:
            reply = httpx.post(f"{url}/v1/completions", json=GOOD | {"stream": stream}, timeout=60)
            assert engine.held.waiting == 1, "it did not wait for the tokenizer"
        finally:
            engine.held.let_go.set()
        assert error_of(reply, 504)["code"] == "timeout"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "include"),
    [(method, []) for method in POWER_METHODS]
    + [(method, ["diagnostics", "chain"]) for method in POWER_METHODS if "include" in METHODS[method].fields],
)
def test_an_answer_that_never_began_has_every_field_of_its_method(method: str, include: list[str]) -> None:
    engine = FaultyEngine(letters_table(), delay_s=600.0)
    with (
        serving(engine, Settings(max_running_requests=1)) as url,
        httpx.Client(base_url=url, timeout=60) as http,
        http.stream("POST", "/v1/completions", json=GOOD | {"stream": True}),
    ):
        wait_until(lambda: engine.in_flight == 1, "the first to run")
        power = {"method": method, "deadline_s": 0.01} | ({"include": include} if include else {})
        for extra in ({}, {"logprobs": 2}, {"n": 4}):
            reply = http.post("/v1/completions", json=GOOD | {"power": power} | extra)
            assert reply.status_code == 200, reply.text
            data = reply.json()
            assert data["usage"]["completion_tokens"] == data["usage"]["power"]["generated_tokens"] == 0
            assert all(choice["power"]["ended_by"] == "deadline" for choice in data["choices"])
        stream = http.post("/v1/completions", json=GOOD | {"power": power, "stream": True})
        assert stream.text.strip().endswith("data: [DONE]")


@pytest.mark.slow
def test_a_client_s_deadline_counts_from_arrival() -> None:
    engine = FaultyEngine(letters_table(), delay_s=0.01)
    limits = Settings(max_running_requests=1)
    with serving(engine, limits) as url, httpx.Client(base_url=url, timeout=60) as http:
        first = GOOD | {"stream": True, "power": LONG_CHAIN | {"deadline_s": 1.0}}
        with http.stream("POST", "/v1/completions", json=first) as running:
            wait_until(lambda: engine.in_flight == 1, "the first to run")
            start = time.monotonic()
            reply = http.post("/v1/completions", json=GOOD | {"power": LONG_CHAIN | {"deadline_s": 2.0}})
            waited = time.monotonic() - start
            running.read()
        (choice,) = reply.json()["choices"]
        assert choice["power"]["ended_by"] == "deadline"
        assert choice["power"]["steps"] > 0, "it ran for what was left"
        assert waited >= 2.0, "and no shorter than asked for"


def test_a_client_may_shorten_the_server_s_deadline_but_not_lengthen_it() -> None:
    with (
        serving(FaultyEngine(letters_table()), Settings(request_timeout_s=5)) as url,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        power = GOOD["power"] | {"deadline_s": 5.5}
        error = error_of(http.post("/v1/completions", json=GOOD | {"power": power}), 422)
        assert error["param"] == "power.deadline_s"
        assert "at most 5" in error["message"]
        assert http.post("/v1/completions", json=GOOD | {"power": power | {"deadline_s": 5}}).status_code == 200


async def test_a_stream_s_deadline_does_not_wait_for_its_reader() -> None:
    engine = FaultyEngine(letters_table(), delay_s=0.01)
    runner = Runner(engine, Settings()).serving(Call(timeout_s=0.5))
    asked = CompletionRequest.model_validate(GOOD | {"stream": True, "power": LONG_CHAIN | {"stream_events": True}})
    async with aclosing(runner.follow(await runner.plan(asked))) as updates:
        await anext(updates)
        async with asyncio.timeout(10):  # the chain would run for longer
            while engine.in_flight or runner.in_flight:
                await asyncio.sleep(0.05)
        with pytest.raises(ApiError) as caught:
            async for _ in updates:
                pass
    assert (caught.value.status, caught.value.code) == (504, "timeout")


# The waiting itself.


def patience(timeout_s: float | None, deadline_s: float | None = None) -> Patience:
    return Patience(Call(timeout_s=timeout_s), deadline_s)


async def never() -> None:
    await asyncio.Event().wait()


async def test_work_that_is_done_in_time_is_returned() -> None:
    async def work() -> int:
        return 3

    assert await patience(5).wait(work()) == 3
    assert await patience(None).wait(work()) == 3


async def test_the_hard_deadline_is_504_and_the_soft_one_a_timeout() -> None:
    with pytest.raises(ApiError) as caught:
        await patience(0.01).wait(never())
    assert caught.value.status == 504
    waiting = patience(5, deadline_s=0.01)
    with pytest.raises(TimeoutError):
        await waiting.wait(never(), waiting.soft)


async def test_a_timeout_of_the_work_itself_is_no_deadline() -> None:
    async def work() -> None:
        raise TimeoutError("the work's own")

    with pytest.raises(TimeoutError, match="own"):
        await patience(5).wait(work())

    async def fail() -> None:
        raise EngineError("x")

    with pytest.raises(EngineError):
        await patience(5).wait(fail())


async def test_a_cut_ends_the_wait_at_once_and_every_later_one() -> None:
    waiting = patience(60)
    asyncio.get_running_loop().call_later(0.01, waiting.call.cut)
    with pytest.raises(ApiError) as caught:
        await waiting.wait(never())
    assert (caught.value.status, caught.value.code) == (503, "shutting_down")
    with pytest.raises(ApiError):
        await waiting.wait(never())


async def test_a_cut_in_the_same_turn_of_the_loop_as_the_deadline_raises_nothing() -> None:
    loop, wrong = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: wrong.append(context))
    waiting = patience(0.3)
    assert waiting.hard is not None
    loop.call_at(waiting.hard - 0.2, time.sleep, 0.25)  # both are due when the loop is back
    loop.call_at(waiting.hard + 0.002, waiting.call.cut)
    with pytest.raises(ApiError) as caught:
        await waiting.wait(never())
    assert (caught.value.status, wrong) == (503, [])
