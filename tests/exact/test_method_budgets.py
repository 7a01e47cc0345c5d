"""Every method keeps its deadline and its token budget, says which of them ended it, and answers all the same."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from sampler.answer import Answer, EndedBy
from sampler.engine import Engine
from sampler.methods import METHODS, POWER_METHODS
from sampler.methods.job import Job
from sampler.params import PowerParams
from tests.exact.engines import Hanging
from tests.exact.models import EndlessEngine
from tests.exact.test_budgets import DEADLINE, Clock

PARAMS = PowerParams(
    12, 2.0, blocks=3, steps_per_block=4, top_k=None, particles=4, candidates=3, rollouts=2, tries=2, samples=4
)
PLENTY = 1 << 20


def model(end_mass: float = 0.05) -> EndlessEngine:
    return EndlessEngine(5, ("a", "b", "c", "<eos>"), (3,), end_mass=end_mass)


async def answer(method: str, params: PowerParams, seed: int = 0, engine: Engine | None = None) -> Answer:
    """One answer of a method."""
    return await METHODS[method](Job(engine or model(), (0,), params, seed))


def is_walk(ids: tuple[int, ...], longest: int = 12) -> bool:
    """Whether ids are a response: at most so long, with an end at most at its end."""
    return 0 < len(ids) <= longest and 3 not in ids[:-1]


@pytest.mark.slow
@pytest.mark.parametrize("method", POWER_METHODS)
@pytest.mark.parametrize("memo_tree", [True, False])
def test_tokens_never_exceed_the_budget(method: str, memo_tree: bool) -> None:
    plain = replace(PARAMS, memo_tree=memo_tree)
    ended = set[EndedBy]()
    for seed in range(3):
        whole = asyncio.run(answer(method, plain, seed))
        assert whole.ended_by is EndedBy.COMPLETED
        for budget in (*range(1, 40), *range(40, 4 * whole.usage.generated_tokens, 37)):
            found = asyncio.run(answer(method, replace(plain, max_generated_tokens=budget), seed))
            assert found.usage.generated_tokens <= budget
            assert found.ended_by in {EndedBy.COMPLETED, EndedBy.TOKEN_BUDGET}
            assert is_walk(found.trace.ids)
            if found.ended_by is EndedBy.COMPLETED:
                assert found.trace.ids == whole.trace.ids, "a budget that was not spent changed the answer"
            ended.add(found.ended_by)
    assert ended == {EndedBy.COMPLETED, EndedBy.TOKEN_BUDGET}


@pytest.mark.parametrize("method", POWER_METHODS)
def test_a_budget_beyond_every_cost_changes_nothing(method: str) -> None:
    for seed in range(5):
        whole = asyncio.run(answer(method, PARAMS, seed))
        found = asyncio.run(answer(method, replace(PARAMS, max_generated_tokens=PLENTY), seed))
        assert found.ended_by is EndedBy.COMPLETED
        assert (found.trace.ids, found.stage) == (whole.trace.ids, whole.stage)


def test_a_best_of_n_matched_to_a_budget_goes_over_it_by_one_answer_at_most() -> None:
    for budget in range(1, 60, 7):
        params = replace(PARAMS, samples=None, memo_tree=False, max_generated_tokens=budget)
        found = asyncio.run(answer("best_of_n", params))
        assert found.ended_by is EndedBy.COMPLETED
        assert budget <= found.usage.generated_tokens < budget + params.max_tokens


def run_until_call(method: str, call: int, shown: int, params: PowerParams = PARAMS) -> tuple[Answer, Hanging]:
    """An answer on an engine that hangs in one call, the clock then being put past the deadline."""
    with asyncio.Runner(loop_factory=Clock) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Clock)
        past: Callable[[], None] = lambda: setattr(loop, "ahead", DEADLINE + 1)  # noqa: E731
        engine = Hanging(model(), call, shown, past)
        return runner.run(answer(method, replace(params, deadline_s=DEADLINE), engine=engine)), engine


@pytest.mark.parametrize("method", POWER_METHODS)
@pytest.mark.parametrize("call", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("shown", [0, 2])
def test_a_deadline_ends_an_answer_that_would_wait_for_ever(method: str, call: int, shown: int) -> None:
    """Nothing but the deadline ends the hanging call; an engine that was not asked so often completes."""
    found, engine = run_until_call(method, call, shown)
    if engine.calls < call:
        assert found.ended_by is EndedBy.COMPLETED
        return
    assert engine.cancelled
    assert found.ended_by is EndedBy.DEADLINE
    assert len(found.trace) <= 12
    assert 3 not in found.trace.ids[:-1]
    assert found.stage <= found.stages


@pytest.mark.parametrize("method", POWER_METHODS)
def test_a_deadline_that_is_not_reached_changes_nothing(method: str) -> None:
    found, _ = run_until_call(method, PLENTY, 0)
    whole = asyncio.run(answer(method, PARAMS))
    assert (found.ended_by, found.trace.ids) == (EndedBy.COMPLETED, whole.trace.ids)


FREEZING = [name for name in POWER_METHODS if "stop_when_frozen" in METHODS[name].fields]


@pytest.mark.parametrize("method", FREEZING)
def test_every_chain_can_stop_when_frozen(method: str) -> None:
    params = replace(PARAMS, alpha=50.0, steps_per_block=100, stop_when_frozen=3)
    found = [asyncio.run(answer(method, params, seed)) for seed in range(10)]
    frozen = [each for each in found if each.ended_by is EndedBy.FROZEN]

    assert frozen
    assert all(each.usage.steps < each.steps_planned for each in frozen)
    assert all(each.trace.finished or len(each.trace) == 12 for each in found)


def test_which_methods_can_freeze() -> None:
    assert {"entropy_cut", "uniform_cut"} <= set(FREEZING)
    assert not {"standard", "low_temperature", "best_of_n", "smc", "tmc"} & set(FREEZING)
