import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sampler.row import (
    Row,
    clamp_log_z,
    draw,
    log_sum_exp,
    nucleus_size,
    row_of_head,
    row_of_top,
    sort_logits,
    statistics,
)

ALPHAS = [0.5, 1.0, 2.0, 4.0, 100.0]
LOGITS = arrays(np.float64, st.integers(1, 12), elements=st.floats(-30, 30))


def row_of(logits: np.ndarray, alpha: float, size: int | None = None) -> Row:
    ids, ordered = sort_logits(logits)
    return row_of_top(ids, ordered, size or len(ids), alpha, log_sum_exp(logits))


def masses(row: Row) -> np.ndarray:
    """q over the head by the definition, p^α normalised."""
    log_p = row.logits[: row.size] - row.logits[: row.size].max()
    weights = np.exp(row.alpha * log_p)
    return weights / weights.sum()


def intervals(row: Row) -> np.ndarray:
    """Lengths of the intervals of u that `find` maps to each head index, by bisection."""
    edges = [0.0]
    for index in range(row.size):
        low, high = 0.0, 1.0
        if (row.find(1.0) or 0) <= index:
            edges.append(1.0)
            continue
        for _ in range(55):
            middle = (low + high) / 2
            found = row.find(middle)
            assert found is not None
            low, high = (middle, high) if found <= index else (low, middle)
        edges.append(low)
    return np.diff(edges)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_token_is_drawn_with_its_share_of_the_tempered_law(alpha: float) -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 8):
        for _ in range(5):
            row = row_of(rng.normal(size=10) * 2, alpha, size)
            assert np.abs(intervals(row) - masses(row)).max() < 1e-12


@given(LOGITS, st.sampled_from(ALPHAS))
def test_the_statistics_are_those_of_the_definition(logits: np.ndarray, alpha: float) -> None:
    log_norm, log_z, entropy = statistics(logits, alpha)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    assert log_norm == pytest.approx(float(np.logaddexp.reduce(logits)), abs=1e-9)
    assert log_z == pytest.approx(float(np.logaddexp.reduce(alpha * (logits - log_norm))), abs=1e-9)
    assert entropy == pytest.approx(-math.fsum(x * math.log(x) for x in p if x > 0), abs=1e-9)
    assert entropy >= 0


@given(LOGITS, st.sampled_from([1.0, 1.0000001, 2.0, 4.0, 100.0]))
def test_log_z_is_never_positive_for_alpha_of_one_and_more(logits: np.ndarray, alpha: float) -> None:
    assert statistics(logits, alpha)[1] <= 0


def test_the_clamp_leaves_nan_and_small_alpha_alone() -> None:
    assert math.isnan(clamp_log_z(math.nan, 4.0))
    assert clamp_log_z(0.3, 0.5) == 0.3
    assert clamp_log_z(1e-16, 2.0) == 0.0
    assert clamp_log_z(-0.3, 2.0) == -0.3


@given(LOGITS, st.sampled_from(ALPHAS))
def test_log_q_sums_to_one(logits: np.ndarray, alpha: float) -> None:
    row = row_of(logits, alpha)
    log_q = [alpha * row.log_p(i) - row.log_z for i in range(row.size)]
    assert math.fsum(map(math.exp, log_q)) == pytest.approx(1, abs=1e-9)


def test_the_support_is_renormalised_and_its_mass_kept() -> None:
    row = row_of(np.log([0.5, 0.2, 0.3]), 2.0, 2)
    assert row.ids[: row.size].tolist() == [0, 2]
    assert math.exp(row.log_p(0)) == pytest.approx(0.625)
    assert math.exp(row.log_mass) == pytest.approx(0.8)


def test_ties_go_by_id() -> None:
    ids, logits = sort_logits(np.array([1.0, 2.0, 1.0, 2.0]))
    assert ids.tolist() == [1, 3, 0, 2]
    assert logits.tolist() == [2, 2, 1, 1]


def test_minus_infinity_is_outside_every_support() -> None:
    row = row_of(np.array([-np.inf, 0.0, -np.inf]), 2.0)
    assert (row.size, row.entropy, row.log_z) == (1, 0.0, 0.0)
    assert [row.find(u) for u in (2.0**-53, 1.0)] == [0, 0]


def test_the_largest_uniform_picks_a_token_that_has_mass() -> None:
    for seed in range(200):
        row = row_of(np.random.default_rng(seed).normal(size=50) * 30, 4.0)
        index = row.find(1.0)
        assert index is not None
        assert masses(row)[index] > 0


def test_nan_is_seen_in_the_statistics() -> None:
    row = row_of(np.array([0.0, np.nan, 1.0]), 2.0)
    assert math.isnan(row.log_z)
    assert math.isnan(row.entropy)


def test_greedy_takes_the_first() -> None:
    row = row_of(np.array([0.0, 3.0, 1.0]), np.inf)
    assert (row.find(1.0), row.log_z) == (0, 0.0)
    assert int(row.ids[0]) == 1


def test_a_uniform_beyond_the_head_asks_for_the_whole_row() -> None:
    logits = np.log([0.4, 0.3, 0.2, 0.1])
    ids, ordered = sort_logits(logits)
    log_norm, log_z, entropy = statistics(logits, 1.0)
    head = row_of_head(ids[:2], ordered[:2], 1.0, log_norm, log_z, entropy)
    whole = row_of(logits, 1.0)
    assert draw(head, 0.69, lambda: whole) == (head, 1)
    assert draw(head, 0.75, lambda: whole) == (whole, 2)
    assert (head.find(0.75), head.find(1.0), whole.find(1.0)) == (None, None, 3)


def test_the_nucleus_is_taken_of_the_tempered_law() -> None:
    logits = np.log([0.5, 0.3, 0.2])
    for alpha, top_p, size in ((1.0, 0.5, 1), (1.0, 0.51, 2), (1.0, 0.9, 3), (2.0, 0.65, 1), (math.inf, 1.0, 1)):
        log_norm, log_z, _ = statistics(logits, alpha)
        assert nucleus_size(logits, top_p, alpha, log_norm, log_z) == size
    assert nucleus_size(logits[:2], 0.9, 1.0, 0.0, 0.0) is None


def test_a_nan_beside_minus_infinity_is_seen() -> None:
    ids, logits = sort_logits(np.array([1.0, -np.inf, np.nan]))
    row = row_of_top(ids, logits, 3, 4.0, log_sum_exp(logits))
    assert np.isnan(row.log_z)
    assert np.isnan(row.entropy)
