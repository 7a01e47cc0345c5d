"""Every engine can bar the end as the first token of a segment: q renormalised without it, and ℓ with it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sampler.engine import Support
from sampler.engines.tabular import TabularEngine
from sampler.engines.transformers.engine import TransformersEngine
from sampler.row import Row, row_of_head, row_of_top, sort_logits
from sampler.trace import Segment
from tests.engines.fake_vllm import FakeVLLM
from tests.engines.remotes import ask, many, remote
from tests.exact.checks import chi_square_p
from tests.exact.models import random_engine


def whole_row(logits: np.ndarray, alpha: float = 2.0) -> Row:
    ids, values = sort_logits(logits)
    return row_of_top(ids, values, len(ids), alpha, float(np.log(np.exp(logits).sum())))


def test_a_row_without_some_tokens_renormalises_q_and_keeps_p_and_entropy() -> None:
    row = whole_row(np.array([0.0, -1.0, 1.0, -np.inf, -0.5]))
    left = row.without(frozenset({2, 3}))
    assert left.ids.tolist() == [0, 4, 1]
    p = np.exp(row.logits[:4] - row.log_norm)
    assert left.log_z == pytest.approx(np.log((p[1:] ** 2).sum()))
    assert (left.entropy, left.log_norm, left.log_mass) == (row.entropy, row.log_norm, row.log_mass)
    assert [left.log_p(i) for i in range(3)] == [row.log_p(i) for i in range(1, 4)]
    assert [int(left.ids[left.find(u) or 0]) for u in (1e-9, 1.0)] == [0, 1]


def test_where_nothing_would_be_left_the_row_stays() -> None:
    row = whole_row(np.array([0.0, -np.inf]))
    assert row.without(frozenset({0})) is row
    assert row.without(frozenset({1})) is row


def test_a_row_whose_head_is_not_all_there_is_cannot_bar() -> None:
    ids, logits = sort_logits(np.array([0.0, -1.0, 1.0]))
    with pytest.raises(AssertionError):
        row_of_head(ids[:2], logits[:2], 2.0, 1.4, -0.5, 1.0).without(frozenset({2}))


def check_first_tokens(engine: TabularEngine, segments: list[Segment]) -> None:
    """First tokens follow q without the end; later ones may be the end, and tell the whole row's ℓ."""
    row = engine.row((), 2.0, Support("top_k", top_k=3))
    left = row.without(frozenset({2}))
    law = np.zeros(3)
    law[left.ids] = np.exp(2.0 * (left.logits - left.log_norm) - left.log_z)
    counts = np.bincount([segment.tokens[0].id for segment in segments], minlength=3)
    assert chi_square_p(counts, law) > 1e-4
    assert row.log_z - left.log_z > 0.01
    for segment in segments:
        first, *later = segment.tokens
        assert first.log_z == pytest.approx(left.log_z, abs=1e-5)
        assert first.entropy == pytest.approx(row.entropy, abs=1e-5)
        for number, token in enumerate(later, 1):
            prefix = tuple(token.id for token in segment.tokens[:number])
            assert token.log_z == pytest.approx(engine.row(prefix, 2.0, Support("top_k", top_k=3)).log_z, abs=1e-5)
    assert any(token.id == 2 for segment in segments for token in segment.tokens[1:])


async def test_the_tabular_engine_bars_the_end() -> None:
    engine = random_engine(8, 4)
    segments = [await engine.propose(ask(3, seed, bars_end=True)) for seed in range(400)]
    check_first_tokens(engine, segments)


async def test_the_remote_engine_asks_for_one_token_at_least(serve: Callable[..., FakeVLLM]) -> None:
    fake = serve(random_engine(8, 4))
    async with remote(fake, stream_interval=1) as engine:
        segments = await many(engine, [ask(3, seed, bars_end=True) for seed in range(100)])
        assert {call["min_tokens"] for call in fake.calls} == {1}
        check_first_tokens(fake.table, segments)
        fake.calls.clear()
        await engine.propose(ask(3))
        assert fake.calls[0]["min_tokens"] == 0


async def test_a_server_that_knows_no_min_tokens_leaves_the_law_as_it_is(serve: Callable[..., FakeVLLM]) -> None:
    """Where it draws the end all the same, the token is drawn again from the row without it."""
    fake = serve(random_engine(8, 4), min_tokens=False)
    async with remote(fake, stream_interval=1) as engine:
        check_first_tokens(fake.table, await many(engine, [ask(3, seed, bars_end=True) for seed in range(100)]))
        assert engine.ties > 0


@pytest.mark.parametrize("support", [Support("top_k", top_k=20), Support()])
async def test_the_transformers_engine_bars_the_end(tiny: TransformersEngine, support: Support) -> None:
    """The end is made to be drawn: whatever the plain request draws first is barred in the other."""
    for seed in range(12):
        request = ask(3, seed, alpha=1.5, support=support, eos_ids=frozenset(), keep_rows=True)
        plain = await tiny.propose(request)
        first = plain.tokens[0]
        barred = await tiny.propose(replace(request, eos_ids=frozenset({first.id}), bars_end=True))
        token = barred.tokens[0]
        assert token.id != first.id
        assert token.entropy == pytest.approx(first.entropy)
        share = np.exp(1.5 * first.log_p - first.log_z)
        assert token.log_z == pytest.approx(first.log_z + np.log1p(-share), abs=1e-9)
        assert barred.rows is not None
        assert barred.rows[0].log_z == pytest.approx(first.log_z)
