"""log p, ℓ, H and the support's mass of every token against transformers' float32 logits over the same support."""

import asyncio
from typing import Any

import numpy as np
import pytest
import torch

from sampler.engine import Support
from sampler.trace import End, Segment
from tests.vllm.models import CONTEXT, EOS, VOCABULARY, difference, expected_rows, request

TOLERANCE = 1e-3


async def together(engine: Any, requests: list[Any]) -> list[Segment]:
    return list(await asyncio.gather(*[engine.propose(one) for one in requests]))


async def test_every_token_agrees_with_mixed_alphas_and_supports_in_one_batch(tiny: Any, network: Any) -> None:
    prompts = [(3, 1, 4), (9, 2, 6), tuple(range(40, 140)), (5,), (11, 12), (8, 8, 8), (1, 2), (77, 5)]
    alphas, ks = (0.5, 1.0, 1.5, 2.0, 4.0, 8.0, 6.0, 4.0), (50, 20, 31, 50, 50, 20, 50, 50)
    requests = [request(p, 24, a, top_k=k, key=i) for i, (p, a, k) in enumerate(zip(prompts, alphas, ks, strict=True))]
    worst = 0.0
    for one, segment in zip(requests, await together(tiny, requests), strict=True):
        assert len(segment.tokens) == 24 or segment.end is End.EOS
        worst = max(worst, difference(network, one.ids, segment.tokens, one.alpha, one.support.top_k))
        assert all(token.log_z <= 0.0 for token in segment.tokens) or one.alpha < 1.0
    print(f"\nlargest difference of log p, log Z, entropy, log mass on the tiny model: {worst:.1e}")
    assert worst < TOLERANCE


async def test_at_the_sharpest_alpha_noise_is_multiplied_and_no_more(tiny: Any, network: Any) -> None:
    segment = await tiny.propose(request((1, 2), 24, 100.0))
    assert difference(network, (1, 2), segment.tokens, 100.0, 50) < 100 * TOLERANCE / 10


async def test_greedy_takes_the_likeliest_token(tiny: Any, network: Any) -> None:
    segment = await tiny.propose(request(tokens=12, alpha=float("inf"), eos_ids=frozenset()))
    ids = [token.id for token in segment.tokens]
    rows = expected_rows(network, (3, 1, 4), ids)
    assert [float(row[token]) for row, token in zip(rows, ids, strict=True)] == pytest.approx(
        rows.max(-1).values.tolist(), abs=1e-4
    )


async def test_rows_are_sorted_and_hold_the_drawn_token(tiny: Any) -> None:
    segment = await tiny.propose(request(tokens=16, keep_rows=True, head=20, top_k=20))
    assert segment.rows is not None
    for token, row in zip(segment.tokens, segment.rows, strict=True):
        assert len(row.ids) == row.size == 20
        assert (np.diff(row.logits) <= 0).all()
        assert row.log_p(list(row.ids).index(token.id)) == pytest.approx(token.log_p, abs=1e-6)


@pytest.mark.parametrize("support", [Support(), Support("top_p", top_p=0.7), Support("top_k", top_k=5)])
async def test_plain_requests_have_any_support_and_whole_vocabulary_log_p(
    tiny: Any, network: Any, support: Support
) -> None:
    segment = await tiny.propose(request(tokens=16, alpha=1.0, support=support, plain=True, keep_rows=True, head=5))
    ids = [token.id for token in segment.tokens]
    rows = expected_rows(network, (3, 1, 4), ids).log_softmax(-1)
    for token, expected, row in zip(segment.tokens, rows, segment.rows or (), strict=True):
        assert token.log_p == pytest.approx(float(expected[token.id]), abs=TOLERANCE)
        assert token.log_mass == 0.0
        assert [row.log_p(i) for i in range(5)] == pytest.approx(expected.topk(5).values.tolist(), abs=TOLERANCE)
        assert 0.0 <= token.entropy <= float(torch.special.entr(expected.exp()).sum()) + TOLERANCE


async def test_scoring_agrees_with_one_forward_pass(tiny: Any, network: Any) -> None:
    ids = [int(token) for token in np.random.default_rng(0).integers(0, VOCABULARY, size=200)]
    tokens, rows = await tiny.score(ids, 5, head=3)
    expected = expected_rows(network, ids[:5], ids[5:]).log_softmax(-1)
    assert [token.id for token in tokens] == ids[5:]
    np.testing.assert_allclose([token.log_p for token in tokens], expected[range(195), ids[5:]].numpy(), atol=TOLERANCE)
    assert [row.log_p(0) for row in rows] == pytest.approx(expected.max(-1).values.tolist(), abs=TOLERANCE)
    assert all(len(row.ids) == 3 for row in rows)


async def test_long_prompts_together_do_not_kill_the_engine(tiny: Any, network: Any) -> None:
    """A seeded prompt computed in several chunks would."""
    rng = np.random.default_rng(1)
    prompts = [tuple(int(t) for t in rng.integers(8, VOCABULARY, size=n)) for n in (150, 180, 220, 260, 300, 160, 490)]
    requests = [request(prompt, 8, 4.0, key=i) for i, prompt in enumerate(prompts)]
    for one, segment in zip(requests, await together(tiny, requests), strict=True):
        assert difference(network, one.ids, segment.tokens, 4.0, 50) < TOLERANCE
    assert tiny.alive


async def test_a_response_may_fill_the_context(tiny: Any) -> None:
    prompt = tuple(range(8, 8 + CONTEXT - 10))
    segment = await tiny.propose(request(prompt[: CONTEXT - 10], 10, eos_ids=frozenset()))
    assert (len(segment.tokens), segment.end) == (10, End.LENGTH)


async def test_the_end_token_is_returned_and_ends_the_segment(tiny: Any) -> None:
    for ends in (EOS, frozenset(range(0, VOCABULARY, 3))):
        segments = await together(tiny, [request(tokens=40, alpha=1.0, key=i, eos_ids=ends) for i in range(16)])
        for segment in segments:
            *body, last = [token.id for token in segment.tokens]
            assert not ends & set(body)
            assert segment.end is (End.EOS if last in ends else End.LENGTH)
    assert any(segment.end is End.EOS for segment in segments)


async def test_the_second_proposal_finds_the_prefix(tiny: Any) -> None:
    prompt = tuple(range(200, 330))
    first = await tiny.propose(request(prompt, 4, key=1))
    again = await tiny.propose(request((*prompt, first.tokens[0].id), 4, key=2))
    assert first.prefix_reused == 0
    assert again.prefix_reused >= 128, "whole blocks of 32"
