"""Under random work, a third of it cancelled half-way, nothing is left behind: no row, no key or value, no task."""

import asyncio
import gc
import random
import time
from pathlib import Path

import pytest

from sampler.engines.transformers.engine import TransformersEngine
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PlainParams, PowerParams
from sampler.tree import MemoTree
from tests.engines.models import tiny_engine

KV_BYTES = 4 << 20
CALLERS = 12
GROWTH_BYTES = 48 << 20
"""What the process may grow by after a fifth of the time: allocators keep what they once had."""


def resident_bytes() -> int:
    """Memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def random_job(engine: TransformersEngine, rng: random.Random) -> tuple[str, Job]:
    """A chain or a plain request, on one of a few prompts."""
    prompt = tuple(range(10 * (start := rng.randrange(20)), 10 * start + rng.choice([1, 5, 40, 200]), 1))
    prompt = tuple(token % 250 for token in prompt)
    tokens = rng.randrange(1, 40)
    if rng.random() < 0.3:
        return "standard", Job(engine, prompt, PlainParams(tokens, temperature=rng.random()), rng.getrandbits(60))
    params = PowerParams(
        tokens,
        alpha=2.0,
        blocks=rng.randrange(1, 4),
        steps_per_block=rng.randrange(0, 8),
        top_k=rng.choice([None, 5, 50]),
        memo_tree=rng.random() < 0.8,
        prefetch=rng.random() < 0.5,
    )
    tree = MemoTree(rng.choice([0, 20_000, 1 << 20]))
    return rng.choice(["entropy_cut", "uniform_cut"]), Job(engine, prompt, params, rng.getrandbits(60), tree=tree)


async def caller(engine: TransformersEngine, rng: random.Random, until: float, counts: dict[str, int]) -> None:
    """One client after another, 30 % of whom leave before their answer is there."""
    while time.monotonic() < until:
        method, job = random_job(engine, rng)
        task = asyncio.ensure_future(METHODS[method](job))
        if rng.random() < 0.3:
            await asyncio.sleep(rng.random() * 0.05)
            task.cancel()
        try:
            answer = await task
            assert 1 <= len(answer.trace) <= job.params.max_tokens
            counts["answered"] += 1
        except asyncio.CancelledError:
            counts["cancelled"] += 1


async def soak(engine: TransformersEngine, seconds: float) -> tuple[dict[str, int], int]:
    """Run for so long; counts, and how much the process grew after the first fifth."""
    counts = {"answered": 0, "cancelled": 0}
    start = time.monotonic()
    base = 0
    for share, until in ((0, start + seconds / 5), (1, start + seconds)):
        seeds = [random.Random(100 * share + i) for i in range(CALLERS)]
        await asyncio.gather(*[caller(engine, rng, until, counts) for rng in seeds])
        gc.collect()
        base = base or resident_bytes()
    while engine.worker.batch.rows or engine.room() < engine.worker.batch.max_rows:
        await asyncio.sleep(0.001)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return counts, resident_bytes() - base


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(60, marks=pytest.mark.slow),
        pytest.param(600, marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
)
def test_nothing_is_left_behind(seconds: int) -> None:
    engine = tiny_engine(max_rows=8, kv_cache_bytes=KV_BYTES)
    counts, grown = asyncio.run(soak(engine, seconds))
    print(f"\n{seconds} s: {counts}, grew by {grown / 1e6:.1f} MB")
    assert engine.worker.batch.prefixes.bytes + engine.worker.model.cache.buffer_bytes <= KV_BYTES
    assert engine.worker.batch.prefixes.bytes == counted(engine)
    assert grown < GROWTH_BYTES
    assert counts["answered"] > 20
    assert counts["cancelled"] > 5
    engine.worker.close()
    assert engine.worker.model.cache.buffer_bytes == 0


def counted(engine: TransformersEngine) -> int:
    """Bytes of the stored prefixes, counted from the tensors themselves."""
    stack = list(engine.worker.batch.prefixes._root.children.values())
    total = 0
    while stack:
        node = stack.pop()
        total += node.kv.numel() * node.kv.element_size()
        stack.extend(node.children.values())
    return total
