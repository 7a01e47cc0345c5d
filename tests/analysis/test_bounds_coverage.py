"""Coverage of every bound, by exact summation over the outcomes; and of what is no bound."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats

from service.analysis.small_data_bounds import tails
from service.analysis.small_data_bounds.pac_bayes import catoni_upper, log_xi, pac_bayes_kl_upper

N, DELTA = 30, 0.1
XI_N = log_xi(N)
GRID = np.arange(1, 1000) / 1000
METHODS: dict[str, Callable[[int], float]] = {
    "binomial": lambda k: tails.binomial_tail_upper(k, N, DELTA),
    "chernoff": lambda k: tails.chernoff_upper(k / N, N, DELTA),
    "catoni": lambda k: catoni_upper(k / N, 0.0, N, DELTA, 2.0),
    "hoeffding": lambda k: tails.hoeffding_upper(k / N, N, DELTA),
    "pac_bayes_kl": lambda k: pac_bayes_kl_upper(k / N, 0.0, N, DELTA, XI_N),
    "wald": lambda k: tails.wald_upper(k / N, N, DELTA),
    "wilson": lambda k: tails.wilson_upper(k / N, N, DELTA),
}
LEAST = {"binomial": 0.9000, "chernoff": 0.9004, "catoni": 0.9315, "hoeffding": 0.9759, "pac_bayes_kl": 0.9869}
AT = {  # coverage at p = .05, .1, .3, .5, .9
    "binomial": (1.000, 0.958, 0.921, 0.949, 0.930),
    "chernoff": (1.000, 0.958, 0.970, 0.979, 0.994),
    "catoni": (1.000, 0.959, 0.990, 0.997, 0.999),
    "hoeffding": (1.000, 1.000, 0.991, 0.979, 0.998),
    "pac_bayes_kl": (1.000, 1.000, 0.998, 0.998, 0.997),
}


def coverage(bounds: Sequence[float], p: np.ndarray) -> np.ndarray:
    """P[bound(K) ≥ p] for K ~ Bin(n, p), summed exactly, at each p."""
    k = np.arange(len(bounds))
    law = stats.binom.pmf(k[None, :], len(bounds) - 1, p[:, None])
    return (law * (np.asarray(bounds)[None, :] >= p[:, None])).sum(axis=1)


def bounds_of(method: str) -> list[float]:
    return [METHODS[method](k) for k in range(N + 1)]


@pytest.mark.parametrize("method", LEAST)
def test_every_bound_covers(method: str) -> None:
    bounds = bounds_of(method)
    found = coverage(bounds, GRID)
    assert found.min() >= 1 - DELTA
    assert found.min() == pytest.approx(LEAST[method], abs=2e-3)
    assert coverage(bounds, np.array([0.05, 0.1, 0.3, 0.5, 0.9])) == pytest.approx(AT[method], abs=0.01)
    # Coverage is least just above a value that the bound can take.
    worst = np.nextafter([bound for bound in bounds if bound < 1], 1)
    assert coverage(bounds, worst).min() >= 1 - DELTA - 1e-9


def test_the_binomial_tail_is_exactly_as_wide_as_it_must_be() -> None:
    bounds = bounds_of("binomial")
    worst = np.nextafter(bounds[:-1], 1)
    assert coverage(bounds, worst) == pytest.approx(1 - DELTA, abs=1e-9)


def test_wald_and_wilson_do_not_cover() -> None:
    wald = bounds_of("wald")
    assert coverage(wald, np.array([0.001, 0.05, 0.3])) == pytest.approx([0.03, 0.785, 0.84], abs=0.01)
    assert coverage(bounds_of("wilson"), np.array([0.99])) == pytest.approx([0.74], abs=0.01)


def heterogeneous_coverage(probabilities: np.ndarray, bound: Callable[[int, int, float], float], delta: float) -> float:
    """Coverage of the mean of unequal error probabilities, by the exact law of their count."""
    law = np.array([1.0])
    for p in probabilities:
        law = np.convolve(law, [1 - p, p])
    n = len(probabilities)
    covers = [bound(k, n, delta) >= probabilities.mean() for k in range(n + 1)]
    return float(law @ covers)


def test_pooled_trials_of_fixed_problems_cover_thanks_to_the_floor() -> None:
    uneven = np.array([1.0] * 29 + [0.9488])
    plain = heterogeneous_coverage(uneven, tails.binomial_tail_upper, 0.05)
    assert plain == pytest.approx(0.9488, abs=1e-4)
    assert plain < 0.95
    assert heterogeneous_coverage(uneven, tails.pooled_binomial_upper, 0.05) >= 0.95
    rng = np.random.default_rng(1)
    for _ in range(300):
        shape = rng.choice([0.1, 0.3, 1.0, 5.0], size=2)
        probabilities = rng.beta(*shape, size=rng.integers(2, 40))
        assert heterogeneous_coverage(probabilities, tails.pooled_binomial_upper, 0.05) >= 0.95 - 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "pooled"), [(0.3, 0.70), (1.0, 0.75), (5.0, 0.86)])
def test_pooling_samples_of_problems_drawn_from_a_population_does_not_cover(shape: float, pooled: float) -> None:
    rng = np.random.default_rng(2)
    problems, samples, runs, delta = 30, 16, 4000, 0.05
    rates = rng.beta(shape, shape, (runs, problems))
    counts = rng.binomial(samples, rates)
    one = (rng.random(rates.shape) < counts / samples).sum(axis=1)
    means = counts / samples

    def covered(bounds: list[float]) -> float:
        return float(np.mean(1 - np.array(bounds) <= 0.5))

    wrong = covered([tails.binomial_tail_upper(480 - int(c), 480, delta) for c in counts.sum(axis=1)])
    drawn = covered([tails.binomial_tail_upper(problems - int(c), problems, delta) for c in one])
    by_means = covered([tails.chernoff_upper(float(1 - m.mean()), problems, delta) for m in means])
    clustered = covered([tails.cluster_t_upper(1 - m, delta) for m in means])
    assert wrong == pytest.approx(pooled, abs=0.02)
    assert drawn >= 0.95 - 0.011
    assert by_means >= 0.99
    assert clustered == pytest.approx(0.95, abs=0.012)


def test_the_best_of_several_needs_its_correction() -> None:
    k = np.arange(N + 1)
    for tried in (8, 32):
        law_of_best = np.diff(np.concatenate([[0.0], stats.binom.cdf(k, N, 0.5) ** tried]))
        naive = [1 - tails.binomial_tail_upper(N - int(i), N, 0.05) <= 0.5 for i in k]
        occam = [1 - tails.binomial_tail_upper(N - int(i), N, 0.05 / tried) <= 0.5 for i in k]
        assert float(law_of_best @ naive) < 0.75
        assert float(law_of_best @ occam) >= 0.95
