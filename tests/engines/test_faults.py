"""A failing, cancelled or closed engine answers every waiter, frees its rows, and takes the next request."""

import asyncio
from typing import Any

import pytest
import torch

from sampler.engine import Request, Support
from sampler.engines.transformers.engine import TransformersEngine
from sampler.errors import ContextExceeded, EngineDead, EngineError, EngineOutOfMemory, InvalidParams
from sampler.rng import DrawKey
from sampler.trace import Segment


def request(tokens: int = 20, ids: tuple[int, ...] = (3, 1, 4), **changes: Any) -> Request:
    return Request(ids, tokens, 1.0, Support(), DrawKey(b"k" * 32), 0, frozenset(), **changes)


class Fails:
    """Stands in for a network's forward pass and raises on its `at`-th call."""

    def __init__(self, engine: TransformersEngine, at: int, error: Exception) -> None:
        self.model, self.calls, self.at, self.error = engine.worker.batch.model, 0, at, error
        self.real = self.model.logits
        engine.worker.batch.model = self  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.at:
            raise self.error
        return self.real(hidden)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("boom"), EngineError),
        (torch.OutOfMemoryError("no memory"), EngineOutOfMemory),
        (MemoryError(), EngineOutOfMemory),
    ],
)
async def test_a_failing_forward_pass_answers_all_its_rows_and_the_next_request_works(
    tiny: TransformersEngine, error: Exception, expected: type[Exception]
) -> None:
    before = await tiny.propose(request())
    Fails(tiny, 5, error)
    tasks = [asyncio.create_task(tiny.propose(request())) for _ in range(4)]
    with tiny.worker._wake:  # it begins when all four are there
        await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, expected) for result in results)
    after = await tiny.propose(request())
    assert [t.id for t in after.tokens] == [t.id for t in before.tokens]
    assert tiny.worker.batch.rows == []


async def test_a_failing_watcher_harms_its_own_caller_alone(tiny: TransformersEngine) -> None:
    def watch(tokens: Any) -> None:
        raise ZeroDivisionError

    bad, good = await asyncio.gather(
        tiny.propose(request(watch=watch)), tiny.propose(request()), return_exceptions=True
    )
    assert isinstance(bad, EngineError)
    assert isinstance(good, Segment)


async def test_cancelling_frees_the_row(tiny: TransformersEngine) -> None:
    tasks = [asyncio.create_task(tiny.propose(request(400))) for _ in range(3)]
    while len(tiny.worker.batch.rows) < 3:
        await asyncio.sleep(0.001)
    for task in tasks:
        task.cancel()
    assert all(isinstance(r, asyncio.CancelledError) for r in await asyncio.gather(*tasks, return_exceptions=True))
    while tiny.worker.batch.rows:
        await asyncio.sleep(0.001)
    assert tiny.room() == tiny.worker.batch.max_rows


async def test_closing_answers_whoever_waits_and_refuses_later_calls(tiny: TransformersEngine) -> None:
    waiting = asyncio.create_task(tiny.propose(request(400)))
    while not tiny.worker.batch.rows:
        await asyncio.sleep(0.001)
    await tiny.aclose()
    with pytest.raises(EngineDead):
        await waiting
    assert not tiny.alive
    with pytest.raises(EngineDead):
        await tiny.propose(request())


async def test_more_proposals_than_rows_wait_their_turn(tiny: TransformersEngine) -> None:
    tiny.worker.batch.max_rows = 2
    segments = await asyncio.gather(*[tiny.propose(request(5)) for _ in range(9)])
    assert {tuple(t.id for t in segment.tokens) for segment in segments} == {tuple(t.id for t in segments[0].tokens)}


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (request(ids=()), InvalidParams),
        (request(ids=(256,)), InvalidParams),
        (request(ids=(-1,)), InvalidParams),
        (request(510, ids=(1, 2, 3)), ContextExceeded),
        (request(0), InvalidParams),
    ],
)
async def test_a_request_that_cannot_run_is_refused(
    tiny: TransformersEngine, bad: Request, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await tiny.propose(bad)


async def test_a_request_that_fills_the_context_exactly_runs(tiny: TransformersEngine) -> None:
    segment = await tiny.propose(request(4, ids=tuple(range(8, 250)) * 2 + tuple(range(24))))
    assert len(segment.tokens) == 4
