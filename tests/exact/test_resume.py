"""A chain that goes on from a finished stage gives the same tokens as one that was never interrupted."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from sampler.answer import EndedBy
from sampler.chain import ChainState
from sampler.params import PowerParams
from tests.exact.checks import make_chain, run, run_steps, same_trace
from tests.exact.models import EndlessEngine

PARAMS = PowerParams(24, 2.0, 1.0, blocks=4, steps_per_block=5, top_k=3, stop=("bca",))


def through_json(state: ChainState | None) -> ChainState:
    """The state as another process would read it."""
    assert state is not None
    fields: dict[str, Any] = json.loads(json.dumps(asdict(state)))
    return ChainState(**fields)


def state_after(engine: EndlessEngine, params: PowerParams, stages: int, seed: int, cut: str) -> ChainState:
    """The state after `stages` finished stages of a run that a budget then stops."""
    whole, steps = run_steps(engine, params, seed, cut)
    spent = [step.generated_tokens for step in steps if step.stage <= stages]
    stopped = run(make_chain(engine, replace(params, max_generated_tokens=spent[-1]), seed, cut).run())
    if stopped.ended_by is EndedBy.COMPLETED:  # the rest cost nothing
        return through_json(whole.state)
    return through_json(stopped.state)


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["entropy", "uniform"])
@pytest.mark.parametrize("early", [True, False])
def test_a_chain_resumed_from_any_stage_gives_the_same_trace_and_usage(cut: str, early: bool) -> None:
    params = replace(PARAMS, early_rejection=early)
    resumed_from: set[int] = set()
    for seed in range(4):
        engine = EndlessEngine(seed, ("a", "b", "c", "<eos>"), (3,), end_mass=0.02)
        whole, _ = run_steps(engine, params, seed, cut)
        for stages in range(1, 5):
            state = state_after(engine, params, stages, seed, cut)
            resumed_from.add(state.stage)
            resumed = run(make_chain(engine, params, seed, cut).run(state))
            assert same_trace(resumed.trace, whole.trace)
            assert resumed.usage == whole.usage
            assert (resumed.ended_by, resumed.stage) == (EndedBy.COMPLETED, 4)
            assert through_json(resumed.state) == through_json(whole.state)
    assert {1, 2, 3} <= resumed_from


def test_a_state_is_plain_json_and_survives_it_bit_for_bit() -> None:
    engine = EndlessEngine(9, ("a", "b", "c"))
    result, _ = run_steps(engine, PARAMS, 9)
    assert through_json(result.state) == result.state
    assert result.state is not None
    assert result.state.ids == list(result.trace.ids)


def test_a_finished_chain_resumed_does_nothing_more() -> None:
    engine = EndlessEngine(9, ("a", "b", "c"))
    result, _ = run_steps(engine, PARAMS, 9)
    again = run(make_chain(engine, PARAMS, 9).run(through_json(result.state)))
    assert same_trace(again.trace, result.trace)
    assert again.usage == result.usage
