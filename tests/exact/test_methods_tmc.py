"""Candidates and rollouts: the law goes to p^α as candidates grow, for every number of rollouts to the end."""

import asyncio
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sampler.answer import EndedBy
from sampler.engines.tabular import TabularEngine
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.methods.parallel import ParallelDraws
from sampler.params import PowerParams
from tests.exact.enumeration import Case, Space, total_variation
from tests.exact.exploring import TMC, law_of, outcomes
from tests.exact.models import EndlessEngine, plan_or_guess, random_engine

Record = Callable[[str, object], None]
PLAN_FIRST = PowerParams(4, 4.0, blocks=4, top_k=None, rollouts=1)


def seeded_law(engine: TabularEngine, params: PowerParams, runs: int) -> tuple[np.ndarray, Space]:
    """How often each trace is answered."""
    space = Space(Case(engine, params), params.max_tokens)
    law = np.zeros(len(space.traces))

    async def answers() -> None:
        for seed in range(runs):
            law[space.index[(await METHODS["tmc"](Job(engine, (0,), params, seed))).trace.ids]] += 1 / runs

    asyncio.run(answers())
    return law, space


def check_converges(
    record: Record, engine: TabularEngine, params: PowerParams, counts: tuple[int, ...], runs: int, most: float
) -> None:
    """The distance falls with the candidates, down to the noise of the runs."""
    found = []
    for count in counts:
        law, space = seeded_law(engine, replace(params, candidates=count), runs)
        found.append(total_variation(law, space.target))
    record("tv", dict(zip(counts, found, strict=True)))
    print(f"tmc, {params.rollouts} rollouts", dict(zip(counts, np.round(found, 4).tolist(), strict=True)))
    assert found[-1] < most, "the law does not go to p^α"
    assert all(a > b or b < most / 2 for a, b in itertools.pairwise(found)), "more candidates, and no closer"


def test_one_candidate_is_a_draw_from_q(monkeypatch: pytest.MonkeyPatch) -> None:
    params = PowerParams(2, 2.0, blocks=2, top_k=None, candidates=1, rollouts=1)
    engine = random_engine(8, 3)
    space = Space(Case(engine, params), 2)
    law = law_of(outcomes(monkeypatch, "tmc", engine, params), space)
    assert np.abs(law - [suffix[0] for suffix in space.q_suffix]).max() < 1e-13


def test_more_candidates_come_closer_already_by_enumeration(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = plan_or_guess()
    found = []
    for count in (1, 2):
        params = replace(PLAN_FIRST, candidates=count, blocks=2)
        space = Space(Case(engine, params), 4)
        found.append(total_variation(law_of(outcomes(monkeypatch, "tmc", engine, params), space), space.target))
    assert found[0] > found[1] + 0.05


def weights_of(space: Space, prefix: tuple[int, ...]) -> float:
    """ζ(prefix) by enumeration, the future's p^α summed."""
    below = [space.traces[i] for i in space.below[prefix]]
    return sum(math.exp(space.case.params.alpha * trace.log_p[len(prefix) :].sum()) for trace in below)


def test_a_rollout_is_unbiased_for_the_future_and_ended_blocks_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    params = PowerParams(3, 2.0, blocks=2, top_k=None, candidates=1, rollouts=1)
    engine = random_engine(18, 4)
    space = Space(Case(engine, params), 3)
    sums: dict[tuple[int, ...], float] = {}
    real = TMC.roll_out

    async def noted(drawing: ParallelDraws, candidates: Any, stage: int) -> Any:
        found = await real(drawing, candidates, stage)
        if stage == 0:
            seen.append((candidates[0].ids, float(found[0, 0])))
        return found

    monkeypatch.setattr(TMC, "roll_out", noted)
    seen: list[tuple[tuple[int, ...], float]] = []
    reached: dict[tuple[int, ...], float] = {}
    for (probability, _), (block, log_future) in zip(outcomes(monkeypatch, "tmc", engine, params), seen, strict=True):
        sums[block] = sums.get(block, 0.0) + probability * math.exp(log_future)
        reached[block] = reached.get(block, 0.0) + probability
    assert sums[2,] / reached[2,] == pytest.approx(1.0, rel=1e-12), "an ended block has no future"
    for block in ((0, 0), (0, 1), (1, 0), (1, 1)):
        assert sums[block] / reached[block] == pytest.approx(weights_of(space, block), rel=1e-12)


@pytest.mark.slow
def test_the_jackknife_is_its_formula_and_removes_the_first_order_bias() -> None:
    rng = np.random.default_rng(3)
    blocks, futures = np.log(rng.random(3)), np.log(rng.random((3, 4)))
    zeta = np.exp(futures)
    plain = np.exp(blocks) * zeta.mean(axis=1)
    left = [np.exp(blocks) * np.delete(zeta, s, 1).mean(axis=1) for s in range(4)]
    wanted = 4 * plain / plain.sum() - 3 / 4 * sum(each / each.sum() for each in left)
    assert np.allclose(TMC.jackknife(blocks, futures), wanted, rtol=1e-12)
    single = np.exp(blocks + futures[:, 0])
    assert np.allclose(TMC.jackknife(blocks, futures[:, :1]), single / single.sum())

    exact = np.array([0.5, 0.5])
    draws = np.log(rng.exponential(size=(4000, 8)) + 1e-300)
    noisy = [np.stack([row, np.zeros(8)]) for row in draws]  # ζ̂ of mean 1 against ζ = 1
    bias = [abs(np.mean([f(np.zeros(2), each)[0] for each in noisy]) - exact[0]) for f in (TMC.shares, TMC.jackknife)]
    assert bias[1] < 0.4 * bias[0]


def test_a_negative_share_is_clipped() -> None:
    shares = TMC.jackknife(np.zeros(2), np.log(np.array([[1e-9, 1e-9, 5.0], [1.0, 1.0, 1.0]])))
    assert shares.min() >= 0
    assert shares.sum() == pytest.approx(1.0)


@pytest.mark.slow
def test_the_law_goes_to_the_power_distribution(record_property: Record) -> None:
    check_converges(record_property, plan_or_guess(), PLAN_FIRST, (1, 24), 200, 0.15)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rollouts", [1, 8])
def test_the_law_goes_to_the_power_distribution_in_full(record_property: Record, rollouts: int) -> None:
    params = PowerParams(5, 2.0, blocks=3, top_k=None, rollouts=rollouts)
    check_converges(record_property, random_engine(18, 5), params, (1, 4, 16, 64), 3000, 0.05)


@pytest.mark.parametrize("length", [None, 1, 3, 8, 100])
def test_rollouts_have_their_length(length: int | None) -> None:
    engine = EndlessEngine(3, ("a", "b", "c"))
    params = PowerParams(12, blocks=3, candidates=2, rollouts=3, rollout_tokens=length, memo_tree=False)
    answer = asyncio.run(METHODS["tmc"](Job(engine, (0,), params, 3)))
    rolled = sum(min(12 - horizon, length or 12) for horizon in (4, 8, 12))
    assert answer.usage.generated_tokens == 2 * 12 + 2 * 3 * rolled


def test_a_token_budget_is_never_passed_and_leaves_an_answer() -> None:
    engine = EndlessEngine(3, ("a", "b", "c", "<eos>"), (3,), end_mass=0.05)
    ends = set()
    for budget in (1, 10, 300, 3000, 100_000):
        params = PowerParams(20, blocks=4, candidates=4, rollouts=2, max_generated_tokens=budget, memo_tree=False)
        answer = asyncio.run(METHODS["tmc"](Job(engine, (0,), params, 3)))
        assert 1 <= answer.usage.generated_tokens <= budget
        assert len(answer.trace) >= 1
        ends.add(answer.ended_by)
    assert ends == {EndedBy.TOKEN_BUDGET, EndedBy.COMPLETED}


def not_divided(patch: pytest.MonkeyPatch) -> None:
    """Candidates are weighted by p^α ζ̂, as if their own law were flat: fault 8 of the released code."""
    weight = TMC.log_weight

    async def next_block(drawing: ParallelDraws, trace: Any, stage: int) -> Any:
        def undivided(candidate: Any, since: int) -> float:
            if since == len(trace):
                return drawing.params.alpha * float(candidate.log_p[since:].sum())
            return weight(candidate, since)

        with patch.context() as patched:
            patched.setattr(TMC, "log_weight", undivided)
            return await real(drawing, trace, stage)

    real = TMC.next_block
    patch.setattr(TMC, "next_block", next_block)


def without_rollouts(patch: pytest.MonkeyPatch) -> None:
    async def none(drawing: ParallelDraws, candidates: Any, stage: int) -> Any:
        return np.zeros((len(candidates), 1))

    patch.setattr(TMC, "roll_out", none)


def nothing_recorded(name: str, value: object) -> None:
    """For checks run on mutants."""


@pytest.mark.slow
@pytest.mark.parametrize("mutate", [not_divided, without_rollouts])
def test_a_mutant_has_another_limit(
    monkeypatch: pytest.MonkeyPatch, mutate: Callable[[pytest.MonkeyPatch], None]
) -> None:
    mutate(monkeypatch)
    with pytest.raises(AssertionError, match="does not go to"):
        check_converges(nothing_recorded, plan_or_guess(), PLAN_FIRST, (24,), 200, 0.15)
