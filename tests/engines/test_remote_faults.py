"""Whatever a server does, every caller gets an answer or an error within its deadline, and the next call works."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from sampler.engines.remote.client import Patience, retry_after
from sampler.engines.remote.engine import RemoteEngine
from sampler.errors import EngineError, EngineOutOfMemory, EngineOverloaded, InvalidParams
from sampler.params import PowerParams
from tests.engines.fake_vllm import Broken, FakeVLLM, error, running
from tests.engines.remotes import ask, many, remote, until, wide_table
from tests.exact.checks import make_chain, same_trace

BRISK = Patience(connect_s=30, read_s=30, retries=2, backoff_s=0.01, retry_after_s=0.3)
HASTY = replace(BRISK, read_s=3.0)
"""For servers that say nothing of use."""
WAITS = ask(12, 1, 20, eos_ids=frozenset())


@pytest.fixture
def fake() -> Iterator[FakeVLLM]:
    with running(FakeVLLM(wide_table())) as server:
        yield server


def busy(status: int, **headers: str) -> Callable[[HttpRequest], Response]:
    return lambda request: error(status, "busy\nnow " + "x" * 900, **headers)


def sends(*parts: bytes, kind: str = "text/event-stream") -> Callable[[HttpRequest], Response]:
    async def body() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    return lambda request: StreamingResponse(body(), media_type=kind)


async def hang() -> None:
    await asyncio.sleep(600)


async def hang_before(request: HttpRequest) -> Response:
    await asyncio.sleep(600)
    return PlainTextResponse("")


async def comments() -> AsyncIterator[bytes]:
    while True:
        yield b": still here\n\n"
        await asyncio.sleep(0.05)


async def half_a_line() -> AsyncIterator[bytes]:
    while True:
        yield b"data: {"
        await asyncio.sleep(0.05)


def tear() -> None:
    raise Broken


async def fails(engine: RemoteEngine, fake: FakeVLLM, kind: type[Exception], words: str, limit_s: float = 20.0) -> None:
    """The call fails within the limit with a clear line, and the same call then works and equals a quiet one."""
    start = time.monotonic()
    with pytest.raises(kind, match=words) as caught:
        await engine.propose(WAITS)
    assert time.monotonic() - start < limit_s
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)
    await until(lambda: fake.running == 0)
    again, quiet = await engine.propose(WAITS), await engine.propose(WAITS)
    assert again.tokens == quiet.tokens
    assert engine.room() == engine._slots.limit


@pytest.mark.slow
@pytest.mark.parametrize("status", [429, 503])
async def test_a_full_server_is_asked_again_after_the_time_it_names(fake: FakeVLLM, status: int) -> None:
    async with remote(fake, patience=BRISK) as engine:
        quiet = await engine.propose(WAITS)
        fake.calls.clear()
        fake.faults.extend([busy(status, retry_after="0.2"), busy(status)])
        start = time.monotonic()
        segment = await engine.propose(WAITS)
        assert time.monotonic() - start > 0.2
        assert segment.tokens == quiet.tokens
        assert fake.calls[0] == fake.calls[1] == fake.calls[2]
        assert engine.client.retried == 2


@pytest.mark.slow
async def test_a_server_that_stays_full_is_given_up_and_long_waits_are_capped(fake: FakeVLLM) -> None:
    async with remote(fake, patience=BRISK) as engine:
        fake.faults.extend([busy(429, retry_after="3600")] * 3)
        await fails(engine, fake, EngineOverloaded, "no room .*429")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "message", "kind", "words"),
    [
        (500, "CUDA error", EngineError, "failed .500.: CUDA error"),
        (500, "CUDA out of memory", EngineOutOfMemory, "out of memory"),
        (404, "The model does not exist", EngineError, "refused the call .404."),
        (400, "Requested sample logprobs of 99, which is greater than max allowed", InvalidParams, "max allowed"),
        (401, "Unauthorized", EngineError, "API key"),
        (302, "elsewhere", EngineError, "302"),
    ],
)
async def test_a_refusal_is_said_in_the_servers_words(
    fake: FakeVLLM, status: int, message: str, kind: type[Exception], words: str
) -> None:
    async with remote(fake, patience=BRISK) as engine:
        fake.faults.append(lambda request: error(status, message))
        await fails(engine, fake, kind, words)


async def test_a_support_beyond_the_servers_maximum_is_the_callers_mistake(fake: FakeVLLM) -> None:
    said = b'data: {"error": {"message": "Requested sample logprobs of 24, greater than max allowed: 20"}}\n\n'
    async with remote(fake, patience=BRISK) as engine:
        fake.faults.append(sends(said, b"data: [DONE]\n\n"))
        await fails(engine, fake, InvalidParams, "max allowed: 20")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (sends(b"data: {not json}\n\n"), "not a JSON object"),
        (sends(b"data: [1, 2]\n\n"), "not a JSON object"),
        (sends(b'data: {"object": "text_completion"}\n\n'), "no choices"),
        (sends(b'data: {"choices": [{"token_ids": [1, 2], "logprobs": {}}]}\n\n'), "do not fit together"),
        (sends(b'data: {"choices": [7]}\n\n'), "do not fit together"),
        (sends(b'data: {"error": {"message": "engine died"}}\n\n'), "engine died"),
        (
            sends(
                b'data: {"choices": [{"token_ids": [1], "logprobs": {"token_logprobs": [-1.0], '
                b'"top_logprobs": [{"token_id:1": -1.0}]}}]}\n\n'
            ),
            "1 logprobs of a row instead of 20",
        ),
        (sends(b"data: [DONE]\n\n"), "without saying why"),
        (sends(b""), "closed the connection"),
        (sends(b"<html>hello</html>", kind="text/html"), "text/html"),
        (sends(b'{"choices": []}', kind="application/json"), "application/json"),
    ],
)
async def test_an_answer_that_is_none_is_an_error(fake: FakeVLLM, answer: Any, words: str) -> None:
    async with remote(fake, patience=BRISK) as engine:
        fake.faults.append(answer)
        await fails(engine, fake, EngineError, words)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (tear, "in the middle of"),
        (hang, "nothing of use|stopped in the middle"),
        (comments, "nothing of use"),
        (half_a_line, "nothing of use"),
    ],
)
async def test_an_answer_that_stops_half_way_is_an_error(fake: FakeVLLM, trouble: Any, words: str) -> None:
    async with remote(fake, patience=HASTY) as engine:
        fake.mid.append(trouble)
        await fails(engine, fake, EngineError, words)


@pytest.mark.slow
async def test_a_server_that_never_answers_is_given_up(fake: FakeVLLM) -> None:
    async with remote(fake, patience=HASTY) as engine:
        fake.faults.append(hang_before)
        await fails(engine, fake, EngineError, "did not answer in time")


@pytest.mark.slow
async def test_a_slow_server_that_goes_on_is_waited_for(fake: FakeVLLM) -> None:
    async with remote(fake, patience=HASTY, stream_interval=1) as engine:
        fake.delay_s = 0.35  # twelve of them are longer than it waits for one
        assert len((await engine.propose(WAITS)).tokens) == 12


@pytest.mark.slow
async def test_connections_that_break_before_the_answer_are_asked_again() -> None:
    broken = 0

    async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal broken
        await reader.read(10)
        broken += 1
        writer.close()

    fake = FakeVLLM(wide_table())
    with running(fake):
        port = int(fake.url.rsplit(":", 1)[1])
        manager = remote(fake, patience=BRISK, poll_s=60, unreachable_s=3)
        engine = await manager.__aenter__()
    async with await asyncio.start_server(rude, "127.0.0.1", port):
        with pytest.raises(EngineError, match="broke the connection"):
            await engine.propose(WAITS)
        assert broken == 3
    with pytest.raises(EngineError, match="cannot connect"):
        await engine.propose(WAITS)
    await until(lambda: not engine.alive)
    with running(fake, port):
        assert len((await engine.propose(WAITS)).tokens) == 12
        await until(lambda: engine.alive)
    await manager.__aexit__(None, None, None)


@pytest.mark.slow
async def test_health_decides_whether_the_engine_is_alive_though_nobody_calls(fake: FakeVLLM) -> None:
    async with remote(fake, poll_s=0.05, unreachable_s=0.5) as engine:
        assert engine.alive
        fake.healthy = False
        await until(lambda: not engine.alive)
        fake.healthy = True
        await until(lambda: engine.alive)


@pytest.mark.slow
async def test_every_waiter_gets_its_error_when_the_server_dies() -> None:
    with ExitStack() as stack:
        fake = stack.enter_context(running(FakeVLLM(wide_table(), delay_s=0.02)))
        manager = remote(fake, patience=BRISK, max_rows=4)
        engine = await manager.__aenter__()
        requests = [ask(400, seed, 20, eos_ids=frozenset()) for seed in range(12)]
        waiting = [asyncio.create_task(engine.propose(request)) for request in requests]
        await until(lambda: fake.running == 4)
        await asyncio.to_thread(stack.close)
        async with asyncio.timeout(60):
            results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, EngineError) for result in results)
    assert engine.room() == 4
    await manager.__aexit__(None, None, None)


async def test_a_failing_watcher_harms_its_own_caller_alone(fake: FakeVLLM) -> None:
    def watch(tokens: Any) -> None:
        raise ZeroDivisionError

    async with remote(fake) as engine:
        bad, good = await asyncio.gather(
            engine.propose(ask(8, 1, 20, eos_ids=frozenset(), watch=watch)),
            engine.propose(WAITS),
            return_exceptions=True,
        )
        assert isinstance(bad, ZeroDivisionError)
        assert not isinstance(good, BaseException)
        assert len(good.tokens) == 12
        assert len(await many(engine, [WAITS] * 8)) == 8


@pytest.mark.slow
async def test_a_chain_through_failures_has_the_same_tokens(fake: FakeVLLM) -> None:
    params = PowerParams(16, blocks=2, steps_per_block=4, top_k=20)
    async with remote(fake, patience=HASTY) as engine:
        quiet = await make_chain(engine, params, 7).run()
        fake.mid.extend([tear, hang, tear])
        fake.faults.extend([busy(503), busy(500), busy(429, retry_after="0.1")])
        troubled = await make_chain(engine, params, 7).run()
        assert not fake.mid
    assert same_trace(quiet.trace, troubled.trace)


def test_retry_after_is_read_in_both_forms() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    assert retry_after("1.5") == 1.5
    assert 15 < (retry_after(soon) or 0) < 21
    assert retry_after("-3") == 0
    assert [retry_after(text) for text in (None, "soon", "nan", "")] == [None] * 4
