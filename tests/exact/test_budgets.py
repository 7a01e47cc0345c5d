"""Deadlines and token budgets: the step in flight is dropped, an extension keeps what it has."""

import asyncio
from dataclasses import replace

import pytest

from sampler.answer import EndedBy
from sampler.chain import Chain, ChainResult
from sampler.events import Event, Extended, Stepped
from sampler.params import PowerParams
from sampler.trace import End, Trace
from tests.exact.checks import make_chain, run, same_trace
from tests.exact.engines import Hanging, Wrapped
from tests.exact.models import EndlessEngine

PARAMS = PowerParams(24, 2.0, 1.0, blocks=3, steps_per_block=4, top_k=None)
DEADLINE = 3600.0


def model() -> EndlessEngine:
    return EndlessEngine(5, ("a", "b", "c"))


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose clock can be put forward."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


def history(params: PowerParams, seed: int = 0) -> list[tuple[Event, Trace, int]]:
    """Every event of an undisturbed chain, with the trace and the tokens generated then."""
    seen: list[tuple[Event, Trace, int]] = []
    chain: Chain = make_chain(model(), params, seed)
    chain._emit = lambda event: seen.append((event, chain.trace, chain.usage.generated_tokens))
    run(chain.run())
    return seen


def run_until_call(call: int, shown: int, params: PowerParams = PARAMS) -> tuple[ChainResult, Hanging, Clock]:
    """A chain whose engine hangs on a call, the clock then being put past the deadline."""
    with asyncio.Runner(loop_factory=Clock) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Clock)
        engine = Hanging(model(), call, shown, lambda: setattr(loop, "ahead", DEADLINE + 1))
        result = runner.run(make_chain(engine, replace(params, deadline_s=DEADLINE)).run())
        return result, engine, loop


@pytest.mark.parametrize("call", [2, 4, 5, 7, 12, 15])
def test_a_deadline_in_a_step_drops_the_step_and_keeps_the_trace_before_it(call: int) -> None:
    """Calls 1, 6 and 11 are extensions, each followed by four steps: no trace of this model ends early."""
    before = history(PARAMS)
    result, engine, _ = run_until_call(call, shown=2)
    event, trace, spent = before[call - 2]
    assert engine.cancelled
    assert result.ended_by is EndedBy.DEADLINE
    assert same_trace(result.trace, trace)
    assert result.stage == event.stage
    assert result.usage.steps == sum(isinstance(e, Stepped) for e, _, _ in before[: call - 1])
    assert spent <= result.usage.generated_tokens <= spent + 2


@pytest.mark.parametrize("call", [1, 6, 11])
@pytest.mark.parametrize("shown", [0, 1, 3])
def test_a_deadline_in_an_extension_keeps_the_partial_trace(call: int, shown: int) -> None:
    before = history(PARAMS)
    result, _, _ = run_until_call(call, shown)
    start = before[call - 2][1].ids if call > 1 else ()
    whole = before[call - 1][1].ids
    assert result.ended_by is EndedBy.DEADLINE
    assert result.trace.ids == whole[: len(start) + shown]
    assert result.trace.end is End.LENGTH
    assert result.stage == 1 + call // 5
    assert (result.state is None) == (call == 1)
    assert len(result.trace.log_norm) == len(result.trace.entropy) == len(result.trace)


def test_a_deadline_that_is_not_reached_changes_nothing() -> None:
    result, _, _ = run_until_call(call=1000, shown=0)
    assert result.ended_by is EndedBy.COMPLETED
    assert same_trace(result.trace, history(PARAMS)[-1][1])


@pytest.mark.slow
@pytest.mark.parametrize("early", [True, False])
def test_every_token_budget_gives_the_trace_of_the_last_step_it_paid_for(early: bool) -> None:
    params = replace(PARAMS, early_rejection=early)
    before = history(params)
    total = before[-1][2]
    for budget in range(1, total + 2):
        result = run(make_chain(model(), replace(params, max_generated_tokens=budget)).run())
        assert result.usage.generated_tokens <= budget
        paid = [item for item in before if item[2] <= budget]
        if budget >= total:
            assert result.ended_by is EndedBy.COMPLETED
            assert same_trace(result.trace, before[-1][1])
            continue
        assert result.ended_by is EndedBy.TOKEN_BUDGET
        following = before[len(paid)][0]
        last = paid[-1][1].ids if paid else ()
        if isinstance(following, Stepped):
            assert result.trace.ids == last
        else:
            left = budget - (paid[-1][2] if paid else 0)
            assert isinstance(following, Extended)
            assert result.trace.ids == following.ids[: len(last) + left]
            assert result.trace.end is End.LENGTH
        assert result.stage == following.stage
        assert result.usage.steps == sum(isinstance(event, Stepped) for event, _, _ in paid)
        assert (result.state.stage if result.state else 0) == following.stage - 1


def test_cancelling_a_chain_cancels_the_engine_s_work() -> None:
    async def cancelled() -> Hanging:
        reached = asyncio.Event()
        engine = Hanging(model(), 3, 1, reached.set)
        task = asyncio.create_task(make_chain(engine, PARAMS).run())
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return engine

    assert asyncio.run(cancelled()).cancelled


def test_a_budget_of_exactly_the_chain_s_tokens_completes() -> None:
    total = history(PARAMS)[-1][2]
    result = run(make_chain(Wrapped(model()), replace(PARAMS, max_generated_tokens=total)).run())
    assert result.ended_by is EndedBy.COMPLETED
