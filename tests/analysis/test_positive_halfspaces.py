"""Halfspaces from positives and queries: no false positive, few queries, exact certificates."""

from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import linprog

from service.analysis.positive_query_learning import exact
from tests.analysis.halfspaces import Case, Points, draw, run

KINDS = ("gaussian", "margins", "anisotropic")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimension", [2, 5, 10])
def test_no_negative_near_the_boundary_passes(kind: str, dimension: int) -> None:
    check_no_false_positive(kind, dimension, 0, fresh=10_000, exactly=5)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimension", [2, 5, 10])
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_no_negative_near_the_boundary_passes_in_full_counts(kind: str, dimension: int, seed: int) -> None:
    check_no_false_positive(kind, dimension, seed, fresh=60_000, exactly=60)


def check_no_false_positive(kind: str, dimension: int, seed: int, *, fresh: int, exactly: int) -> None:
    case = draw(kind, dimension, 2000, fresh, seed)
    result = run(case)
    negatives = case.mirrored()
    assert len(negatives) > 0.99 * len(case.fresh)
    assert not result.learned.accepts(negatives).any()
    near = np.argsort(-(negatives @ case.normal))[:exactly]
    assert not any(result.certifies(point) for point in negatives[near])
    assert result.learned.accepts(case.fresh).mean() > 0.99


def misses(dimension: int, count: int, seed: int) -> tuple[float, int]:
    case = draw("gaussian", dimension, count, 20_000, 100 + seed)
    result = run(case)
    return 1 - float(result.learned.accepts(case.fresh).mean()), result.queries


@pytest.mark.parametrize("dimension", [3, 6])
def test_queries_grow_like_log_n_and_misses_fall_like_its_inverse(dimension: int) -> None:
    check_growth(dimension, [100, 400, 1600, 6400], 3)


@pytest.mark.long
@pytest.mark.parametrize("dimension", [3, 6])
def test_growth_in_full_counts(dimension: int) -> None:
    check_growth(dimension, [100, 400, 1600, 6400, 25_600, 102_400], 3)


def check_growth(dimension: int, counts: list[int], seeds: int) -> None:
    found = np.array([[misses(dimension, count, seed) for seed in range(seeds)] for count in counts]).mean(axis=1)
    for count, rate in zip(counts, found[:, 0], strict=True):
        assert rate <= 3 * (dimension + 1) / count
    queries, logs = found[:, 1], np.log(counts)
    print(dimension, "misses", found[:, 0], "queries", queries)
    assert np.polyfit(logs, np.log(queries), 1)[0] <= 0.3
    line = np.polyval(np.polyfit(logs, queries, 1), logs)
    assert 1 - np.sum((queries - line) ** 2) / np.sum((queries - queries.mean()) ** 2) >= 0.85, "linear in ln n"


@pytest.mark.parametrize("dimension", [2, 5, 10])
def test_queries_grow_like_the_square_of_the_dimension_at_most(dimension: int) -> None:
    assert run(draw("gaussian", dimension, 20_000, 10, 3)).queries <= 6 * (dimension + 1) ** 2


def in_hull(positives: Points, point: Points) -> bool:
    """What can be proved without queries: the convex hull of the positives."""
    lifted = np.vstack([positives.T, np.ones(len(positives))])
    return linprog(np.zeros(len(positives)), A_eq=lifted, b_eq=np.append(point, 1.0), method="highs").status == 0


def test_without_queries_most_positives_are_missed_in_ten_dimensions() -> None:
    case = draw("gaussian", 10, 1000, 60, 5)
    hull = np.mean([not in_hull(case.training, point) for point in case.fresh])
    assert hull >= 0.3
    assert misses(10, 1000, 5)[0] <= 0.02


def check_weights(result_positives: Points, result_negatives: Points, point: Points) -> None:
    """Verify a certificate with nothing but fractions."""
    found = exact.certify(result_positives, result_negatives, point)
    assert found is not None
    total = [Fraction(0)] * (len(point) + 1)
    for sign, points, weights in ((1, result_positives, found.positive), (-1, result_negatives, found.negative)):
        for index, weight in weights:
            assert weight > 0
            for axis, number in enumerate([*points[index].tolist(), 1.0]):
                total[axis] += sign * weight * Fraction(number)
    assert total == [*(Fraction(number) for number in point.tolist()), Fraction(1)]


@pytest.mark.slow
@pytest.mark.parametrize("dimension", [2, 4, 8])
def test_certificates_are_exact_and_agree_with_the_fast_test(dimension: int) -> None:
    check_certificates(dimension, 60, 20)


@pytest.mark.long
@pytest.mark.parametrize("dimension", [2, 4, 8])
def test_certificates_in_full_counts(dimension: int) -> None:
    check_certificates(dimension, 200, 60)


def check_certificates(dimension: int, count: int, false: int) -> None:
    case = draw("gaussian", dimension, 1000, 1000, 6)
    result = run(case)
    fast = result.learned.accepts(case.fresh[:count])
    slow = np.array([result.certifies(point) for point in case.fresh[:count]])
    assert slow.mean() >= 0.99
    assert not (fast & ~slow).any(), "the fast test never accepts what cannot be proved"
    assert (fast == slow).mean() >= 0.98
    for point in case.fresh[: count // 10][slow[: count // 10]]:
        check_weights(result.positives, result.negatives, point)
    assert not any(result.certifies(point) for point in case.mirrored()[:false])


def boundary_case(count: int) -> tuple[Case, Points]:
    """Positives exactly on the boundary x₀ = b, and points one ulp outside."""
    rng = np.random.default_rng(8)
    offset = 0.3
    points = np.column_stack([np.full(count, offset), rng.standard_normal((count, 2))])
    fresh = np.column_stack([np.full(200, offset), rng.uniform(-0.5, 0.5, (200, 2))])
    outside = fresh.copy()
    outside[:, 0] = np.nextafter(offset, -np.inf)
    return Case(np.array([1.0, 0.0, 0.0]), offset, points, fresh), outside


def test_one_ulp_outside_is_never_certified() -> None:
    check_boundary(6)


@pytest.mark.long
def test_one_ulp_outside_is_never_certified_in_full_counts() -> None:
    check_boundary(200)


def check_boundary(count: int) -> None:
    case, outside = boundary_case(400)
    result = run(case)
    assert not any(result.certifies(point) for point in outside[:count])
    assert result.learned.accepts(outside).all(), "float64 alone passes them: this is why rationals decide"
    assert np.mean([result.certifies(point) for point in case.fresh[:count]]) >= 0.9


def degenerate(kind: str, dimension: int) -> Case:
    rng = np.random.default_rng(9)
    normal = rng.standard_normal(dimension)
    if kind == "line":
        points = rng.standard_normal((30_000, dimension))
        onto = rng.random(len(points)) < 0.6
        points[onto] = np.outer(rng.standard_normal(onto.sum()), points[0]) + points[1]
    else:
        points, normal = rng.integers(-4, 5, (30_000, dimension)).astype(float), np.round(3 * normal)
    positive = points[points @ normal >= 0.5]
    return Case(normal, 0.5, positive[:3000], positive[3000:8000])


@pytest.mark.parametrize("kind", ["line", "grid"])
@pytest.mark.parametrize("dimension", [3, 6])
def test_points_on_a_line_or_a_grid(kind: str, dimension: int) -> None:
    case = degenerate(kind, dimension)
    result = run(case)
    assert not result.learned.accepts(case.mirrored()).any()
    assert not any(result.certifies(point) for point in case.mirrored()[:5])
    assert result.learned.accepts(case.fresh).mean() >= 1 - 3 * (dimension + 1) / 3000


def test_contradicting_labels_are_proved_contradicting() -> None:
    square = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    found = exact.contradiction(square, np.array([[0.25, 0.5], [9.0, 9.0]]))
    assert found is not None
    assert [index for index, _ in found.negative] == [0]
    assert exact.contradiction(square, np.array([[-1.0, 0.5]])) is None
    assert exact.contradiction(square, np.zeros((0, 2))) is None


def test_long_weights_are_written_in_full() -> None:
    assert exact.write(Fraction(-(10**9000) - 7, 3)) == "-1" + "0" * 8999 + "7/3"


def test_rational_solutions_are_found_only_where_there_is_one() -> None:
    assert exact.solve_exactly(np.array([[2.0, 0.0], [0.0, 4.0]]), [1.0, 1.0]) == [Fraction(1, 2), Fraction(1, 4)]
    assert exact.solve_exactly(np.array([[1.0, 1.0]]), [1.0, 2.0]) is None
    assert exact.solve_exactly(np.array([[1.0, 1.0], [2.0, 2.0]]), [1.0, 1.0]) is None
    assert exact.solve_exactly(np.array([[0.0, 2.0**-40, 0.0], [3.0, 0.0, 1e300]]), [0.0, 1.0, 0.0]) == [2**40, 0]
