"""Every error bar against an oracle: enumeration, scipy, or exact coverage."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest, poisson_binom

from evals.statistics.bounds import (
    Side,
    binomial_tail,
    binomial_tail_fixed,
    chernoff_kl,
    hoeffding_means,
    kl_inverse,
    union_delta,
)
from evals.statistics.paired import clustered_mcnemar, compare, sign_flip
from evals.statistics.resampling import cluster_mean, pass_at_k, pass_curve, ratio_of_sums

GRID = np.linspace(0.001, 0.999, 333)


@pytest.mark.slow
@pytest.mark.parametrize(("total", "delta"), [(1, 0.05), (30, 0.1), (164, 0.05)])
def test_the_binomial_tail_is_scipys_exact_interval(total: int, delta: float) -> None:
    for correct in range(total + 1):
        found = binomtest(correct, total).proportion_ci(1 - delta, "exact")
        assert binomial_tail(correct, total, delta) == pytest.approx((found.low, found.high), abs=1e-11)
        less = binomtest(total - correct, total, alternative="less").proportion_ci(1 - delta, "exact")
        assert binomial_tail(correct, total, delta, Side.LOWER) == pytest.approx((1 - less.high, 1.0), abs=1e-11)


def test_the_published_table_of_lower_limits() -> None:
    lower = {(12, 30): 0.2495, (24, 30): 0.643, (120, 164): 0.669, (80, 198): 0.3455, (370, 500): 0.7057}
    for (correct, total), limit in lower.items():
        assert binomial_tail(correct, total, 0.05, Side.LOWER).lower == pytest.approx(limit, abs=6e-4)
    assert binomial_tail(30, 30, 0.05, Side.LOWER).lower == pytest.approx(0.9050, abs=1e-4)
    for tried, limit in {1: 0.5006, 8: 0.4235, 32: 0.3834}.items():
        assert binomial_tail(20, 30, union_delta(0.05, tried), Side.LOWER).lower == pytest.approx(limit, abs=1e-4)


def coverage(bounds: list[tuple[float, float]], law: np.ndarray, truth: float) -> float:
    """The exact chance that the interval of a count holds the truth."""
    inside = np.array([low <= truth <= high for low, high in bounds])
    return float(law[inside].sum())


def test_exact_coverage_at_thirty_problems() -> None:
    exact = [binomial_tail(count, 30, 0.1) for count in range(31)]
    chernoff = [chernoff_kl(count / 30, 30, 0.1) for count in range(31)]
    for truth in GRID:
        law = binom.pmf(range(31), 30, truth)
        assert coverage(list(exact), law, truth) >= 0.9 - 1e-9
        assert coverage(list(chernoff), law, truth) >= 0.9 - 1e-9
    means = np.arange(31) / 30
    wald = [(m - w, m + w) for m, w in zip(means, 1.6449 * np.sqrt(means * (1 - means) / 30), strict=True)]
    assert coverage(wald, binom.pmf(range(31), 30, 0.05), 0.05) < 0.85, "the usual interval does not cover"


def test_unequal_problems_are_covered_with_the_floor_and_not_without() -> None:
    """29 certain failures and one problem that fails with 0.9488: the plain limit misses by a hair."""
    failing = np.append(np.ones(29), 0.9488)
    law = poisson_binom.pmf(range(31), 1 - failing)
    truth = float(1 - failing.mean())
    plain = [binomial_tail(count, 30, 0.05, Side.LOWER) for count in range(31)]
    floored = [binomial_tail_fixed(count, 30, 0.05, Side.LOWER) for count in range(31)]
    assert coverage(list(plain), law, truth) < 0.95
    assert coverage(list(floored), law, truth) >= 0.95
    rng = np.random.default_rng(1)
    both = [binomial_tail_fixed(count, 30, 0.05) for count in range(31)]
    for _ in range(200):
        rates = rng.beta(*rng.uniform(0.1, 3, 2), size=30)
        assert coverage(list(both), poisson_binom.pmf(range(31), rates), float(rates.mean())) >= 0.95


@pytest.mark.parametrize("budget", [0.01, 0.3, 2.0])
def test_kl_inverse_is_the_last_point_within_the_budget(budget: float) -> None:
    for q in (0.0, 0.2, 0.9, 1.0):
        p = kl_inverse(q, budget)
        if q == 0:
            assert p == pytest.approx(1 - math.exp(-budget), abs=1e-12)
        if 0 < q < 1:
            assert q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p)) == pytest.approx(budget, rel=1e-6)
        assert q <= p <= 1


def test_hoeffding_covers_unequal_numbers_of_draws() -> None:
    rng = np.random.default_rng(2)
    rates, counts = rng.beta(0.5, 0.5, 20), rng.integers(1, 9, 20)
    draws = rng.binomial(counts, rates, (2000, 20)) / counts
    inside = [low <= rates.mean() <= high for low, high in (hoeffding_means(list(d), list(counts)) for d in draws)]
    assert np.mean(inside) >= 0.95
    assert hoeffding_means([0.5] * 4, [25] * 4).upper == pytest.approx(0.5 + math.sqrt(math.log(40) / 200))


def test_the_best_of_eight_is_covered_only_with_the_union() -> None:
    """Eight equally good configurations on 30 problems: the naive bound on the winner fails, Occam's holds."""
    best = np.random.default_rng(3).binomial(30, 0.5, (4000, 8)).max(axis=1)
    naive = np.array([binomial_tail(int(count), 30, 0.05, Side.LOWER).lower for count in range(31)])
    united = np.array([binomial_tail(count, 30, union_delta(0.05, 8), Side.LOWER).lower for count in range(31)])
    assert (naive[best] <= 0.5).mean() < 0.8
    assert (united[best] <= 0.5).mean() >= 0.95


@pytest.mark.parametrize(("total", "correct"), [(1, 0), (1, 1), (5, 2), (6, 0), (6, 6), (7, 3)])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_answer(total: int, correct: int) -> None:
    answers = [True] * correct + [False] * (total - correct)
    for k in range(1, total + 1):
        subsets = list(itertools.combinations(answers, k))
        assert pass_at_k(total, correct, k) == pytest.approx(np.mean([any(s) for s in subsets]), abs=1e-12)


def test_pass_curve_goes_as_far_as_every_problem() -> None:
    curve = pass_curve([4, 3], [1, 3], np.random.default_rng(0))
    assert list(curve) == [1, 2, 3]
    assert curve[1].value == pytest.approx((0.25 + 1) / 2)


def test_the_bootstrap_of_a_mean_is_the_enumerated_one() -> None:
    """All 4^4 resamples of four problems: the same quantiles."""
    values = [0.0, 0.25, 0.5, 1.0]
    means = np.sort([np.mean(each) for each in itertools.product(values, repeat=4)])
    found = cluster_mean(values, np.random.default_rng(4), delta=0.1, draws=200_000)
    assert found.value == pytest.approx(0.4375)
    assert (found.lower, found.upper) == pytest.approx(np.quantile(means, [0.05, 0.95]), abs=0.0126)


@pytest.mark.slow
def test_resampling_problems_covers_and_resampling_answers_does_not() -> None:
    """60 problems of very unequal difficulty with 8 answers each: what is random is which problems there are."""
    rng = np.random.default_rng(5)
    clustered, pooled = [], []
    for _ in range(300):
        rates = rng.beta(0.5, 0.5, 60)
        answers = rng.binomial(1, rates[:, None], (60, 8)).astype(float)
        low, high = cluster_mean(answers.mean(axis=1), rng, draws=400)[1:]
        clustered.append(low <= 0.5 <= high)
        low, high = cluster_mean(answers.ravel(), rng, draws=400)[1:]
        pooled.append(low <= 0.5 <= high)
    assert np.mean(clustered) > 0.90
    assert np.mean(pooled) < 0.75


def test_ratio_of_sums_and_its_edges() -> None:
    rng = np.random.default_rng(6)
    assert ratio_of_sums([1, 3], [2, 2], rng).value == 1
    assert math.isnan(ratio_of_sums([1], [2], rng).lower), "one problem has no spread"
    assert math.isnan(ratio_of_sums([0, 0], [0, 0], rng).value)
    assert ratio_of_sums([1, 1, 1], [0, 0, 3], rng).value == 1
    with pytest.raises(ValueError, match="one value above"):
        cluster_mean([], rng)


def test_sign_flip_is_the_enumerated_distribution() -> None:
    for differences in ([1, -2, 3, 0], [2, 2, 2], [1, 1, -1, 1, 0, 0], [4]):
        signs = itertools.product((-1, 1), repeat=len(differences))
        sums = [abs(sum(s * d for s, d in zip(each, differences, strict=True))) for each in signs]
        assert sign_flip(differences) == pytest.approx(np.mean([s >= abs(sum(differences)) for s in sums]))
    assert sign_flip([0, 0]) == sign_flip([]) == 1.0


def test_paired_tests_on_one_answer_a_problem() -> None:
    found = compare([1] * 5 + [0] * 25)
    assert (found.wins, found.losses, found.ties) == (5, 0, 25)
    assert found.sign_p_one_sided == pytest.approx(0.03125)
    assert found.flip_p == pytest.approx(found.sign_p) == pytest.approx(0.0625)
    assert found.mcnemar_z == pytest.approx(5 / math.sqrt(5))
    assert compare([1] * 6 + [-1]).sign_p_one_sided == pytest.approx(0.0625)
    assert compare([0, 0]) == (0, 0, 2, 0.0, 1.0, 1.0, 1.0, 1.0)


def test_the_clustered_test_keeps_its_level_where_pooling_does_not() -> None:
    """Both arms solve a problem with one random rate; eight answers each rise and fall together."""
    rng = np.random.default_rng(7)
    clustered, pooled = [], []
    for _ in range(800):
        shift = rng.choice([-0.3, 0.3], 80)
        found = rng.binomial(8, 0.5 + shift) - rng.binomial(8, 0.5 - shift)
        clustered.append(clustered_mcnemar([int(a) for a in found])[1] < 0.05)
        pooled.append(abs(found.sum()) / math.sqrt(np.abs(found).sum()) > 1.96)
    assert 0.02 < np.mean(clustered) < 0.08
    assert np.mean(pooled) > 0.2


@pytest.mark.parametrize("wrong", [(3, 2), (-1, 4), (0, 0)])
def test_impossible_counts_are_refused(wrong: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="is no count"):
        binomial_tail(*wrong)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, float("nan")])
def test_impossible_levels_are_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="delta"):
        binomial_tail(1, 2, delta)
    with pytest.raises(ValueError, match="tried"):
        union_delta(0.05, 0)
    with pytest.raises(ValueError, match="weight"):
        union_delta(0.05, 2, 0.0)
