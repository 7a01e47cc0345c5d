import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampler.power import Bound, accepts, advance_bound, is_lost, log_uniform, start_bound
from sampler.trace import End, Token, Trace, empty_trace


def trace_of(log_z: Sequence[float], log_norm: Sequence[float]) -> Trace:
    tokens = [Token(0, -1.0, value, 0.5, 0.0) for value in log_z]
    return empty_trace().spliced(0, tokens, [0.0] * len(tokens), log_norm, End.LENGTH)


def test_the_row_at_the_cut_is_not_counted() -> None:
    bound = start_bound(trace_of([-100.0, -1.0, -2.0], [0.0, 0.1, 0.2]), 0)
    assert bound == Bound(-3.0, 0.2, 0.0, 0.0)


def test_the_last_row_is_counted() -> None:
    assert start_bound(trace_of([-1.0, -2.0, -4.0], [0.0, 0.1, 0.2]), 1).current_log_z == -4.0
    assert start_bound(trace_of([-1.0, -2.0, -4.0], [0.0, 0.1, 0.2]), 2).current_log_z == 0.0


def test_the_ratio_is_proposal_minus_current_and_current_z_over_proposal_z() -> None:
    bound = start_bound(trace_of([-1.0, -2.0], [0.0, 0.5]), 0)
    bound = advance_bound(bound, -0.25, 0.75)
    assert bound.value == pytest.approx(-0.25 + 2.0 + 0.5 - 0.75)


@given(st.lists(st.floats(-30, 0), min_size=1, max_size=40), st.data())
def test_a_proposal_equal_to_the_current_trace_has_ratio_one_exactly(log_z: list[float], data: st.DataObject) -> None:
    log_norm = sorted(data.draw(st.lists(st.floats(-50, 5), min_size=len(log_z), max_size=len(log_z))))
    cut = data.draw(st.integers(0, len(log_z) - 1))
    trace = trace_of(log_z, log_norm)
    bound = start_bound(trace, cut)
    assert bound.value >= 0
    for t in range(cut + 1, len(trace)):
        bound = advance_bound(bound, float(trace.log_z[t]), float(trace.log_norm[t]))
    assert bound.value == 0.0


@given(st.lists(st.tuples(st.floats(-30, 0), st.floats(0, 3)), max_size=40))
def test_the_computed_bound_never_rises(rows: list[tuple[float, float]]) -> None:
    bound = start_bound(trace_of([-0.3, -0.7, -0.1], [-2.0, -1.0, 0.3]), 0)
    log_norm = -2.0
    for log_z, growth in rows:
        before, log_norm = bound.value, log_norm + growth
        bound = advance_bound(bound, log_z, log_norm)
        assert bound.value <= before


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(-40, 0))
def test_a_lost_bound_is_one_that_would_be_refused(value: float, log_u: float) -> None:
    bound = Bound(0.0, 0.0, value, 0.0)
    if math.isnan(bound.value):
        assert not is_lost(bound, log_u)
        assert not accepts(bound.value, log_u)
    else:
        assert is_lost(bound, log_u) != accepts(bound.value, log_u)


@pytest.mark.parametrize("log_ratio", [math.nan, -math.inf])
def test_a_ratio_that_is_nothing_is_refused_for_every_uniform(log_ratio: float) -> None:
    assert not any(accepts(log_ratio, log_uniform(u)) for u in (2.0**-53, 0.5, 1.0))


def test_a_ratio_of_one_is_accepted_for_every_uniform() -> None:
    assert all(accepts(0.0, log_uniform(u)) for u in (2.0**-53, 0.5, 1.0))


def test_equality_accepts() -> None:
    assert accepts(-0.5, -0.5)
    assert not accepts(-0.5, float(np.nextafter(-0.5, 0)))
    assert not is_lost(Bound(0.0, 0.0, -0.5, 0.0), -0.5)
