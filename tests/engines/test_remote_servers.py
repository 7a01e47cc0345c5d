"""Which server a chain talks to, and what becomes of calls that are cancelled, closed, preempted or refused."""

import asyncio
from collections.abc import Callable

import pytest

from sampler.engine import Priority, Request, Support
from sampler.errors import ContextExceeded, EngineDead, InvalidParams
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PowerParams
from sampler.trace import End
from tests.engines.fake_vllm import FakeVLLM, running
from tests.engines.remotes import NAMES, ask, many, remote, until, wide_table
from tests.exact.models import EndlessEngine, random_engine


async def test_chains_stay_with_one_server_and_move_only_while_it_is_away(serve: Callable[..., FakeVLLM]) -> None:
    table = random_engine(8, 4)
    one, two = serve(table), serve(table)
    async with remote(one, two, poll_s=0.05) as engine:
        names = [f"chain {i}" for i in range(40)]
        for _ in range(2):
            await many(engine, [ask(affinity=name) for name in names])
        assert len(one.calls) + len(two.calls) == 80
        assert 10 < len(one.calls) < 70
        assert len(one.calls) % 2 == 0
        mine = [name for name in names if engine.client.servers.order(name)[0] == one.url]
        assert len(mine) * 2 == len(one.calls)
        one.healthy = False
        await until(lambda: engine.client.servers.order(mine[0])[0] == two.url)
        assert engine.alive
        one.healthy = True
        await until(lambda: engine.client.servers.order(mine[0])[0] == one.url)


async def test_a_server_that_cannot_be_connected_gives_its_chains_to_the_next(serve: Callable[..., FakeVLLM]) -> None:
    table = random_engine(8, 4)
    one, two = serve(table), FakeVLLM(table)
    with running(two):
        manager = remote(one, two, poll_s=60)
        engine = await manager.__aenter__()
    name = next(f"{i}" for i in range(99) if engine.client.servers.order(f"{i}")[0] == two.url)
    segments = [await engine.propose(ask(seed=1, affinity=name)) for _ in range(2)]
    assert len(one.calls) == 2
    assert segments[0].tokens == segments[1].tokens
    await manager.__aexit__(None, None, None)


async def test_cancelling_closes_the_connection_and_frees_the_slot(serve: Callable[..., FakeVLLM]) -> None:
    fake = serve(wide_table(), delay_s=0.01)
    async with remote(fake, max_rows=3) as engine:
        waiting = [asyncio.create_task(engine.propose(ask(400, i, 20, eos_ids=frozenset()))) for i in range(5)]
        await until(lambda: fake.running == 3)
        assert engine.room() == 0
        for task in waiting:
            task.cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        assert engine.room() == 3
        await until(lambda: fake.running == 0)
        assert fake.left_early == 3
        assert len((await engine.propose(ask(4, 1, 20, eos_ids=frozenset()))).tokens) == 4


async def test_closing_answers_whoever_waits_and_refuses_later_calls(serve: Callable[..., FakeVLLM]) -> None:
    fake = serve(wide_table(), delay_s=0.01)
    async with remote(fake, max_rows=2) as engine:
        waiting = [asyncio.create_task(engine.propose(ask(400, i, 20, eos_ids=frozenset()))) for i in range(4)]
        await until(lambda: fake.running == 2)
        await engine.aclose()
        assert all(isinstance(r, EngineDead) for r in await asyncio.gather(*waiting, return_exceptions=True))
        assert not engine.alive
        with pytest.raises(EngineDead):
            await engine.propose(ask(top_k=20))
    await until(lambda: fake.running == 0)


async def test_who_draws_ahead_makes_way(serve: Callable[..., FakeVLLM]) -> None:
    fake = serve(wide_table(), delay_s=0.01)
    async with remote(fake, max_rows=1, stream_interval=1) as engine:
        long = ask(400, 1, 20, eos_ids=frozenset(), priority=Priority.PREFETCH)
        ahead = asyncio.create_task(engine.propose(long))
        await until(lambda: fake.running == 1)
        urgent = await engine.propose(ask(3, 2, 20, eos_ids=frozenset()))
        assert len(urgent.tokens) == 3
        segment = await ahead
        assert segment.end is End.CANCELLED
        assert len(segment.tokens) < 300


async def test_the_memo_tree_and_prefetch_work_on_top(serve: Callable[..., FakeVLLM]) -> None:
    table = EndlessEngine(1, NAMES, concentration=0.1)
    async with remote(serve(table)) as engine:
        job = Job(engine, (0,), PowerParams(32, blocks=2, steps_per_block=6, top_k=20), 3)
        first, second = await METHODS["entropy_cut"](job), await METHODS["entropy_cut"](job)
    assert first.usage.free_tokens > 0
    assert first.trace.ids == second.trace.ids


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (ask(ids=()), InvalidParams),
        (ask(ids=(24,)), InvalidParams),
        (ask(600), ContextExceeded),
        (ask(top_k=19), InvalidParams),
        (ask(top_k=20, alpha=101.0), InvalidParams),
        (ask(support=Support()), InvalidParams),
    ],
)
async def test_a_request_that_cannot_run_is_refused(
    serve: Callable[..., FakeVLLM], bad: Request, error: type[Exception]
) -> None:
    fake = serve(wide_table())
    async with remote(fake) as engine:
        with pytest.raises(error):
            await engine.propose(bad)
    assert fake.calls == []
