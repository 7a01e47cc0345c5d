"""The law of the whole staged chain converges to p^α, as fast as it should; the real chain has the enumerated law."""

from collections.abc import Callable

import numpy as np
import pytest

from sampler.params import PowerParams
from tests.exact.checks import check_limit, chi_square_p, empirical_law
from tests.exact.enumeration import Case, Space, StagedChain, total_variation
from tests.exact.models import plan_or_guess, random_engine

STEPS = (0, 10, 100, 1000)
Record = Callable[[str, object], None]


def mean_distances(cut: str, seeds: range) -> np.ndarray:
    """Mean over models of TV(law after N steps a stage, p^α), for each N of STEPS."""
    distances = []
    for seed in seeds:
        staged = StagedChain(Case(random_engine(seed, 6), PowerParams(6, blocks=3, top_k=None), cut), verify=False)
        distances.append([total_variation(staged.law(n), staged.last.target) for n in STEPS])
    return np.mean(distances, axis=0)


def check_convergence(means: np.ndarray) -> None:
    none, ten, hundred, thousand = means
    assert 0.2 < none < 0.6
    assert 0.02 < ten < 0.25
    assert hundred < 0.06
    assert thousand < 0.1 * hundred


@pytest.mark.slow
def test_the_staged_chain_converges_to_the_power_distribution(record_property: Record) -> None:
    means = mean_distances("entropy", range(8, 16))  # 0 to 7 are done after ten steps
    record_property("mean_tv", dict(zip(STEPS, means.tolist(), strict=True)))
    check_convergence(means)


@pytest.mark.slow
def test_on_48_models_entropy_cuts_come_closer_than_uniform_cuts(record_property: Record) -> None:
    entropy, uniform = (mean_distances(cut, range(48)) for cut in ("entropy", "uniform"))
    for name, means in (("entropy", entropy), ("uniform", uniform)):
        print(name, dict(zip(STEPS, means.tolist(), strict=True)))
        record_property(name, dict(zip(STEPS, means.tolist(), strict=True)))
        check_convergence(means)
    assert entropy[1] < uniform[1]
    assert entropy[2] < uniform[2]


@pytest.mark.parametrize("cut", ["entropy", "uniform"])
@pytest.mark.parametrize(("alpha", "top_k", "stop"), [(2.0, None, ()), (4.0, 2, ("ab",)), (0.5, None, ("ba",))])
def test_the_limit_is_the_power_distribution_with_stops_and_supports(
    cut: str, alpha: float, top_k: int | None, stop: tuple[str, ...]
) -> None:
    params = PowerParams(5, alpha, 1.0, 3, 10, top_k, stop=stop)
    check_limit(Case(random_engine(11, 5), params, cut))


def test_a_model_with_one_trace_keeps_it_at_no_cost() -> None:
    engine = random_engine(0, 3)
    for prefix in engine._logits:
        engine._logits[prefix] = np.array([0.0, -np.inf, -np.inf])
    counts, space = empirical_law(Case(engine, PowerParams(3, blocks=2, top_k=None)), 3)
    assert counts.tolist() == [3.0]
    assert space.traces[0].total_log_norm == -np.inf


def test_plan_or_guess_has_the_published_target_and_reaches_it() -> None:
    case = Case(plan_or_guess(), PowerParams(4, blocks=1, top_k=None))
    space = Space(case, 4)
    names = [case.engine.tokenizer.response_bytes(trace.ids).decode() for trace in space.traces]
    order = [names.index(name) for name in ("PLAN CALC 4", "PLAN CALC 5", "GUESS 4", "GUESS 5")]
    assert [round(float(x), 2) for x in np.exp([space.traces[i].log_p.sum() for i in order])] == [
        0.38,
        0.02,
        0.33,
        0.27,
    ]
    assert [round(float(x), 2) for x in space.target[order]] == [0.55, 0.0, 0.31, 0.14]
    low_temperature = np.array([suffix[0] for suffix in space.q_suffix])[order]
    assert round(float(low_temperature[2:].sum()), 3) == 0.835
    staged = StagedChain(case)
    assert total_variation(staged.law(1000), space.target) < 1e-12


def compare(cut: str, chains: int) -> float:
    params = PowerParams(4, 2.0, 1.0, blocks=2, steps_per_block=2, top_k=None, stop=("ab",))
    case = Case(random_engine(8, 4), params, cut)
    counts, space = empirical_law(case, chains)
    staged = StagedChain(case)
    law = staged.law(params.steps_per_block)
    assert total_variation(law, space.target) > 0.1, "the test could not tell the staged law from the target"
    return chi_square_p(counts, law)


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["entropy", "uniform"])
def test_the_real_chain_has_the_enumerated_law(cut: str) -> None:
    assert compare(cut, 3000) > 1e-6


@pytest.mark.long
@pytest.mark.parametrize("cut", ["entropy", "uniform"])
def test_the_real_chain_has_the_enumerated_law_over_40000_chains(cut: str) -> None:
    assert compare(cut, 40_000) > 1e-6


@pytest.mark.slow
def test_the_real_chain_reaches_the_plan_or_guess_target() -> None:
    case = Case(plan_or_guess(), PowerParams(4, blocks=1, steps_per_block=20, top_k=None))
    counts, _ = empirical_law(case, 500)
    assert chi_square_p(counts, StagedChain(case).law(20)) > 1e-6
