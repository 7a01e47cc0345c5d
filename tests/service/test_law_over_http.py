"""Answers over HTTP follow the enumerated law of the staged chain that was asked for, at its own number of steps."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping

import httpx
import numpy as np
import pytest
from scipy.stats import chisquare

from sampler.engines.tabular import from_table
from sampler.params import PowerParams
from sampler.row import Floats
from tests.exact.enumeration import Case, StagedChain, total_variation
from tests.service.conftest import MODEL
from tests.service.tables import letters_table

REQUESTS, ANSWERS, AT_ONCE = 300, 64, 16
HORIZON, ALPHA, BLOCKS, STEPS = 4, 3.0, 2, 2
FEWEST = 10.0
"""Expected counts below it are pooled into one cell."""


@pytest.fixture(scope="module")
def chain() -> StagedChain:
    """The staged chain of the request, by enumeration."""
    params = PowerParams(HORIZON, alpha=ALPHA, blocks=BLOCKS, steps_per_block=STEPS, top_k=3)
    return StagedChain(Case(from_table(letters_table()), params))


async def draws(server: str) -> AsyncIterator[tuple[int, ...]]:
    """Every answer of all the requests, with a new seed each."""
    gate = asyncio.Semaphore(AT_ONCE)
    power = {"alpha": ALPHA, "blocks": BLOCKS, "steps_per_block": STEPS}
    request = {"model": MODEL, "prompt": "any", "max_tokens": HORIZON, "n": ANSWERS, "power": power}
    async with httpx.AsyncClient(base_url=server, timeout=120) as http:

        async def ask(seed: int) -> httpx.Response:
            async with gate:
                return await http.post("/v1/completions", json=request | {"seed": seed})

        for reply in await asyncio.gather(*(ask(seed) for seed in range(REQUESTS))):
            for choice in reply.raise_for_status().json()["choices"]:
                yield tuple(choice["power"]["token_ids"])


def chi_square(counts: Floats, law: Floats) -> float:
    """The p-value of counts under a law, rare cells pooled."""
    expected = law * counts.sum()
    common = expected >= FEWEST
    cells = np.append(counts[common], counts[~common].sum())
    wanted = np.append(expected[common], expected[~common].sum())
    return float(chisquare(cells, wanted * cells.sum() / wanted.sum()).pvalue)


def as_counts(drawn: Mapping[tuple[int, ...], int], chain: StagedChain) -> Floats:
    """Counts in the order of the enumerated traces; an answer that is none of them fails."""
    counts = np.zeros(len(chain.last.traces))
    for ids, times in drawn.items():
        counts[chain.last.index[ids]] = times
    return counts


@pytest.mark.slow
async def test_answers_follow_the_law_of_the_chain_that_was_asked_for(server: str, chain: StagedChain) -> None:
    counts = as_counts(Counter([ids async for ids in draws(server)]), chain)
    assert counts.sum() == REQUESTS * ANSWERS
    frequencies = counts / counts.sum()

    law = chain.law(STEPS)
    p, distance = chi_square(counts, law), total_variation(frequencies, law)
    print(
        f"\n{int(counts.sum())} answers: chi-square p = {p:.3g}, TV to the staged law {distance:.4f}, "
        f"to p^α {total_variation(frequencies, chain.last.target):.4f} "
        f"(the staged law itself: {total_variation(law, chain.last.target):.4f})"
    )
    assert p > 1e-6
    assert distance < 0.02

    for other, wrong in {
        "no step: low temperature": chain.law(0),
        "one step fewer": chain.law(STEPS - 1),
        "one step more": chain.law(STEPS + 1),
        "the limit of many steps": chain.last.target,
    }.items():
        assert chi_square(counts, wrong) < 1e-6, other
        assert total_variation(frequencies, wrong) > 0.02, other
