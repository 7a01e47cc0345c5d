"""Reasoning trees: entropy cuts mix in time set by the number of decisions, uniform cuts by the length.

On these trees every proposal is accepted, so a trace is its decisions and a step redraws those after the cut. That
makes long trees small; on short ones the same matrix comes out of the generic enumeration.
"""

import math

import numpy as np
import pytest

from sampler.cuts import CutState, advance, cut_law
from sampler.params import PowerParams
from sampler.row import Floats
from tests.exact.enumeration import Case, Space, total_variation, transition_matrix
from tests.exact.models import Ids, decision_positions, tree_engine

LENGTHS = (32, 128, 512, 2048)
ENTROPY_STEPS = {2: 4, 3: 6, 4: 9, 6: 13}
UNIFORM_STEPS = {32: 24, 128: 98, 512: 392, 2048: 1571}


def cut_law_values(cut: str, length: int, positions: list[int]) -> Floats:
    """c(m|x) of the real cut law on a tree's entropies, shape [length]."""
    law, state, log_weight = cut_law(cut, 4.0), CutState(), np.empty(length)
    for t in range(length):
        state = advance(law, state, math.log(2) if t in positions else 0.0)
        log_weight[t] = state.log_weight
    return np.exp(log_weight - state.log_norm)


def reduced_matrix(cut: str, length: int, count: int) -> Floats:
    """P on the 2^count outcomes of the decisions, in binary order, first decision first."""
    masses = cut_law_values(cut, length, decision_positions(count))
    kept = np.searchsorted(decision_positions(count), np.arange(length))
    matrix = np.zeros((2**count, 2**count))
    for decisions in range(count + 1):
        rest = 2 ** (count - decisions)
        block = np.full((rest, rest), 1 / rest)
        matrix += float(masses[kept == decisions].sum()) * np.kron(np.eye(2**decisions), block)
    return matrix


def mixing_time(matrix: Floats, pi: Floats, epsilon: float = 0.05) -> int:
    """The smallest N with TV(P^N(x, ·), π) ≤ ε from every x; the distance never rises, so bisection finds it."""

    def mixed(steps: int) -> bool:
        power = np.linalg.matrix_power(matrix, steps)
        return max(total_variation(row, pi) for row in power) <= epsilon

    high = 1
    while not mixed(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if mixed(middle) else (middle, high)
    return high


def steps_to_mix(cut: str, length: int, count: int) -> int:
    return mixing_time(reduced_matrix(cut, length, count), np.full(2**count, 2.0**-count))


@pytest.mark.parametrize("count", ENTROPY_STEPS)
@pytest.mark.parametrize("length", LENGTHS)
def test_entropy_cuts_mix_in_a_time_that_does_not_depend_on_the_length(length: int, count: int) -> None:
    assert steps_to_mix("entropy", length, count) == ENTROPY_STEPS[count]


@pytest.mark.parametrize("count", ENTROPY_STEPS)
@pytest.mark.parametrize("length", LENGTHS)
def test_uniform_cuts_mix_in_a_time_that_grows_with_the_length(length: int, count: int) -> None:
    assert steps_to_mix("uniform", length, count) == UNIFORM_STEPS[length]


@pytest.mark.parametrize("cut", ["entropy", "uniform"])
@pytest.mark.parametrize(("length", "count"), [(8, 2), (14, 4), (32, 3)])
def test_the_generic_enumeration_gives_the_tree_s_matrix(cut: str, length: int, count: int) -> None:
    case = Case(tree_engine(length, decision_positions(count)), PowerParams(length, blocks=1, top_k=None), cut)
    space = Space(case, length)
    matrix = transition_matrix(space)
    order = np.argsort([decisions_of(trace.ids, count) for trace in space.traces])
    assert np.abs(matrix[np.ix_(order, order)] - reduced_matrix(cut, length, count)).max() < 1e-12
    assert np.abs(space.target - 2.0**-count).max() < 1e-12


def decisions_of(ids: Ids, count: int) -> int:
    return int("".join(str(ids[position]) for position in decision_positions(count)), 2)


def uneven_steps(cut: str, length: int) -> int:
    """Mixing time of a tree of three decisions with uneven choices, where some proposals are refused."""
    rng = np.random.default_rng(3)
    choices: dict[Ids, Floats] = {}

    def choice(prefix: Ids) -> Floats:
        place = tuple(prefix[position] for position in decision_positions(3) if position < len(prefix))
        if place not in choices:
            logits = rng.normal(size=2)
            choices[place] = np.exp(logits) / np.exp(logits).sum()
        return choices[place]

    engine = tree_engine(length, decision_positions(3), choice)
    space = Space(Case(engine, PowerParams(length, blocks=1, top_k=None), cut), length)
    matrix = transition_matrix(space, verify=False)
    assert np.abs(space.target @ matrix - space.target).max() < 1e-12
    return mixing_time(matrix, space.target)


def test_uneven_choices_leave_entropy_cuts_independent_of_the_length() -> None:
    assert uneven_steps("entropy", 16) == uneven_steps("entropy", 64)
    assert uneven_steps("uniform", 64) > 3 * uneven_steps("uniform", 16)
