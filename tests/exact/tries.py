"""The exact law of chains with several tries, by enumeration; weights and cuts are the sampler's own code."""

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable

import numpy as np

from sampler.chain import ChainResult, ChainTask
from sampler.cuts import cut_law
from sampler.engine import Engine
from sampler.events import Event
from sampler.methods.multiple_try import TriesChain
from sampler.params import PowerParams
from sampler.rng import Draws, prompt_digest
from sampler.row import Floats
from sampler.state import ChainState
from sampler.tree import MemoTree
from tests.exact.checks import TOLERANCE, chi_square_p
from tests.exact.enumeration import (
    Case,
    Space,
    bounds_along,
    cut_masses,
    extension_matrix,
    is_irreducible,
    total_variation,
)


def tries_chain(
    engine: Engine,
    params: PowerParams,
    seed: int = 0,
    emit: Callable[[Event], None] | None = None,
    tree: MemoTree | None = None,
) -> TriesChain:
    """The real chain on an engine."""
    law = cut_law("entropy", params.cut_power)
    return TriesChain(engine, ChainTask((0,), params, law, Draws(seed, prompt_digest((0,))), tree=tree), emit)


def run_tries(
    engine: Engine, params: PowerParams, seed: int = 0, tree: bool = False
) -> tuple[ChainResult, list[Event]]:
    """Run a chain from the start; also its events."""
    events: list[Event] = []
    chain = tries_chain(engine, params, seed, events.append, MemoTree() if tree else None)
    return asyncio.run(chain.run()), events


def resume_tries(engine: Engine, params: PowerParams, seed: int, state: ChainState | None) -> ChainResult:
    """Go on from a finished stage."""
    return asyncio.run(tries_chain(engine, params, seed).run(state))


def picks(q: Floats, ratios: Floats, tries: int) -> Floats:
    """P[i, s]: that suffix s is picked where i is current, shape [suffixes, suffixes]; rows leave out staying.

    Suffix s is among the tries `tries` q_s times on average, and then picked with r_s / (1 + r_s + Σ r of the others),
    the others being independent draws: their sum is enumerated.
    """
    sums, masses = np.zeros((len(q), 1)), np.ones(1)
    for _ in range(tries - 1):
        sums = (sums[:, :, None] + ratios[:, None, :]).reshape(len(q), -1)
        masses = (masses[:, None] * q[None, :]).reshape(-1)
    picked = np.empty((len(q), len(q)))
    for s in range(len(q)):
        ratio = ratios[:, s : s + 1]
        picked[:, s] = tries * q[s] * ((ratio / (1.0 + ratio + sums)) @ masses)
    return picked


def tries_matrix(space: Space, tries: int) -> Floats:
    """P[x, y] of one step with so many tries, shape [traces, traces]."""
    size = len(space.traces)
    matrix = np.zeros((size, size))
    groups: dict[tuple[int, ...], list[tuple[int, float]]] = defaultdict(list)
    for i, trace in enumerate(space.traces):
        if trace.total_log_norm == -np.inf:
            matrix[i, i] = 1.0
            continue
        for cut, mass in enumerate(cut_masses(trace)):
            if mass > 0:
                groups[trace.ids[:cut]].append((i, float(mass)))
    for prefix, current in groups.items():
        cut, below = len(prefix), space.below[prefix]
        q = np.array([space.q_suffix[j][cut] for j in below])
        ratios = np.ones((len(below), len(below)))
        for i, _ in current:
            for s, j in enumerate(below):
                bounds = bounds_along(space.chain, space.traces[i], cut, space.tokens[j][cut:], space.horizon)
                ratios[below.index(i), s] = math.exp(bounds[-1])
        picked = picks(q, ratios, tries)
        for i, mass in current:
            row = mass * picked[below.index(i)]
            matrix[i, below] += row
            matrix[i, i] += mass - row.sum()
    return matrix


def check_tries(case: Case, tries: int) -> None:
    """In every stage the step leaves p^α invariant, in detailed balance, and reaches every trace."""
    for horizon in case.params.horizons:
        space = Space(case, horizon)
        matrix, pi = tries_matrix(space, tries), space.target
        flow = pi[:, None] * matrix
        assert np.allclose(matrix.sum(axis=1), 1.0, rtol=0, atol=TOLERANCE), "a row of P does not sum to 1"
        assert matrix.min() > -TOLERANCE, "a probability below 0"
        assert np.abs(pi @ matrix - pi).max() <= TOLERANCE, "P does not leave p^α invariant"
        assert np.abs(flow - flow.T).max() <= TOLERANCE, "P is not in detailed balance with p^α"
        assert is_irreducible(matrix), "some trace cannot be reached"


def tries_law(case: Case, tries: int, steps: int) -> tuple[Floats, Space]:
    """The law of the answer after `steps` steps in each stage."""
    law, before = np.ones(1), None
    for horizon in case.params.horizons:
        space = Space(case, horizon)
        law = law @ extension_matrix(before, space) @ np.linalg.matrix_power(tries_matrix(space, tries), steps)
        before = space
    assert before is not None
    return law, before


def check_step_law(case: Case, draws: int, starts: int = 4) -> None:
    """One real step, taken with many seeds from each of several traces, ends where the matrix says."""
    (horizon,) = case.params.horizons
    space = Space(case, horizon)
    matrix = tries_matrix(space, case.params.tries)

    async def step_from(i: int) -> Floats:
        counts = np.zeros(len(space.traces))
        for seed in range(draws):
            chain = tries_chain(case.engine, case.params, seed)
            chain.trace = space.traces[i]
            await chain.step(0, 0, horizon)
            counts[space.index[chain.trace.ids]] += 1
        return counts

    for i in np.argsort(-space.target)[:: max(1, len(space.traces) // starts)].tolist():
        counts = asyncio.run(step_from(i))
        assert chi_square_p(counts, np.maximum(matrix[i], 0.0)) > 1e-6, "a real step has another law than enumerated"


def check_tries_law(case: Case, chains: int) -> None:
    """The real chain, run from its start, ends in each trace as often as enumerated."""
    params = case.params
    law, space = tries_law(case, params.tries, params.steps_per_block)
    assert total_variation(law, space.target) > 0.02, "the test could not tell the law from the target"
    counts = np.zeros(len(space.traces))

    async def all_chains() -> None:
        for seed in range(chains):
            result = await tries_chain(case.engine, params, seed).run()
            counts[space.index[result.trace.ids]] += 1

    asyncio.run(all_chains())
    assert chi_square_p(counts, law) > 1e-6, "the real chain has another law than the enumerated one"
