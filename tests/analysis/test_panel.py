"""Acceptance of the row-scaled spectral estimator: where it works, how fast it gets better, and where it does not."""

import numpy as np
import pytest

from service.analysis.panel_treatment_effects.assignment import column_p_value, difference_in_means
from service.analysis.panel_treatment_effects.spectral import leading, rank_by_gap, theory_threshold
from tests.analysis.panels import draw_panel, errors, fit, mean_errors

ROW_ERRORS = {100: 0.855, 200: 0.571, 400: 0.421, 800: 0.323}


def slope(found: dict[int, float]) -> float:
    return float(np.polyfit(np.log(list(found)), np.log(list(found.values())), 1)[0])


def test_the_row_error_falls_like_the_root_of_the_units() -> None:
    found = {n: mean_errors(1, 5, n, n)[0] for n in (100, 200, 400)}
    assert -0.65 <= slope(found) <= -0.38
    for n, wanted in ROW_ERRORS.items():
        if n in found:
            assert found[n] == pytest.approx(wanted, rel=0.25)


@pytest.mark.long
def test_the_row_error_at_full_counts() -> None:
    slopes = []
    for group in range(6):
        found = {n: mean_errors(100 + group, 5, n, n)[0] for n in ROW_ERRORS}
        slopes.append(slope(found))
        assert -0.65 <= slopes[-1] <= -0.38
        for n, wanted in ROW_ERRORS.items():
            assert found[n] == pytest.approx(wanted, rel=0.25)
    print(f"slopes {np.round(slopes, 2)}")


@pytest.mark.slow
def test_the_shape_in_the_number_of_times() -> None:
    n = 400
    ratios = {m: mean_errors(3, 3, n, m)[0] / np.sqrt(1 / n + n / m**2) for m in (50, 100, 200, 400, 800, 1600)}
    assert max(ratios.values()) <= 8
    plateau = [ratio for m, ratio in ratios.items() if m >= 200]
    assert max(plateau) / min(plateau) <= 1.4


@pytest.mark.slow
def test_fewer_observations_cost_their_root() -> None:
    scaled = [mean_errors(4, 5, 400, 400, rate=rate)[0] * np.sqrt(rate) for rate in (0.5, 0.25)]
    assert scaled == pytest.approx([0.275, 0.289], rel=0.15)


@pytest.mark.parametrize(("rank", "least"), [(1, 0.9), (2, 0.9), (3, 0.8)])
def test_the_rank_is_found(rank: int, least: float) -> None:
    rng = np.random.default_rng(5)
    hits = [one.rank == rank for _ in range(20) for one in fit(draw_panel(rng, 100, 100, rank=rank))]
    assert np.mean(hits) >= least


@pytest.mark.parametrize(("n", "m"), [(200, 200), (100, 400), (400, 100)])
def test_the_rank_is_found_in_larger_panels(n: int, m: int) -> None:
    rng = np.random.default_rng(6)
    hits = [one.rank == 3 for _ in range(5) for one in fit(draw_panel(rng, n, m, rank=3))]
    assert np.mean(hits) >= 0.9


@pytest.mark.slow
def test_assignment_that_follows_the_signal_does_not_improve_with_size() -> None:
    found = [mean_errors(7, 3, n, n, shift="signal", fitted={"rank": 2})[0] for n in (200, 400, 800)]
    assert min(found) > 0.6
    fair = mean_errors(7, 3, 400, 400, fitted={"rank": 2})[0]
    assert found[1] > 1.5 * fair
    imputed = mean_errors(7, 2, 400, 400, shift="signal", fitted={"rank": 2, "refinement": "hard_impute"})[0]
    assert imputed < 0.3  # it never weights by propensity


@pytest.mark.slow
def test_beside_the_baselines() -> None:
    rng = np.random.default_rng(8)
    panels = [draw_panel(rng, 400, 400) for _ in range(3)]
    naive = np.mean(
        [np.abs(difference_in_means(one.outcomes, one.treated) - one.effects.mean(axis=1)).max() for one in panels]
    )
    paper = np.mean([errors(one, fit(one)) for one in panels], axis=0)
    imputed = np.mean([errors(one, fit(one, refinement="hard_impute")) for one in panels], axis=0)
    assert naive == pytest.approx(0.30, rel=0.25)
    assert paper == pytest.approx([0.43, 0.25], rel=0.25)
    assert imputed == pytest.approx([0.20, 0.087], rel=0.25)


def test_rates_that_vary_over_time_are_helped_by_columns() -> None:
    row = mean_errors(9, 3, 400, 400, shift="time", fitted={"rank": 2})[0]
    both = mean_errors(9, 3, 400, 400, shift="time", fitted={"rank": 2, "propensity_model": "row_column"})[0]
    assert row > both
    assert (row, both) == pytest.approx((0.75, 0.58), rel=0.25)


def test_the_literal_theory_rule_finds_nothing_at_any_size_people_have() -> None:
    rng = np.random.default_rng(10)
    for n in (100, 400):
        drawn = draw_panel(rng, n, n)
        control, treated = fit(drawn, gap_rule="theory")
        assert control.rank == treated.rank == 0
        assert control.threshold is not None
        assert 50 < control.threshold / control.values[0] < 400


def test_the_theory_threshold_is_its_formula() -> None:
    rows = np.array([[0.25], [0.5]])
    wanted = 96 * 2 * np.sqrt((50 + 20) * np.log(70) / 0.25)
    assert theory_threshold(2.0, rows, 20, 50) == pytest.approx(wanted)
    uneven = np.array([[0.2, 0.4], [0.3, 0.3]])
    spread = np.linalg.norm(uneven / 0.3 - 1, 2)
    wanted = 96 * (np.sqrt((2 + 2.0 * 2) * np.log(4) / 0.3) + spread)
    assert theory_threshold(1.0, uneven, 2, 2) == pytest.approx(wanted)


@pytest.mark.slow
def test_the_iteration_equals_the_full_decomposition() -> None:
    rng = np.random.default_rng(11)
    drawn = draw_panel(rng, 700, 600)
    matrix = np.where(drawn.treated, drawn.outcomes, 0.0)
    found = leading(matrix, 9, rng)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    assert found.values == pytest.approx(values[:9], rel=1e-4)
    assert found.values[:2] == pytest.approx(values[:2], rel=1e-12)
    assert found.cut(2).dense() == pytest.approx((left[:, :2] * values[:2]) @ right[:2], abs=1e-9)
    assert found.cut(2).row_means() == pytest.approx(found.cut(2).dense().mean(axis=1), abs=1e-12)


@pytest.mark.parametrize(
    ("values", "threshold", "rank"),
    [([5, 4, 1, 0.9], 2, 2), ([5, 1, 0.9], 2, 1), ([5, 4.5, 4], 1, 0), ([9, 5, 4.9, 1], 3, 3)],
)
def test_the_last_wide_gap_counts(values: list[float], threshold: float, rank: int) -> None:
    assert rank_by_gap(np.array(values), threshold) == rank


def test_the_drift_test_has_its_level_and_its_power() -> None:
    rng = np.random.default_rng(12)
    even = [column_p_value(draw_panel(rng, 60, 40).treated) or 0.0 for _ in range(400)]
    assert np.mean(np.array(even) < 0.05) == pytest.approx(0.05, abs=0.033)
    assert column_p_value(draw_panel(rng, 60, 40, shift="time").treated) < 1e-4  # type: ignore[operator]
    assert column_p_value(np.array([[True, True], [False, False]])) is None
