"""`stop_when_frozen`: a whole trace that has not moved for so many steps ends the chain, a prefix never does."""

from dataclasses import replace

import pytest

from sampler.answer import EndedBy
from sampler.chain import ChainResult
from sampler.engines.tabular import TabularEngine
from sampler.events import Event, Extended, Kept, Stepped
from sampler.params import PowerParams
from tests.exact.checks import make_chain, run, same_trace
from tests.exact.models import EndlessEngine

PARAMS = PowerParams(16, 3.0, 1.0, blocks=4, steps_per_block=12, top_k=None)
LIMIT = 5


def events_of(params: PowerParams, seed: int) -> tuple[ChainResult, list[Event]]:
    """A chain on a model some of whose traces end early."""
    events: list[Event] = []
    engine = EndlessEngine(seed, ("a", "b", "<eos>"), (2,), end_mass=0.05)
    return run(make_chain(engine, params, seed, emit=events.append).run()), events


def first_frozen(events: list[Event], limit: int) -> int | None:
    """How many steps an undisturbed chain takes until it is frozen, counted from its events."""
    still = steps = length = 0
    finished = False
    for event in events:
        if isinstance(event, Extended):
            still = still if len(event.ids) == length else 0
            finished, length = event.finished, len(event.ids)
            continue
        steps += 1
        still = 0 if isinstance(event, Stepped) and event.moved else still + 1
        if isinstance(event, Stepped) and event.moved:
            length = event.length
            whole = event.cut + len(event.proposal)
            assert whole == length
            finished = event.proposal[-1] == 2
        if still >= limit and (finished or event.stage == event.stages):
            return steps
    return None


@pytest.mark.slow
def test_a_chain_stops_at_the_first_step_at_which_it_is_frozen() -> None:
    stopped = early = 0
    for seed in range(40):
        whole, events = events_of(PARAMS, seed)
        result, shown = events_of(replace(PARAMS, stop_when_frozen=LIMIT), seed)
        steps = first_frozen(events, LIMIT)
        if steps is None:
            assert result.ended_by is EndedBy.COMPLETED
            assert same_trace(result.trace, whole.trace)
            continue
        assert result.ended_by is EndedBy.FROZEN
        assert result.usage.steps == steps <= whole.usage.steps
        assert shown == events[: len(shown)], "up to there it is the same chain"
        stopped += 1
        early += result.stage < 4
    assert stopped > 10
    assert early > 0, "a finished trace may freeze before the last stage"


def test_a_prefix_is_never_returned_as_frozen() -> None:
    """Without an end every trace before the last stage is a prefix; at α = 100 nearly nothing moves."""
    params = replace(PARAMS, alpha=100.0, stop_when_frozen=1)
    for seed in range(20):
        result = run(make_chain(EndlessEngine(seed, ("a", "b")), params, seed).run())
        assert len(result.trace) == 16
        assert result.stage == 4
        assert result.ended_by is EndedBy.FROZEN


def test_a_stop_does_not_change_with_what_saves_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    params = replace(PARAMS, stop_when_frozen=LIMIT)
    plain = [events_of(replace(params, early_rejection=False), seed)[0] for seed in range(20)]
    monkeypatch.setattr(TabularEngine, "room", lambda self: 8)
    for seed, expected in enumerate(plain):
        result, _ = events_of(params, seed)
        assert same_trace(result.trace, expected.trace)
        assert (result.ended_by, result.usage.steps) == (expected.ended_by, expected.usage.steps)


def test_a_resumed_chain_remembers_how_long_it_has_stood_still() -> None:
    params = replace(PARAMS, stop_when_frozen=LIMIT)
    resumed = 0
    for seed in range(40):
        engine = EndlessEngine(seed, ("a", "b", "<eos>"), (2,), end_mass=0.05)
        whole = run(make_chain(engine, params, seed).run())
        if whole.state is None or whole.ended_by is not EndedBy.FROZEN:
            continue
        again = run(make_chain(engine, params, seed).run(whole.state))
        assert same_trace(again.trace, whole.trace)
        assert (again.ended_by, again.stage, again.usage.steps) == (EndedBy.FROZEN, whole.stage, whole.usage.steps)
        resumed += whole.state.still > 0
    assert resumed > 3


def test_a_trace_that_cannot_be_cut_freezes_too() -> None:
    events: list[Event] = []
    forced = EndlessEngine(0, ("a",))
    result = run(make_chain(forced, replace(PARAMS, stop_when_frozen=3), emit=events.append).run())

    assert result.ended_by is EndedBy.FROZEN
    assert result.stage == 4
    assert sum(isinstance(event, Kept) for event in events) == 3 * 12 + 3
