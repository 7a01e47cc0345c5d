"""The law of the draws, their seeds, and ties at the last rank of the support."""

import asyncio
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from sampler.engine import Request
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PlainParams, PowerParams
from sampler.trace import Segment
from tests.vllm.models import TWINS, VOCABULARY, request

DRAWS = 3000


async def draw_many(engine: Any, requests: list[Request]) -> list[Segment]:
    return list(await asyncio.gather(*[engine.propose(one) for one in requests]))


def assert_follows(seen: np.ndarray, law: np.ndarray) -> None:
    """Chi-square of counts against probabilities, rare ones pooled."""
    rare = law * seen.sum() < 5
    observed = np.append(seen[~rare], seen[rare].sum())
    expected = np.append(law[~rare], law[rare].sum()) * seen.sum()
    kept = expected > 0
    assert observed[~kept].sum() == 0
    assert kept.sum() > 5, "the case must be able to fail"
    assert chisquare(observed[kept], expected[kept]).pvalue > 1e-4


def q_of(logits: torch.Tensor, alpha: float, top_k: int) -> np.ndarray:
    """q over the k likeliest."""
    kth = logits.topk(top_k).values[-1]
    return (alpha * logits.masked_fill(logits < kth, -torch.inf)).softmax(-1).numpy()


def first_rows(network: Any) -> tuple[list[tuple[int, int]], torch.Tensor]:
    """Many short prompts and their next rows, to choose from those that make a sharp test."""
    prompts = [(a, b) for a in range(8, 400) for b in (5, 17, 90)]
    with torch.inference_mode():
        return prompts, network(torch.tensor(prompts)).logits[:, -1].double()


async def test_first_tokens_follow_q(tiny: Any, network: Any) -> None:
    prompts, rows = first_rows(network)
    flat = rows.softmax(-1).square().sum(-1).argsort()
    for at, alpha in ((flat[0], 1.0), (flat[1], 2.0), (flat[len(flat) // 2], 0.5)):
        segments = await draw_many(tiny, [request(prompts[at], 1, alpha, key=i) for i in range(DRAWS)])
        seen = np.bincount([segment.tokens[0].id for segment in segments], minlength=VOCABULARY)
        assert_follows(seen, q_of(rows[at], alpha, 50))


async def test_ties_at_the_last_rank_leave_the_law_alone(tiny: Any, network: Any) -> None:
    """Twelve tokens have the same logit, some of them inside the 50: whatever vLLM keeps, draws follow the row's q."""
    prompts, rows = first_rows(network)
    above = (rows > rows[:, TWINS.start, None]).sum(-1)
    straddles = (above >= 39) & (above < 49)
    mass = (0.5 * rows).softmax(-1)[:, TWINS].sum(-1)
    prompt = prompts[int(torch.where(straddles, mass, 0.0).argmax())]
    segments = await draw_many(tiny, [request(prompt, 1, 0.5, key=i, keep_rows=True) for i in range(DRAWS)])
    assert segments[0].rows is not None
    row = segments[0].rows[0]
    law = np.zeros(VOCABULARY)
    law[row.ids[: row.size]] = np.exp(0.5 * (row.logits[: row.size].astype(float) - row.log_norm) - row.log_z)
    seen = np.bincount([segment.tokens[0].id for segment in segments], minlength=VOCABULARY)
    pooled = [np.append(x[: TWINS.start], x[TWINS].sum()) for x in (seen, law)]
    print(f"\nties at rank 50 that vLLM drew outside the row: {tiny.ties} of {DRAWS}")
    assert_follows(pooled[0], pooled[1])


async def test_the_same_key_gives_the_same_tokens_alone_and_in_company(tiny: Any) -> None:
    one = request((3, 1, 4, 1, 5), 32, 2.0, key=5)
    alone = await tiny.propose(one)
    again = await tiny.propose(one)
    crowd = await draw_many(tiny, [one, *[request((i, 3), 40, 1.5, key=i) for i in range(20, 27)]])
    other = await tiny.propose(request((3, 1, 4, 1, 5), 32, 2.0, key=6))
    ids = [token.id for token in alone.tokens]
    assert [token.id for token in again.tokens] == ids
    assert [token.id for token in crowd[0].tokens] == ids
    assert [token.id for token in other.tokens] != ids


def job(engine: Any, chain: int, **changes: Any) -> Job:
    settings = {"alpha": 2.0, "blocks": 3, "steps_per_block": 5} | changes
    return Job(engine, (3, 1, 4, 1, 5), PowerParams(30, **settings), seed=9, chain=chain)


@pytest.mark.parametrize(
    "saves", [{}, {"memo_tree": False}, {"prefetch": False}], ids=["default", "prefetch", "memo tree"]
)
async def test_eight_chains_together_are_the_eight_chains_alone(tiny: Any, saves: dict[str, bool]) -> None:
    """vLLM draws on from where the tree ends, so what is in the tree must not depend on anybody's speed."""
    run = METHODS["entropy_cut"]
    together = await asyncio.gather(*[run(job(tiny, chain, **saves)) for chain in range(8)])
    alone = [await run(job(tiny, chain, **saves)) for chain in range(8)]
    assert [a.trace.ids for a in together] == [a.trace.ids for a in alone]
    assert sum(a.usage.moved for a in together) > 0
    assert len({a.trace.ids for a in together}) > 1


async def test_early_rejection_gives_the_same_chain_for_fewer_tokens(tiny: Any) -> None:
    run = METHODS["entropy_cut"]
    early, late = [
        [
            await run(job(tiny, chain, early_rejection=on, prefetch=False, memo_tree=False, alpha=4.0))
            for chain in range(4)
        ]
        for on in (True, False)
    ]
    assert [a.trace.ids for a in early] == [a.trace.ids for a in late]
    spent = [sum(a.usage.generated_tokens for a in answers) for answers in (early, late)]
    print(f"\ntokens drawn with and without early rejection: {spent[0]}, {spent[1]}")
    assert sum(a.usage.rejected_early for a in early) > 0
    assert spent[0] < 0.95 * spent[1]


async def test_the_standard_method_samples_the_whole_vocabulary(tiny: Any) -> None:
    answer = await METHODS["standard"](Job(tiny, (3, 1, 4), PlainParams(12, top_p=0.9), seed=1, logprobs=3))
    assert len(answer.trace) >= 1
    assert answer.trace.rows is not None
