"""Continuous batching: whoever comes, leaves or runs short of memory, each proposal draws what it draws alone."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampler.engine import Priority, Request, Support
from sampler.engines.transformers.engine import TransformersEngine
from sampler.engines.transformers.worker import CHUNK
from sampler.rng import DrawKey
from sampler.trace import End, Segment
from tests.engines.models import tiny_engine

SUPPORTS = [Support(), Support("top_k", top_k=5), Support("top_p", top_p=0.7)]


def request(number: int, prompt: int, tokens: int, **changes: Any) -> Request:
    """Request `number`, with a prompt of so many tokens that it shares with others of that length."""
    ids = tuple((7 * i + 3) % 250 for i in range(prompt))
    key = DrawKey(number.to_bytes(32, "little"))
    return Request(ids, tokens, 1.0 + number % 3, SUPPORTS[number % 3], key, 0, frozenset({7}), **changes)


@pytest.fixture(scope="module")
def shared() -> Any:
    engine = tiny_engine(max_rows=4)
    yield engine
    engine.worker.close()


@pytest.fixture(scope="module")
def alone() -> Any:
    engine = tiny_engine(kv_cache_bytes=0)
    known: dict[tuple[int, int, int], list[int]] = {}

    def tokens(number: int, prompt: int, length: int) -> list[int]:
        place = (number, prompt, length)
        if place not in known:
            segment = asyncio.run(engine.propose(request(number, prompt, length)))
            known[place] = [token.id for token in segment.tokens]
        return known[place]

    yield tokens
    engine.worker.close()


ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 5),  # which request
        st.sampled_from([1, 2, 30, CHUNK + 40, 3 * CHUNK]),  # its prompt
        st.integers(1, 12),  # its tokens
        st.integers(0, 4),  # turns of the loop before it comes
        st.one_of(st.none(), st.integers(0, 30)),  # turns before it is cancelled
    ),
    min_size=1,
    max_size=10,
)


@pytest.mark.slow
@given(ARRIVALS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_of_coming_and_leaving_gives_the_tokens_of_running_alone(
    shared: TransformersEngine, alone: Any, arrivals: list[tuple[int, int, int, int, int | None]]
) -> None:
    async def one(number: int, prompt: int, tokens: int, leaves: int | None) -> Segment | None:
        task = asyncio.ensure_future(shared.propose(request(number, prompt, tokens)))
        if leaves is not None:
            await asyncio.sleep(0.0005 * leaves)
            task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            return None

    async def all_of_them() -> list[Segment | None]:
        tasks: list[asyncio.Task[Segment | None]] = []
        for number, prompt, tokens, wait, leaves in arrivals:
            await asyncio.sleep(0.001 * wait)
            tasks.append(asyncio.create_task(one(number, prompt, tokens, leaves)))
        return list(await asyncio.gather(*tasks))

    segments = asyncio.run(all_of_them())
    for (number, prompt, tokens, _, leaves), segment in zip(arrivals, segments, strict=True):
        if segment is None:
            assert leaves is not None
            continue
        assert [token.id for token in segment.tokens] == alone(number, prompt, tokens)


@pytest.mark.slow
@pytest.mark.parametrize("tokens_of_room", [1, 70, 200, 600])
def test_rows_that_do_not_fit_the_memory_are_computed_again_and_never_fail(tokens_of_room: int, alone: Any) -> None:
    engine = tiny_engine()
    token_bytes = engine.worker.model.cache.token_bytes
    engine.worker.close()
    engine = tiny_engine(kv_cache_bytes=tokens_of_room * token_bytes)

    async def together() -> list[Segment]:
        return list(await asyncio.gather(*[engine.propose(request(n, 30, 60)) for n in range(6)]))

    segments = asyncio.run(together())
    assert [[t.id for t in s.tokens] for s in segments] == [alone(n, 30, 60) for n in range(6)]
    longest = max(30 + len(s.tokens) for s in segments)
    one_row = engine.worker.model.cache.tight_bytes(1, longest)
    assert engine.worker.batch.prefixes.bytes <= engine.worker.batch.kv_bytes
    assert engine.worker.model.cache.buffer_bytes <= max(engine.worker.batch.kv_bytes, one_row)
    engine.worker.close()


def test_a_long_prompt_does_not_stall_running_rows() -> None:
    engine = tiny_engine()
    seen: list[tuple[str, int]] = []

    def watch(name: str) -> Any:
        return lambda tokens: seen.append((name, len(seen)))

    async def both() -> None:
        short = asyncio.create_task(engine.propose(request(0, 2, 60, watch=watch("short"))))
        while not seen:
            await asyncio.sleep(0.001)
        await engine.propose(request(3, 6 * CHUNK, 2, watch=watch("long")))
        await short

    asyncio.run(both())
    first = next(at for name, at in seen if name == "long")
    assert first >= 5, "the short one must go on while the long prompt is computed chunk by chunk"
    engine.worker.close()


def test_the_prompt_of_many_chains_is_computed_once() -> None:
    engine = tiny_engine()
    length = 3 * CHUNK + 5

    async def chains() -> list[Segment]:
        tasks = [asyncio.create_task(engine.propose(request(3 * n, length, 3))) for n in range(8)]
        with engine.worker._wake:  # it begins when all are there
            await asyncio.sleep(0)
        return list(await asyncio.gather(*tasks))

    segments = asyncio.run(chains())
    assert sorted(s.prefix_reused for s in segments)[1:] == [length - 1] * 7
    assert engine.worker.batch.forward_passes <= length // CHUNK + 2 + 3 * 3
    engine.worker.close()


@pytest.mark.slow
def test_a_row_that_draws_ahead_gives_way_to_others() -> None:
    engine = tiny_engine(max_rows=2)

    async def all_of_them() -> tuple[Segment, ...]:
        endless = [replace(request(n, 3, 400, priority=Priority.PREFETCH), eos_ids=frozenset()) for n in (0, 3)]
        ahead = [asyncio.create_task(engine.propose(each)) for each in endless]
        while len(engine.worker.batch.rows) < 2:
            await asyncio.sleep(0.001)
        urgent = await engine.propose(request(1, 2, 4))
        return urgent, *(await asyncio.gather(*ahead))

    urgent, first, second = asyncio.run(all_of_them())
    assert urgent.end in (End.LENGTH, End.EOS)
    assert first.end is not End.CANCELLED, "only as many give way as must"
    assert second.end is End.CANCELLED, "the latest gives way"
    engine.worker.close()


def test_there_is_no_room_while_anybody_waits() -> None:
    engine = tiny_engine(max_rows=2)

    async def fill() -> list[int]:
        tasks = [asyncio.create_task(engine.propose(request(n, 3, 300))) for n in range(4)]
        while len(engine.worker.batch.rows) < 2:
            await asyncio.sleep(0.001)
        rooms = [engine.room()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(60):
            while engine.worker.batch.rows or engine.room() == 0:  # those who waited are dropped a turn later
                await asyncio.sleep(0.001)
        return [*rooms, engine.room()]

    assert asyncio.run(fill()) == [0, 2]
    engine.worker.close()
