"""What a method says its answer may cost at most is never exceeded, and is reached where nothing saves a token."""

import asyncio
from dataclasses import replace

import pytest

from sampler.answer import Answer
from sampler.methods import METHODS, POWER_METHODS
from sampler.methods.job import Job
from sampler.params import PlainParams, PowerParams
from tests.exact.models import EndlessEngine

PARAMS = PowerParams(
    13, 2.0, blocks=3, steps_per_block=4, top_k=None, particles=5, candidates=3, rollouts=2, tries=3, samples=4
)
WASTEFUL = replace(PARAMS, early_rejection=False, memo_tree=False, prefetch=False)
VARIANTS: dict[str, PowerParams] = {
    "plain": PARAMS,
    "no savings": WASTEFUL,
    "no samples": replace(WASTEFUL, samples=None),
    "one block": replace(WASTEFUL, blocks=1),
    "more blocks than tokens": replace(WASTEFUL, blocks=40),
    "no steps": replace(WASTEFUL, steps_per_block=0),
    "short rollouts": replace(WASTEFUL, rollout_tokens=2),
    "uniform cuts": replace(WASTEFUL, cut_power=0.0),
    "budget": replace(WASTEFUL, max_generated_tokens=29),
    "budget without samples": replace(WASTEFUL, max_generated_tokens=29, samples=None),
    "large budget without samples": replace(WASTEFUL, max_generated_tokens=1 << 20, samples=None),
}


def answer(method: str, params: PowerParams | PlainParams, seed: int, end_mass: float) -> Answer:
    """One answer on a random model, whose answers end early or not at all."""
    engine = EndlessEngine(5, ("a", "b", "c", "<eos>"), (3,) if end_mass else (), end_mass=end_mass)
    return asyncio.run(METHODS[method](Job(engine, (0,), params, seed)))


@pytest.mark.slow
@pytest.mark.parametrize("method", POWER_METHODS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_answer_costs_more_than_its_worst_case(method: str, variant: str) -> None:
    params = VARIANTS[variant]
    limit = METHODS[method].worst_case_tokens(params)
    for seed in range(2):
        for end_mass in (0.0, 0.05, 0.4):
            usage = answer(method, params, seed, end_mass).usage
            assert usage.generated_tokens - usage.prefetched_tokens <= limit


@pytest.mark.parametrize("cut", ["entropy_cut", "uniform_cut"])
def test_mode_paper_costs_no_more_either(cut: str) -> None:
    params = replace(PARAMS, mode="paper")
    limit = METHODS[cut].worst_case_tokens(params)
    for seed in range(10):
        assert answer(cut, params, seed, 0.05).usage.generated_tokens <= limit


@pytest.mark.parametrize("method", ["low_temperature", "best_of_n", "smc", "tmc"])
@pytest.mark.parametrize("variant", ["no savings", "no samples", "short rollouts", "more blocks than tokens"])
def test_where_nothing_ends_early_the_worst_case_is_the_cost(method: str, variant: str) -> None:
    """So these bounds are not merely large."""
    params = VARIANTS[variant]
    usage = answer(method, params, 1, 0.0).usage
    assert usage.generated_tokens == METHODS[method].worst_case_tokens(params)


@pytest.mark.parametrize("method", ["uniform_cut", "multiple_try"])
def test_a_chain_of_single_tokens_costs_its_worst_case(method: str) -> None:
    """With one token a stage has but one place to cut, so every step draws the whole answer again."""
    params = replace(WASTEFUL, max_tokens=1, blocks=1)
    assert answer(method, params, 1, 0.0).usage.generated_tokens == METHODS[method].worst_case_tokens(params)


def test_plain_sampling_costs_its_length() -> None:
    params = PlainParams(9)
    assert (
        answer("standard", params, 1, 0.0).usage.generated_tokens == 9 == METHODS["standard"].worst_case_tokens(params)
    )


def test_a_default_request_costs_what_the_handbook_says() -> None:
    """43 times its length on average, where cuts fall evenly; twice that at worst."""
    assert METHODS["entropy_cut"].worst_case_tokens(PowerParams(3072)) / 3072 == pytest.approx(86, abs=0.1)
