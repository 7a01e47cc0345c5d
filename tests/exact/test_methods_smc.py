"""Power-SMC: the evidence estimate is unbiased, exactly, and the law goes to p^α as particles grow."""

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
from tests.exact.exploring import SMC, law_of, outcomes
from tests.exact.models import EndlessEngine, plan_or_guess, random_engine

Record = Callable[[str, object], None]
SMALL = PowerParams(3, 2.0, blocks=2, top_k=None, particles=2, ess_threshold=1.0)
UNBIASED = [
    SMALL,
    replace(SMALL, ess_threshold=0.0),
    replace(SMALL, ess_threshold=0.8),
    replace(SMALL, particles=1),
    replace(SMALL, alpha=0.5),
    replace(SMALL, stop=("ab",)),
    replace(SMALL, top_k=2, alpha=4.0),
    replace(SMALL, ramp_tokens=2),
    replace(SMALL, blocks=3, top_k=2, ramp_tokens=8),
]
SHOWN = ("particles", "ess_threshold", "alpha", "stop", "top_k", "ramp_tokens")


def evidence_of(space: Space) -> float:
    """Σ_x p(x)^α over a space."""
    return float(np.exp([space.case.params.alpha * trace.log_p.sum() for trace in space.traces]).sum())


def check_unbiased(patch: pytest.MonkeyPatch, params: PowerParams) -> None:
    """Over every sequence of draws, the mean of the estimate is the evidence."""
    engine = random_engine(8, 3)
    found = outcomes(patch, "smc", engine, params)
    assert sum(probability for probability, _ in found) == pytest.approx(1.0, abs=1e-12)
    mean = sum(probability * math.exp(answer.log_evidence or 0.0) for probability, answer in found)
    exact = evidence_of(Space(Case(engine, params), params.max_tokens))
    assert mean == pytest.approx(exact, rel=1e-12), "the evidence is biased"


def mean_law(case: Case, runs: int) -> tuple[np.ndarray, Space]:
    """The law of the answer: the mean of the systems' normalised weights."""
    space = Space(case, case.params.max_tokens)
    law = np.zeros(len(space.traces))

    async def systems() -> None:
        for seed in range(runs):
            particles, _, _ = await SMC.run_system(ParallelDraws("smc", Job(case.engine, (0,), case.params, seed)))
            for trace, weight in zip(particles.traces, particles.weights, strict=True):
                law[space.index[trace.ids]] += weight / runs

    asyncio.run(systems())
    return law, space


def distances(engine: TabularEngine, params: PowerParams, counts: tuple[int, ...], runs: int) -> list[float]:
    """TV to p^α at each number of particles; the same total work at each."""
    found = []
    for count in counts:
        law, space = mean_law(Case(engine, replace(params, particles=count)), max(20, runs // count))
        found.append(total_variation(law, space.target))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("params", UNBIASED, ids=lambda p: " ".join(f"{n}={getattr(p, n)}" for n in SHOWN))
def test_the_evidence_is_unbiased_over_every_sequence_of_draws(
    monkeypatch: pytest.MonkeyPatch, params: PowerParams
) -> None:
    check_unbiased(monkeypatch, params)


@pytest.mark.slow
@pytest.mark.parametrize("ess_threshold", [0.0, 0.7, 1.0])
def test_the_evidence_is_unbiased_with_three_particles(monkeypatch: pytest.MonkeyPatch, ess_threshold: float) -> None:
    check_unbiased(monkeypatch, replace(SMALL, particles=3, top_k=2, ess_threshold=ess_threshold))


@pytest.mark.slow
def test_more_particles_come_closer_already_by_enumeration(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = plan_or_guess()
    found = []
    for count in (1, 2, 3):
        params = PowerParams(4, 4.0, blocks=4, top_k=None, particles=count)
        space = Space(Case(engine, params), 4)
        found.append(total_variation(law_of(outcomes(monkeypatch, "smc", engine, params), space), space.target))
    q = np.array([suffix[0] for suffix in space.q_suffix])
    assert found[0] == pytest.approx(total_variation(q, space.target), abs=1e-12), "one particle is a draw from q"
    assert found[0] > found[1] > found[2]


def check_converges(record: Record, counts: tuple[int, ...], runs: int, most: float, **more: Any) -> None:
    """The distance falls with the particles, down to the noise of the runs: below half of `most` no order is asked."""
    params = PowerParams(5, 2.0, blocks=5, top_k=None, **more)
    found = distances(random_engine(18, 5), params, counts, runs)
    record("tv", dict(zip(counts, found, strict=True)))
    print("smc", more, dict(zip(counts, np.round(found, 4).tolist(), strict=True)))
    assert found[-1] < most, "the law does not go to p^α"
    assert all(a > b or b < most / 2 for a, b in itertools.pairwise(found)), "more particles, and no closer"


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"ess_threshold": 1.0}, {"ramp_tokens": 4}], ids=str)
def test_the_law_goes_to_the_power_distribution(record_property: Record, more: dict[str, Any]) -> None:
    check_converges(record_property, (1, 8, 64), 1000, 0.08, **more)


@pytest.mark.long
@pytest.mark.parametrize("more", [{}, {"ess_threshold": 1.0}, {"ess_threshold": 0.0}, {"ramp_tokens": 4}], ids=str)
def test_the_law_goes_to_the_power_distribution_in_full(record_property: Record, more: dict[str, Any]) -> None:
    check_converges(record_property, (1, 4, 16, 64, 256), 40_000, 0.02, **more)


def seeded_evidence(runs: int) -> float:
    """How many standard errors the mean of seeded estimates is off, on a model with longer answers."""
    params = PowerParams(5, 2.0, blocks=5, top_k=None, particles=8)
    engine = random_engine(11, 5)

    async def estimates() -> list[float]:
        answers = [await METHODS["smc"](Job(engine, (0,), params, seed)) for seed in range(runs)]
        return [math.exp(answer.log_evidence or 0.0) for answer in answers]

    found = np.array(asyncio.run(estimates()))
    exact = evidence_of(Space(Case(engine, params), 5))
    off = (found.mean() - exact) / (found.std() / math.sqrt(runs))
    print(f"smc evidence {found.mean():.6f}, exact {exact:.6f}, {off:+.2f} standard errors over {runs} runs")
    return float(off)


@pytest.mark.slow
def test_the_evidence_is_unbiased_over_seeded_runs() -> None:
    assert abs(seeded_evidence(500)) < 4.5


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_evidence_is_unbiased_over_100000_seeded_runs() -> None:
    assert abs(seeded_evidence(100_000)) < 4.5


def test_a_token_budget_lowers_the_horizon_and_is_never_passed() -> None:
    engine = EndlessEngine(3, ("a", "b", "c", "<eos>"), (3,), end_mass=0.05)
    lengths = []
    for budget in (1, 5, 16, 17, 63, 64, 65, 640, 100_000):
        params = PowerParams(40, blocks=4, particles=16, max_generated_tokens=budget, memo_tree=False)
        answer = asyncio.run(METHODS["smc"](Job(engine, (0,), params, 3)))
        assert answer.usage.generated_tokens <= budget
        assert answer.ended_by is (EndedBy.COMPLETED if budget > 100 else EndedBy.TOKEN_BUDGET)
        assert (answer.log_evidence is None) == (answer.ended_by is not EndedBy.COMPLETED)
        lengths.append(len(answer.trace))
    assert lengths[0] == 1
    assert max(lengths) > 3


def test_systems_of_one_prompt_are_independent_and_replay() -> None:
    engine = EndlessEngine(3, ("a", "b", "c", "<eos>"), (3,), end_mass=0.02)
    params = PowerParams(30, 1.2, blocks=4, particles=8)

    def answer(chain: int) -> tuple[int, ...]:
        return asyncio.run(METHODS["smc"](Job(engine, (0,), params, 3, chain))).trace.ids

    assert [answer(chain) for chain in range(3)] == [answer(chain) for chain in range(3)]
    assert len({answer(chain) for chain in range(6)}) > 3


def reset_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Weights keep their old factors after a resampling: fault 7 of the released code."""
    resampled = SMC.resampled

    def kept(particles: Any, ancestors: Any) -> Any:
        new = resampled(particles, ancestors)
        new.log_weights = particles.log_weights[ancestors]
        return new

    patch.setattr(SMC, "resampled", kept)


def first_factor_forgotten(patch: pytest.MonkeyPatch) -> None:
    """ℓ_0 is left out, as if it were common to all: it is, but belongs to the evidence."""
    patch.setattr(SMC, "log_weight", lambda trace, since: float(trace.log_z[max(since, 1) :].sum()))


def weighed_after_the_end(patch: pytest.MonkeyPatch) -> None:
    """Ended particles go on gaining their last factor."""
    weight = SMC.log_weight

    def more(trace: Any, since: int) -> float:
        return weight(trace, since) if len(trace) > since else float(trace.log_z[-1])

    patch.setattr(SMC, "log_weight", more)


def resampled_by_the_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SMC, "systematic", lambda weights, u: np.zeros(len(weights), dtype=np.int64))


def nothing_recorded(name: str, value: object) -> None:
    """For checks run on mutants."""


@pytest.mark.slow
@pytest.mark.parametrize("mutate", [reset_forgotten, first_factor_forgotten, weighed_after_the_end])
def test_a_mutant_has_a_biased_evidence(
    monkeypatch: pytest.MonkeyPatch, mutate: Callable[[pytest.MonkeyPatch], None]
) -> None:
    mutate(monkeypatch)
    with pytest.raises(AssertionError, match="biased"):
        check_unbiased(monkeypatch, SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("mutate", [reset_forgotten, weighed_after_the_end, resampled_by_the_first])
def test_a_mutant_has_another_limit(
    monkeypatch: pytest.MonkeyPatch, mutate: Callable[[pytest.MonkeyPatch], None]
) -> None:
    mutate(monkeypatch)
    with pytest.raises(AssertionError, match="does not go to"):
        check_converges(nothing_recorded, (8, 64), 1000, 0.08, ess_threshold=1.0)
