"""Golden values of the small-data bounds, and the identities that hold between them."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import fminbound

from service.analysis.small_data_bounds.pac_bayes import (
    best_beta,
    catoni_upper,
    divergence_of,
    log_xi,
    optimistic_upper,
    pac_bayes_kl_upper,
)
from service.analysis.small_data_bounds.tails import (
    binomial_tail_upper,
    chernoff_upper,
    hoeffding_upper,
    kl,
    kl_inverse,
    sign_test,
)

N, DELTA = 30, 0.1
UNIT = st.floats(0, 1)

XI = {8: 4.2450, 15: 5.5458, 30: 7.54946, 60: 10.38780, 164: 16.7249, 500: 28.6962}
UPPER = {  # errors: binomial tail, Chernoff, PAC-Bayes-kl, Hoeffding
    0: (0.0739, 0.0739, 0.1342, 0.1959),
    1: (0.1236, 0.1528, 0.2197, 0.2292),
    3: (0.2093, 0.2553, 0.3280, 0.2959),
    5: (0.2874, 0.3416, 0.4163, 0.3626),
    10: (0.4663, 0.5278, 0.5996, 0.5292),
    15: (0.6303, 0.6886, 0.7502, 0.6959),
    24: (0.8914, 0.9232, 0.9514, 0.9959),
    30: (1.0, 1.0, 1.0, 1.0),
}
SETTINGS = {  # the paper's Figure 2: data sets, E[optimistic], best Catoni and its β, kl with exact ξ, kl with 2√N
    "det1-1": ([(0.02, 1)], 0.16058, 0.16058, 2.238, 0.22149, 0.23201),
    "det1-2": ([(0.05, 2)], 0.24936, 0.24936, 1.842, 0.30856, 0.31869),
    "det2-1": ([(0.3, 1)], 0.53212, 0.53212, 0.976, 0.59489, 0.60482),
    "det2-2": ([(0.4, 50)], 0.98196, 0.98196, 4.403, 0.98390, 0.98423),
    "stoch1": ([(0.02, 1), (0.05, 2)], 0.20497, 0.20552, 1.985, 0.26502, 0.27535),
    "stoch2": ([(0.3, 1), (0.4, 50)], 0.75704, 0.76606, 0.976, 0.78940, 0.79453),
    "stoch3": ([(0.35, 5), (0.45, 30), (0.40, 7), (0.43, 25)], 0.83805, 0.85747, 2.231, 0.85827, 0.86164),
}


def mean_catoni(atoms: Sequence[tuple[float, float]], beta: float) -> float:
    return float(np.mean([catoni_upper(q, divergence, N, DELTA, beta) for q, divergence in atoms]))


def best_mean_catoni(atoms: Sequence[tuple[float, float]]) -> tuple[float, float]:
    betas = np.geomspace(0.05, 20, 400)
    start = betas[np.argmin([mean_catoni(atoms, beta) for beta in betas])]
    best = float(np.asarray(fminbound(lambda beta: mean_catoni(atoms, beta), start / 1.1, start * 1.1, xtol=1e-7)))
    return mean_catoni(atoms, best), best


@pytest.mark.parametrize("n", XI)
def test_the_exact_moment_term(n: int) -> None:
    assert math.exp(log_xi(n)) == pytest.approx(XI[n], abs=1e-4)
    assert math.sqrt(n) <= math.exp(log_xi(n)) <= 2 * math.sqrt(n)


@pytest.mark.parametrize("errors", UPPER)
def test_upper_bounds_on_risk(errors: int) -> None:
    q = errors / N
    found = (
        binomial_tail_upper(errors, N, DELTA),
        chernoff_upper(q, N, DELTA),
        pac_bayes_kl_upper(q, 0.0, N, DELTA),
        hoeffding_upper(q, N, DELTA),
    )
    assert found == pytest.approx(UPPER[errors], abs=6e-5)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_settings_of_the_papers_second_figure(name: str) -> None:
    atoms, floor, catoni, beta, exact, loose = SETTINGS[name]
    optimistic = float(np.mean([optimistic_upper(q, divergence, N, DELTA) for q, divergence in atoms]))
    found, at = best_mean_catoni(atoms)
    assert optimistic == pytest.approx(floor, abs=1e-4)
    assert found == pytest.approx(catoni, abs=1e-4)
    assert at == pytest.approx(beta, abs=2e-3)
    for moment, wanted in ((log_xi(N), exact), (math.log(2 * math.sqrt(N)), loose)):
        mean = np.mean([pac_bayes_kl_upper(q, divergence, N, DELTA, moment) for q, divergence in atoms])
        assert mean == pytest.approx(wanted, abs=1e-4)
    if len(atoms) == 1:
        assert abs(found - optimistic) < 1e-5
    else:
        assert found > optimistic + 1e-4


def test_one_beta_for_two_data_sets_can_be_worse_than_kl() -> None:
    atoms = [(0.2, 0.5), (0.02, 40.0)]
    kl_bound = np.mean([pac_bayes_kl_upper(q, divergence, N, DELTA) for q, divergence in atoms])
    floor = np.mean([optimistic_upper(q, divergence, N, DELTA) for q, divergence in atoms])
    assert (kl_bound, best_mean_catoni(atoms)[0], floor) == pytest.approx((0.63542, 0.66189, 0.59330), abs=1e-4)


def test_scipys_exact_interval_is_the_binomial_tail() -> None:
    for n in (1, 5, 30, 164, 500):
        for errors in sorted({0, 1, n // 3, n // 2, n - 1, n}):
            for delta in (0.2, 0.05, 1e-3):
                exact = stats.binomtest(errors, n, alternative="less").proportion_ci(1 - delta, "exact").high
                assert binomial_tail_upper(errors, n, delta) == pytest.approx(exact, abs=1e-12)


def test_without_errors_binomial_and_chernoff_are_one_closed_form() -> None:
    for n in (1, 30, 1000):
        wanted = -math.expm1(math.log(DELTA) / n)
        assert binomial_tail_upper(0, n, DELTA) == pytest.approx(wanted, rel=1e-12)
        assert chernoff_upper(0.0, n, DELTA) == pytest.approx(wanted, rel=1e-12)


def legendre(q: float, p: float) -> float:
    """The largest C_β(q, p) over β."""

    def negative(beta: float) -> float:
        return math.log1p(p * math.expm1(-beta)) + beta * q

    return -negative(float(np.asarray(fminbound(negative, 1e-9, 60, xtol=1e-8))))


def test_catonis_moment_is_one_and_its_supremum_is_kl() -> None:
    n = 12
    j = np.arange(n + 1)
    for beta in (0.1, 1.0, 5.0):
        for r in np.linspace(0, 1, 21):
            log_weight = -math.log1p(r * math.expm1(-beta))
            moment = np.sum(stats.binom.pmf(j, n, r) * np.exp(n * log_weight - beta * j))
            assert abs(math.log(moment)) < 2e-13
    for q, p in ((0.1, 0.4), (0.0, 0.3), (0.3, 0.9), (0.05, 0.06)):
        assert legendre(q, p) == pytest.approx(kl(q, p), abs=1e-9)


def test_the_moment_of_kl_does_not_depend_on_r() -> None:
    n = 20
    j = np.arange(n + 1)
    moments = []
    for r in (0.03, 0.2, 0.5, 0.77):
        divergence = np.array([kl(i / n, r) for i in j])
        moments.append(np.sum(stats.binom.pmf(j, n, r) * np.exp(n * divergence)))
    assert moments == pytest.approx([math.exp(log_xi(n))] * 4, rel=1e-12)


def random_affine_bound(rng: np.random.Generator, q: float, divergence: float) -> float:
    """The bound of a random maximum of affine functions; its moment by a grid, which is too small if anything."""
    a, b, c = rng.normal(0, 3, (3, rng.integers(1, 9)))
    b[0] = abs(b[0])
    j = np.arange(N + 1)
    grid = np.linspace(0, 1, 1001)[:, None]
    delta = (a * (j / N)[None, :, None] + b * grid[:, :, None] + c).max(axis=2)
    log_moments = stats.binom.logpmf(j, N, grid) + N * delta
    log_moment = np.logaddexp.reduce(log_moments, axis=1).max()
    right = (divergence + log_moment + math.log(1 / DELTA)) / N
    rising = b > 0
    if not rising.any():
        return 1.0
    highest = np.min((right - a[rising] * q - c[rising]) / b[rising])
    return float(np.clip(highest, 0, 1))


@pytest.mark.slow
def test_no_convex_function_goes_under_the_floor() -> None:
    rng = np.random.default_rng(0)
    slack = []
    for _ in range(300):
        q, divergence = rng.uniform(0, 0.5), rng.uniform(0, 20)
        slack.append(random_affine_bound(rng, q, divergence) - optimistic_upper(q, divergence, N, DELTA))
    assert min(slack) > 0


def test_a_fitted_beta_is_the_optimistic_curve() -> None:
    for q, divergence in ((0.0, 0.0), (0.05, 2.0), (0.4, 50.0)):
        beta = best_beta(q, divergence, N, DELTA)
        assert catoni_upper(q, divergence, N, DELTA, beta) == pytest.approx(
            optimistic_upper(q, divergence, N, DELTA), abs=1e-6
        )


@given(UNIT, st.floats(1e-6, 50))
def test_the_inverse_is_conservative_and_tight(q: float, c: float) -> None:
    p = kl_inverse(q, c)
    assert q <= p <= 1
    assert p == 1 or kl(q, p) >= c * (1 - 1e-9) - 1e-12
    assert kl(q, max(q, p - 1e-6)) <= c + 1e-12


@given(st.integers(1, 400), st.floats(1e-6, 0.5), st.data())
def test_bounds_are_in_order_and_monotone(n: int, delta: float, data: st.DataObject) -> None:
    errors = data.draw(st.integers(0, n))
    q = errors / n
    binomial, chernoff = binomial_tail_upper(errors, n, delta), chernoff_upper(q, n, delta)
    assert q <= binomial <= chernoff + 1e-12
    assert chernoff <= hoeffding_upper(q, n, delta) + 1e-12
    assert binomial_tail_upper(errors, n, delta / 2) >= binomial
    assert optimistic_upper(q, 1.0, n, delta) >= chernoff
    assert pac_bayes_kl_upper(q, 1.0, n, delta) >= optimistic_upper(q, 1.0, n, delta)
    if errors:
        assert binomial_tail_upper(errors - 1, n, delta) <= binomial


def test_divergence_over_a_finite_set() -> None:
    uniform = np.full(8, 1 / 8)
    half = np.array([0.5, 0.5, 0, 0, 0, 0, 0, 0])
    assert divergence_of(half, uniform) == pytest.approx(1.3863, abs=1e-4)
    assert divergence_of(uniform, uniform) == 0
    assert divergence_of(uniform, half) == math.inf
    risk = float(half @ np.array([0.3, 0.4, *[0.5] * 6]))
    assert pac_bayes_kl_upper(risk, divergence_of(half, uniform), N, 0.05) == pytest.approx(0.67007, abs=1e-4)
    assert pac_bayes_kl_upper(1 / 3, math.log(8), N, 0.05) == pytest.approx(0.67031, abs=1e-4)
    assert chernoff_upper(1 / 3, N, 0.05 / 8) == pytest.approx(0.62105, abs=1e-4)
    assert binomial_tail_upper(10, N, 0.05 / 8) == pytest.approx(0.57648, abs=1e-4)


@pytest.mark.parametrize(
    ("wins", "losses", "p"), [(5, 0, 0.0313), (6, 1, 0.0625), (8, 2, 0.0547), (0, 0, 1.0), (0, 5, 1.0)]
)
def test_the_sign_test(wins: int, losses: int, p: float) -> None:
    assert sign_test(wins, losses) == pytest.approx(p, abs=1e-4)
