"""A dead engine answers every waiter at once and says so; nobody hangs."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampler.engine import EngineOptions
from sampler.engines.vllm import load
from sampler.errors import EngineDead, InvalidParams
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PowerParams
from tests.vllm.models import request, tiny_engine


@pytest.fixture
def doomed(checkpoint: Path) -> Iterator[Any]:
    engine = tiny_engine(checkpoint)
    yield engine
    asyncio.run(engine.aclose())


@pytest.mark.parametrize("way", ["raise_after", "kill_after"])
async def test_every_waiter_hears_of_the_death(doomed: Any, way: str) -> None:
    assert len((await doomed.propose(request(tokens=3))).tokens) == 3
    await doomed.backend.call(doomed.backend.llm.collective_rpc(way, args=(20,)))
    start = time.monotonic()
    chain = METHODS["entropy_cut"](Job(doomed, (3, 1, 4), PowerParams(400), seed=1))
    waiters = [doomed.propose(request(tokens=400, key=i, eos_ids=frozenset())) for i in range(40)]  # 32 run, 8 wait
    results = await asyncio.wait_for(asyncio.gather(chain, *waiters, return_exceptions=True), 60)
    took = time.monotonic() - start
    print(f"\n{way}: every waiter answered after {took:.1f} s")
    assert {type(result) for result in results} == {EngineDead}
    assert not doomed.alive
    start = time.monotonic()
    with pytest.raises(EngineDead):
        await doomed.propose(request())
    with pytest.raises(EngineDead):
        await doomed.score([1, 2, 3], 1)
    assert time.monotonic() - start < 5


async def test_short_memory_delays_requests_and_changes_no_token(checkpoint: Path, tiny: Any) -> None:
    """Room for 2,048 tokens' keys and values, asked for 9,600: vLLM puts requests back and computes them again."""
    engine = tiny_engine(checkpoint, kv_cache_memory_bytes=2 << 20)
    requests = [request((i + 10, 3), 300, key=i, eos_ids=frozenset()) for i in range(32)]
    try:
        short = await asyncio.gather(*[engine.propose(one) for one in requests])
        long = await asyncio.gather(*[tiny.propose(one) for one in requests])
        (capacity,) = await engine.backend.call(engine.backend.llm.collective_rpc("capacity"))
        (counters,) = await engine.backend.call(engine.backend.llm.collective_rpc("counters"))
    finally:
        await engine.aclose()
    assert capacity < 3000
    assert all(len(segment.tokens) == 300 for segment in short)
    same = sum([t.id for t in a.tokens] == [t.id for t in b.tokens] for a, b in zip(short, long, strict=True))
    print(f"\n{same} of 32 segments the same with and without a shortage of memory")
    assert same >= 30, "in float32 a draw at an edge may flip, rarely"
    assert tuple(counters) == (0, 0, 0, 0.0)


async def test_closing_answers_whoever_waits(checkpoint: Path) -> None:
    engine = tiny_engine(checkpoint)
    waiters = [asyncio.create_task(engine.propose(request(tokens=450, key=i, eos_ids=frozenset()))) for i in range(4)]
    await asyncio.sleep(0.2)
    await engine.aclose()
    results = await asyncio.wait_for(asyncio.gather(*waiters, return_exceptions=True), 10)
    assert {type(result) for result in results} == {EngineDead}
    assert not engine.alive
    await engine.aclose()


def test_a_model_that_does_not_fit_is_one_clear_line(checkpoint: Path) -> None:
    with pytest.raises(InvalidParams) as caught:
        load(EngineOptions(model=str(checkpoint), kv_cache_bytes=1024), tokenizer=object())  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
