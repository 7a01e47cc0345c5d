"""The transition matrix, built from the acceptance code itself, leaves p^α invariant and reaches every trace."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from sampler.cuts import CUTS
from sampler.params import PowerParams
from tests.exact.checks import check_cut_draws, check_kernel
from tests.exact.enumeration import Case, Space, transition_matrix
from tests.exact.models import LETTERS, random_engine

LAWS = [
    (name, power) for name, law in CUTS.items() for power in ((0.0, 1.0, 4.0) if "cut_power" in law.fields else (4.0,))
]
"""Every law of the registry; those with an exponent at three of them."""
SUPPORTS = [None, 2]
STOPS: list[tuple[Sequence[str], tuple[str, ...]]] = [
    (LETTERS, ()),
    (LETTERS, ("ab",)),
    (("ab", "b", "<eos>"), ("bab", "bbb")),
    (("", "a", "<eos>"), ("aa",)),
]
"""Vocabulary and stop strings; the strings straddle tokens, cuts and stage boundaries."""

SETTINGS = [
    (law, alpha, top_k, early)
    for law, alpha, top_k, early in itertools.product(LAWS, (2.0, 4.0), SUPPORTS, (True, False))
]


def case_of(
    seed: int, horizon: int, blocks: int, setting: tuple[tuple[str, float], float, int | None, bool], stop: int = 0
) -> Case:
    (cut, beta), alpha, top_k, early = setting
    vocab, strings = STOPS[stop]
    params = PowerParams(horizon, alpha, beta, blocks, 10, top_k, early_rejection=early, stop=strings)
    return Case(random_engine(seed, horizon, vocab), params, cut)


@pytest.mark.parametrize("stop", range(len(STOPS)))
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_step_leaves_the_power_distribution_invariant_in_one_stage(
    setting: tuple[tuple[str, float], float, int | None, bool], stop: int
) -> None:
    check_kernel(case_of(10 * stop + SETTINGS.index(setting), 4, 1, setting, stop))


@pytest.mark.parametrize("number", range(4))
def test_a_step_leaves_every_stage_of_a_staged_chain_invariant(number: int) -> None:
    check_kernel(case_of(200 + number, 6, 3, SETTINGS[number * 9 % len(SETTINGS)], stop=number))


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_step_leaves_every_stage_invariant_for_all_settings_with_and_without_stops(
    setting: tuple[tuple[str, float], float, int | None, bool],
) -> None:
    number = SETTINGS.index(setting)
    check_kernel(case_of(300 + number, 6, 3, setting))
    check_kernel(case_of(400 + number, 6, 3, setting, stop=1 + number % 3))


@pytest.mark.parametrize("cut", ["entropy", "uniform"])
def test_stop_strings_alone_may_end_traces(cut: str) -> None:
    params = PowerParams(5, 4.0, 4.0, 1, 10, None, stop=("ab", "bba"))
    check_kernel(Case(random_engine(1, 5, ("a", "b"), eos=()), params, cut))


@pytest.mark.parametrize("cut", ["entropy", "uniform"])
def test_alpha_below_one_turns_the_bound_off_and_stays_exact(cut: str) -> None:
    for seed in range(4):
        check_kernel(Case(random_engine(seed, 4), PowerParams(4, 0.5, 4.0, 1, 10, None), cut))


def test_a_model_with_certain_rows_stays_exact_and_reaches_every_trace() -> None:
    """Rows of zero entropy: the first row that is uncertain always jumps."""
    for seed in range(6):
        engine = random_engine(seed, 4)
        rng = np.random.default_rng(seed)
        for prefix in list(engine._logits):
            if not prefix or rng.random() < 0.4:
                engine._logits[prefix] = np.where(np.arange(3) == rng.integers(2), 0.0, -np.inf)
        check_kernel(Case(engine, PowerParams(4, 4.0, 4.0, 2, 10, None), "entropy"))


def test_early_rejection_leaves_the_transition_matrix_as_it_is() -> None:
    for cut in ("entropy", "uniform"):
        early = Case(random_engine(5, 4), PowerParams(4, 4.0, 4.0, 1, 10, None), cut)
        plain = Case(early.engine, replace(early.params, early_rejection=False), cut)
        one, two = (transition_matrix(Space(case, 4)) for case in (early, plain))
        assert np.array_equal(one, two)


def test_cut_power_zero_is_the_uniform_cut_to_the_bit() -> None:
    engine = random_engine(6, 4)
    flat = Case(engine, PowerParams(4, 4.0, 0.0, 1, 10, None), "entropy")
    uniform = Case(engine, PowerParams(4, 4.0, 4.0, 1, 10, None), "uniform")
    one, two = (transition_matrix(Space(case, 4)) for case in (flat, uniform))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_a_cut_is_drawn_with_its_weight_over_the_total(law: tuple[str, float]) -> None:
    for seed, stop in itertools.product(range(3), range(2)):
        check_cut_draws(Space(case_of(seed, 5, 1, (law, 4.0, None, True), stop), 5))


def test_the_enumerated_traces_are_all_there_are() -> None:
    """Against a search by text alone: first end-of-sequence, first stop string, or the horizon."""
    for stop in range(len(STOPS)):
        case = case_of(stop, 4, 1, SETTINGS[0], stop)
        vocab, strings = STOPS[stop]

        def ended(ids: Sequence[int], vocab: Sequence[str] = vocab, strings: Sequence[str] = strings) -> bool:
            text = "".join(vocab[token] for token in ids if token != 2)
            return 2 in ids or any(string in text for string in strings)

        everything = (ids for n in range(1, 5) for ids in itertools.product(range(3), repeat=n))
        wanted = {
            ids
            for ids in everything
            if not any(ended(ids[:n]) for n in range(len(ids))) and (ended(ids) or len(ids) == 4)
        }
        space = Space(case, 4)
        assert set(space.index) == wanted
        assert abs(sum(suffix[0] for suffix in space.q_suffix) - 1) < 1e-12
