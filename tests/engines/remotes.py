"""The remote engine on fake servers, and what to ask of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from sampler.engine import Request, Support
from sampler.engines.remote import connect
from sampler.engines.remote.client import Patience
from sampler.engines.remote.engine import RemoteEngine
from sampler.engines.tabular import TabularEngine
from sampler.rng import DrawKey
from tests.engines.fake_vllm import FakeVLLM
from tests.exact.models import EndlessEngine

QUICK = Patience(connect_s=30, read_s=30, retries=2, backoff_s=0.01)
NAMES = [f"<{token}>" for token in range(24)]


def wide_table() -> TabularEngine:
    """24 tokens of which ranks 18 to 24 tie, so that a support of 20 has a tie at its edge. No end."""
    engine = EndlessEngine(3, NAMES)
    real = engine.row

    def row(response: tuple[int, ...], alpha: float, support: Support) -> Any:
        real((), alpha, support)
        logits = np.linspace(0.0, -2.0, 24)
        logits[17:] = logits[17]
        engine._logits[response] = np.roll(logits, sum(response))
        return TabularEngine.row(engine, response, alpha, support)

    engine.row = row  # type: ignore[method-assign]
    return engine


def two_ways() -> TabularEngine:
    """The first token decides: after 0 rows are sharp, after any other they are flat and a proposal is soon lost."""
    engine = EndlessEngine(3, NAMES)
    sharp, flat = (np.log(np.array([p] + [(1 - p) / 23] * 23)) for p in (0.9, 1 / 24))
    first = np.log(np.array([0.06] + [0.94 / 23] * 23))

    def row(response: tuple[int, ...], alpha: float, support: Support) -> Any:
        engine._logits[response] = first if not response else sharp if response[0] == 0 else flat
        return TabularEngine.row(engine, response, alpha, support)

    engine.row = row  # type: ignore[method-assign]
    return engine


@asynccontextmanager
async def remote(*fakes: FakeVLLM, patience: Patience = QUICK, **options: Any) -> AsyncIterator[RemoteEngine]:
    """The engine on these servers, which forget the checks at start."""
    urls = [fake.url for fake in fakes]
    engine = await asyncio.to_thread(
        lambda: connect(urls, eos_ids=tuple(fakes[0].table.info.eos_ids), patience=patience, **options)
    )
    for fake in fakes:
        fake.calls.clear()
        fake.tokens = fake.left_early = 0
    try:
        yield engine
    finally:
        await engine.aclose()


def ask(tokens: int = 4, seed: int = 0, top_k: int = 3, alpha: float = 2.0, **changes: Any) -> Request:
    fields: dict[str, Any] = {
        "ids": (0,),
        "max_tokens": tokens,
        "alpha": alpha,
        "support": Support("top_k", top_k=top_k),
        "key": DrawKey(seed.to_bytes(32, "little")),
        "position": 0,
        "eos_ids": frozenset({2}),
    }
    return Request(**(fields | changes))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def many(engine: RemoteEngine, requests: list[Request]) -> list[Any]:
    return list(await asyncio.gather(*[engine.propose(request) for request in requests]))
