"""Certified selection and the exact case: lemmas, exact audit, recovery whatever the dimension, audit by draws."""

import itertools
import random
import secrets
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from math import lcm

import numpy as np
import pytest
from scipy.stats import binomtest

from service.analysis.private_subspace import exact
from service.analysis.private_subspace.selection import (
    accounted_delta,
    exactly,
    half_width,
    is_released,
    release_probability,
    rounded_up,
    threshold,
)

Rows = list[list[int]]
Space = tuple[tuple[Fraction, ...], ...]
ONE, MILLIONTH = Decimal(1), Decimal("1e-6")


def rows_near(
    n: int, d: int, k: int, outliers: int, rng: np.random.Generator
) -> tuple[list[list[int]], list[list[int]]]:
    """A basis [k, d] and n rows, of which all but the outliers are small combinations of it."""
    basis = rng.integers(-5, 6, (k, d))
    rows = rng.integers(-9, 10, (n, k)) @ basis
    rows[:outliers] = rng.integers(-20, 21, (outliers, d))
    return basis.tolist(), rows.tolist()


@pytest.mark.parametrize(("epsilon", "width"), [("0.5", 25.38), ("1", 13.664), ("2", 7.49), ("4", 4.28)])
def test_half_widths(epsilon: str, width: float) -> None:
    assert float(half_width(Decimal(epsilon), MILLIONTH)) == pytest.approx(width, abs=6e-3)


@pytest.mark.parametrize(
    ("epsilon", "certain", "likely"), [("0.5", 102, 67), ("1", 55, 36), ("2", 30, 19), ("4", 18, 11)]
)
def test_unanimous_blocks_needed(epsilon: str, certain: int, likely: int) -> None:
    """Votes t give the gap form the margin t/2."""
    e = Decimal(epsilon)
    assert min(t for t in range(200) if release_probability(Fraction(t, 2), e, MILLIONTH) == 1) == certain
    assert min(t for t in range(200) if release_probability(Fraction(t, 2), e, MILLIONTH) >= Decimal("0.99")) == likely


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", ["0.1", "0.5", "1", "2", "4"])
@pytest.mark.parametrize("delta", ["1e-2", "1e-4", "1e-6", "1e-9"])
def test_the_audit_of_the_primitive_is_tight(epsilon: str, delta: str) -> None:
    """Every pair of neighbouring margins on a grid of quarters keeps the promise, and one pair has no slack left."""
    e, d = Decimal(epsilon), Decimal(delta)
    assert release_probability(Fraction(1), e, d) == pytest.approx(d, rel=Decimal("1e-9"))
    width = half_width(e, d)
    assert release_probability(2 * Fraction(width) + Fraction(1, 10**40), e, d) == 1
    released = {i: release_probability(Fraction(i, 4), e, d) for i in range(int(8 * width) + 12)}
    slack: list[Decimal] = []
    for i, j in itertools.product(released, range(-4, 5)):
        if i + j in released:
            slack.append(e.exp() * released[i + j] + d - released[i])
            slack.append(e.exp() * (1 - released[i + j]) + d - (1 - released[i]))
    # Best items that differ: both margins are at most 1, and either item's release weighs at most δ.
    slack += [d - released[i] for i in range(5)]
    assert min(slack) >= Decimal("-3e-15")
    assert min(slack) <= Decimal("3e-15")


def test_what_is_drawn_is_what_was_audited() -> None:
    for i in range(60):
        p = release_probability(Fraction(i, 2), ONE, MILLIONTH)
        assert 0 <= Fraction(p) - Fraction(threshold(p), 2**128) < Fraction(1, 2**127)
    source = random.Random(5)
    assert not any(is_released(Fraction(0), ONE, MILLIONTH, source) for _ in range(100))
    assert all(is_released(Fraction(28), ONE, MILLIONTH, source) for _ in range(100))
    drawn = sum(is_released(Fraction(14), ONE, MILLIONTH, source) for _ in range(3_000))
    assert binomtest(drawn, 3_000, float(release_probability(Fraction(14), ONE, MILLIONTH))).pvalue > 1e-4


def test_delta_counts_the_search_and_is_never_rounded_down() -> None:
    total = accounted_delta(ONE, MILLIONTH, exact.MISS)
    assert float(total) == pytest.approx(1.0037e-6, rel=1e-4)
    assert Decimal(rounded_up(total)) >= total
    assert rounded_up(total) == pytest.approx(float(total), rel=1e-12)


def all_subspaces(rows: Rows, k: int) -> set[Space]:
    """Every subspace of dimension k that rows span, by its echelon form."""
    forms = (exact.echelon(chosen) for chosen in itertools.combinations(rows, k))
    return {tuple(map(tuple, form)) for form in forms if any(form[-1])}


def count_inside(rows: Rows, space: Space) -> int:
    if not space:
        return sum(not any(row) for row in rows)
    pivots = [next(j for j, entry in enumerate(line) if entry) for line in space]
    rests = (
        [sum(row[p] * line[j] for p, line in zip(pivots, space, strict=True)) for j in range(len(row))] for row in rows
    )
    return sum(row == rest for row, rest in zip(rows, rests, strict=True))


def is_within(small: Space, large: Space) -> bool:
    scale = lcm(*(entry.denominator for line in small for entry in line))
    lines = [[int(entry * scale) for entry in line] for line in small]
    return count_inside(lines, large) == len(lines)


def score_by_definition(
    rows: list[list[int]], space: tuple[tuple[Fraction, ...], ...], everything: list[list[int]]
) -> int:
    """u(X, s), the maximum taken over every subspace that rows of either data set span."""
    k = len(space)
    smaller = {form for size in range(k) for form in (all_subspaces(everything, size) if size else {()})}
    return count_inside(rows, space) - max(count_inside(rows, t) for t in smaller if is_within(t, space))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("k", "instances"),
    [(1, 40), (2, 12), (3, 3), *(pytest.param(k, 100, marks=[pytest.mark.long]) for k in (1, 2, 3))],
)
def test_lemmas_on_small_data(k: int, instances: int) -> None:
    """Replacing a row moves a score by at most 1; at most one subspace has a majority; the search finds it."""
    rng, source = np.random.default_rng(k), random.Random(k)
    found_majorities = 0
    for _ in range(instances):
        n = int(rng.integers(5, 9))
        rows = (rng.integers(-1, 2, (n, k)) @ rng.integers(-1, 2, (k, 4))).tolist() if rng.random() < 0.7 else []
        rows = rows or rng.integers(-1, 2, (n, 4)).tolist()
        other = [*rows[:-1], rng.integers(-1, 2, 4).tolist()]
        both = [*rows, other[-1]]
        spaces = all_subspaces(both, k)
        scores = {space: score_by_definition(rows, space, both) for space in spaces}
        changed = {space: score_by_definition(other, space, both) for space in spaces}
        assert all(abs(scores[space] - changed[space]) <= 1 for space in spaces)
        majority = [space for space in spaces if 2 * scores[space] > n]
        assert len(majority) <= 1
        found = exact.search(rows, k, source)
        assert (exact.margin(found, n) > 0) == bool(majority)
        if majority:
            found_majorities += 1
            assert found is not None
            assert found.score == scores[majority[0]]
            assert tuple(map(tuple, exact.echelon([rows[i] for i in found.spanning]))) == majority[0]
    assert found_majorities or instances < 10


def test_the_largest_hyperplane_of_many_dimensions() -> None:
    rng = np.random.default_rng(3)
    for k in (1, 2, 3, 4):
        points = rng.integers(-1, 2, (9, k))
        brute = max(
            int((points @ across == 0).all(axis=1).sum() if across.ndim > 1 else (points @ across == 0).sum())
            for across in map(np.array, itertools.product(range(-4, 5), repeat=k))
            if across.any()
        )
        assert exact.largest_hyperplane([[int(x) % exact.PRIME for x in point] for point in points], 99) == brute


@pytest.mark.slow
@pytest.mark.parametrize(("d", "outliers"), [(12, 0), (100, 0), (500, 0), (500, 6)])
def test_recovery_does_not_depend_on_the_dimension(d: int, outliers: int) -> None:
    rng, source = np.random.default_rng(d + outliers), secrets.SystemRandom()
    for _ in range(10 if not outliers else 4):
        basis, rows = rows_near(64, d, 2, outliers, rng)
        found = exact.search(rows, 2, source)
        assert found is not None
        assert exact.echelon([rows[i] for i in found.spanning]) == exact.echelon(basis)
        assert release_probability(exact.margin(found, 64), ONE, MILLIONTH) > (0.6 if outliers else 0.99)


@pytest.mark.long
@pytest.mark.parametrize("d", [12, 100, 500])
def test_never_a_wrong_subspace(d: int) -> None:
    """From no outlier to more than half: the true subspace, or nothing."""
    rng, source = np.random.default_rng(d), secrets.SystemRandom()
    seen: Counter[str] = Counter()
    for outliers in range(36):
        for _ in range(3):
            basis, rows = rows_near(64, d, 2, outliers, rng)
            found = exact.search(rows, 2, source)
            if not is_released(exact.margin(found, 64), ONE, MILLIONTH, source):
                seen["null"] += 1
                continue
            assert found is not None
            right = exact.echelon([rows[i] for i in found.spanning]) == exact.echelon(basis)
            seen["right" if right else "wrong"] += 1
    print(dict(seen))
    assert seen["wrong"] == 0
    assert seen["right"] > 20
    assert seen["null"] > 20


def test_three_dimensions_and_entries_that_no_small_prime_could_hold() -> None:
    rng, source = np.random.default_rng(0), secrets.SystemRandom()
    basis, rows = rows_near(80, 30, 3, 6, rng)
    found = exact.search(rows, 3, source)
    assert found is not None
    assert exact.echelon([rows[i] for i in found.spanning]) == exact.echelon(basis)
    large = [[a * 99_991 + b * 7, a * 65_537 + b * 99_989, a * 31 + b * 77_773] for a in range(1, 9) for b in range(8)]
    found = exact.search(large, 2, source)
    assert found is not None
    basis = exact.echelon([large[i] for i in found.spanning])
    assert basis == exact.echelon([[99_991, 65_537, 31], [7, 99_989, 77_773]])
    assert max(entry.numerator for row in basis for entry in row) > 32_767  # more than a residue of 31 bits can tell


def lower_bound(first: int, second: int, draws: int, delta: float) -> float:
    """95 % lower bound on ε from how often an event came under each of two neighbours; four such bounds are made."""
    confidence = 1 - 0.05 / 4
    low = binomtest(first, draws, alternative="greater").proportion_ci(confidence, "exact").low
    high = binomtest(second, draws, alternative="less").proportion_ci(confidence, "exact").high
    return float(np.log((low - delta) / high)) if low > delta else 0.0


def audited_epsilon(margins: tuple[Fraction, Fraction], epsilon: Decimal, delta: Decimal, draws: int) -> float:
    """The largest of the four bounds: released or not, one way and the other."""
    source = random.Random(3)  # one seed in 250 is a false alarm
    limits = [threshold(release_probability(g, epsilon, delta)) for g in margins]
    released = [sum(source.getrandbits(128) < limit for _ in range(draws)) for limit in limits]
    pairs = [(a, b) for a, b in itertools.permutations(released)]
    pairs += [(draws - a, draws - b) for a, b in pairs]
    return max(lower_bound(a, b, draws, float(delta)) for a, b in pairs)


def neighbouring_margins(outliers: int) -> tuple[Fraction, Fraction]:
    """Margins of 40 rows, and of the same with one more inlier turned outlier, by the whole search."""
    rng, source = np.random.default_rng(11), secrets.SystemRandom()
    basis = np.array([[1, 0, 2, -1, 3, 1], [0, 1, 1, 4, -2, 5]])
    rows = (np.array([[a, 31 - a] for a in range(1, 41)]) @ basis).tolist()
    rows[:outliers] = rng.integers(-50, 51, (outliers, 6)).tolist()
    other = [*rows]
    other[outliers] = [17, -3, 40, 8, -29, 2]
    found = [exact.margin(exact.search(data, 2, source), 40) for data in (rows, other)]
    return found[0], found[1]


@pytest.mark.slow
@pytest.mark.parametrize("draws", [40_000, pytest.param(400_000, marks=pytest.mark.long)])
def test_the_statistical_audit_clears_the_real_one_and_catches_half_the_noise(draws: int) -> None:
    epsilon, delta = exactly(0.5), exactly(0.01)
    assert float(half_width(epsilon, delta)) == pytest.approx(7.02, abs=0.01)
    honest, halved = [], []
    for outliers in (9, 11, 13, 14, 16):
        margins = neighbouring_margins(outliers)
        assert margins == (19 - outliers, 18 - outliers)
        honest.append(audited_epsilon(margins, epsilon, delta, draws))
        halved.append(audited_epsilon(margins, 2 * epsilon, delta, draws))  # half the noise, the same promise
    print("lower bounds on epsilon:", np.round(honest, 3), "with half the noise:", np.round(halved, 3))
    assert max(honest) <= 0.5
    assert max(honest) > 0.4
    assert all(bound > 0.5 for bound in halved[1:])
