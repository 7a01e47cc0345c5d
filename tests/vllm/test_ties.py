"""What vLLM may do at a tie or when outputs merge, scripted: the redraw's law, its bookkeeping, both shapes of rows."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sampler.engines.vllm.proposal import Proposal
from sampler.engines.vllm.rows import heads
from sampler.errors import EngineError
from sampler.rng import DrawKey
from sampler.trace import End, Segment
from tests.vllm.models import request

K, KEPT = 20, 26
LOG_P = np.log(np.r_[np.full(15, 0.04), np.full(11, 0.02), np.full(100, 0.0018)])
"""Fifteen likely tokens, then eleven of one weight, of which five are among the 20: vLLM draws from all eleven."""


def flat(positions: list[tuple[int, list[int]]]) -> Any:
    """Rows as vLLM returns them: the drawn token, then the likeliest."""
    from vllm.logprobs import FlatLogprobs  # pyright: ignore[reportMissingImports]

    found = FlatLogprobs()
    for drawn, ids in positions:
        entries = [drawn, *ids]
        found.append_fast(entries, [float(LOG_P[i]) for i in entries], [0] * len(entries), [None] * len(entries))
    return found


class Scripted:
    """A vLLM that keeps all that tie at rank k and answers four tokens at a time."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[int, ...], Any]] = []
        self.left = 0

    @asynccontextmanager
    async def __call__(self, ids: tuple[int, ...], params: Any) -> AsyncGenerator[AsyncIterator[Any]]:
        self.asked.append((ids, params))
        try:
            yield self._outputs(params)
        finally:
            self.left += 1

    async def _outputs(self, params: Any) -> AsyncIterator[Any]:
        rng = np.random.default_rng(params.seed)
        q = np.exp(LOG_P[:KEPT] / params.temperature)
        for start in range(0, params.max_tokens, 4):
            drawn = [int(i) for i in rng.choice(KEPT, size=min(4, params.max_tokens - start), p=q / q.sum())]
            rows = flat([(token, list(range(K))) for token in drawn])
            completion = SimpleNamespace(token_ids=drawn, logprobs=rows, finish_reason=None)
            yield SimpleNamespace(outputs=[completion], num_cached_tokens=0)


async def run(scripted: Scripted, key: int, tokens: int, **changes: Any) -> tuple[Segment, Proposal]:
    one = request((1, 2), tokens, 1.5, top_k=K, key=key, eos_ids=frozenset(), **changes)
    proposal = Proposal(one, len(LOG_P))
    return await proposal.run(scripted), proposal


async def test_a_tied_token_is_redrawn_by_the_row_and_the_segment_goes_on() -> None:
    counts, ties = np.zeros(KEPT), 0
    for key in range(1500):
        scripted = Scripted()
        segment, proposal = await run(scripted, key, 6)
        ids = [token.id for token in segment.tokens]
        counts += np.bincount(ids, minlength=KEPT)
        ties += proposal.ties
        assert (len(ids), segment.end) == (6, End.LENGTH)
        assert len(scripted.asked) <= proposal.ties + 1
        assert scripted.left == len(scripted.asked)
        for asked, params in scripted.asked:
            drawn = len(asked) - 2
            assert list(asked[2:]) == ids[:drawn]
            assert params.max_tokens == 6 - drawn
        assert len({params.seed for _, params in scripted.asked}) == len(scripted.asked)
    q = np.exp(1.5 * LOG_P[:K])
    expected = q / q.sum() * counts.sum()
    assert ties > 500
    assert counts[K:].sum() == 0
    # 19 degrees of freedom: 43.8 is the 0.1 % point
    assert float(((counts[:K] - expected) ** 2 / expected).sum()) < 43.8


async def test_the_watcher_sees_each_token_once_and_the_redrawn_one() -> None:
    seen: list[int] = []
    for key in range(50):
        seen.clear()
        segment, _ = await run(Scripted(), key, 9, watch=lambda tokens: seen.extend(token.id for token in tokens))
        assert seen == [token.id for token in segment.tokens]


def test_rows_are_read_the_same_when_vllm_merged_outputs() -> None:
    plain = flat([(3, list(range(K))), (24, list(range(K)))])
    merged = flat([])
    merged.extend(plain)
    for one, other in zip(heads(plain, K), heads(merged, K), strict=True):
        assert one.drawn == other.drawn
        assert one.ids.tolist() == other.ids.tolist() == list(range(K))


async def test_an_engine_that_returns_too_few_rows_is_an_error() -> None:
    class Broken(Scripted):
        async def _outputs(self, params: Any) -> AsyncIterator[Any]:
            completion = SimpleNamespace(token_ids=[1, 2], logprobs=flat([(1, list(range(K)))]), finish_reason=None)
            yield SimpleNamespace(outputs=[completion], num_cached_tokens=0)

    with pytest.raises(EngineError, match="2 tokens but the rows of 1"):
        await run(Broken(), 1, 6)


def test_seeds_are_fresh_for_every_step_and_position_and_never_the_uniforms() -> None:
    from sampler.engines.vllm.sampling import seed

    keys = [DrawKey(i.to_bytes(32, "little")) for i in range(100)]
    seeds = {seed(key, position) for key in keys for position in range(20)}
    assert len(seeds) == 2000
    assert all(0 <= one < 1 << 63 for one in seeds)
    assert not {one >> 10 for one in seeds} & {int(k.uniform(p) * 2**53) - 1 for k in keys for p in range(20)}
