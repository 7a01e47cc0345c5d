import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sampler.cuts
from sampler.cuts import CUTS, CutState, advance, cut_law, draw_cut
from sampler.errors import InvalidParams
from sampler.methods import METHODS

LAWS = list(CUTS)


def values(name: str, power: float, entropies: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """(log w, log Z) along a trace."""
    law, state, found = cut_law(name, power), CutState(), list[CutState]()
    for entropy in entropies:
        state = advance(law, state, entropy)
        found.append(state)
    return np.array([s.log_weight for s in found]), np.array([s.log_norm for s in found])


def test_the_weight_is_the_jump_in_entropy_to_the_power() -> None:
    log_weight, log_norm = values("entropy", 4.0, [0.5, 0.2, 0.2, 0.9])
    assert np.exp(log_weight) == pytest.approx([0.5**4, 0, 0, 0.7**4], abs=1e-15)
    assert np.exp(log_norm) == pytest.approx(np.cumsum([0.5**4, 0, 0, 0.7**4]), abs=1e-15)


def test_the_first_jump_is_from_zero() -> None:
    assert values("entropy", 1.0, [0.3])[0][0] == pytest.approx(math.log(0.3))


def test_rows_of_zero_entropy_give_no_mass_at_all() -> None:
    assert values("entropy", 4.0, [0.0, 0.0])[1].tolist() == [-math.inf, -math.inf]


@given(st.lists(st.floats(0, 12), min_size=1, max_size=30))
def test_power_zero_is_the_uniform_cut(entropies: list[float]) -> None:
    for one, two in zip(values("entropy", 0.0, entropies), values("uniform", 4.0, entropies), strict=True):
        assert np.array_equal(one, two)
    assert values("uniform", 4.0, entropies)[1][-1] == math.log(len(entropies))


@pytest.mark.parametrize("name", LAWS)
@given(
    entropies=st.lists(st.floats(0, 12), min_size=2, max_size=30), power=st.sampled_from([0.0, 0.25, 1.0, 4.0, 64.0])
)
def test_mass_at_a_position_never_rises_as_the_trace_grows(name: str, entropies: list[float], power: float) -> None:
    log_norm = values(name, power, entropies)[1]
    assert all(a <= b for a, b in itertools.pairwise(log_norm))


@pytest.mark.parametrize("name", LAWS)
def test_a_weight_depends_on_its_own_and_earlier_rows_only(name: str) -> None:
    one, two = (values(name, 4.0, [0.1, 0.6, tail, 0.8]) for tail in (0.0, 2.0))
    assert np.array_equal(one[0][:2], two[0][:2])
    assert np.array_equal(one[1][:2], two[1][:2])


def test_tiny_jumps_survive_a_high_power() -> None:
    log_weight, log_norm = values("entropy", 64.0, [1e-9, 1e-3, 2.0])
    assert np.isfinite(log_weight).all()
    assert np.isfinite(log_norm).all()


@pytest.mark.parametrize("name", LAWS)
@given(
    entropies=st.lists(st.floats(0, 6), min_size=1, max_size=12),
    power=st.sampled_from([0.0, 1.0, 4.0]),
    u=st.floats(2.0**-53, 1.0),
)
def test_u_picks_the_position_whose_interval_holds_it(
    name: str, entropies: list[float], power: float, u: float
) -> None:
    log_weight, log_norm = values(name, power, entropies)
    if log_norm[-1] == -np.inf:
        return
    cut = draw_cut(log_norm, u)
    edges = np.append(0.0, np.exp(log_norm - log_norm[-1]))
    assert log_weight[cut] > -np.inf, "a position without mass was picked"
    assert edges[cut] - 1e-12 <= u <= edges[cut + 1] + 1e-12


@pytest.mark.parametrize("u", [2.0**-53, 1e-9, 0.3, 1.0])
def test_a_flat_end_is_never_picked(u: float) -> None:
    log_norm = values("entropy", 4.0, [0.0, 0.5, 0.5, 0.1])[1]
    assert draw_cut(log_norm, u) == 1


def test_an_unknown_law_is_refused_by_name() -> None:
    with pytest.raises(InvalidParams, match="unknown cut law 'nope'; choose one of entropy, uniform") as error:
        cut_law("nope", 4.0)
    assert error.value.field == "cut"


def test_every_file_of_laws_is_in_the_registry_and_is_served_as_a_method() -> None:
    files = {path.stem for path in Path(sampler.cuts.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == set(CUTS)
    assert {f"{name}_cut" for name in CUTS} <= set(METHODS)
