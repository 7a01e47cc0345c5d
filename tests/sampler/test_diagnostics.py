"""What diagnostics say of a chain, and the verdict over chains."""

import asyncio
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sampler.answer import Answer, EndedBy, PowerUsage
from sampler.chain import ChainResult
from sampler.diagnostics import (
    ESS_PER_CHAIN,
    ChainDiagnostics,
    diagnose_chain,
    diagnose_chains,
    verdict,
)
from sampler.engine import Engine
from sampler.engines.tabular import from_table
from sampler.events import Event, Extended, Kept, Stepped
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.mixing import split_r_hat
from sampler.params import Mode, PowerParams
from sampler.row import Floats
from sampler.trace import Trace, empty_trace
from tests.exact.checks import make_chain, run
from tests.exact.models import random_engine, table

PARAMS = PowerParams(6, 3.0, 1.0, blocks=2, steps_per_block=40, top_k=None)


def events_of(params: PowerParams, seed: int = 0, cut: str = "entropy") -> tuple[ChainResult, list[Event]]:
    """All events of a chain on a random table."""
    events: list[Event] = []
    return run(make_chain(random_engine(4, 6), params, seed, cut, events.append).run()), events


@pytest.mark.parametrize("cut", ["entropy", "uniform"])
def test_the_terms_of_a_step_sum_to_its_log_ratio_and_bound_it_where_it_stopped(cut: str) -> None:
    _, early = events_of(PARAMS, cut=cut)
    _, whole = events_of(replace(PARAMS, early_rejection=False), cut=cut)
    pairs: list[tuple[Any, Any]] = [pair for pair in zip(early, whole, strict=True) if isinstance(pair[0], Stepped)]

    assert sum(a.rejected_early for a, _ in pairs) > 10
    for a, b in pairs:
        assert b.power_term + b.cut_term == b.log_ratio
        assert a.power_term >= b.power_term
        assert a.cut_term >= b.cut_term
        if a.rejected_early:
            assert a.power_term + a.cut_term < a.log_u
        else:
            assert (a.power_term, a.cut_term) == (b.power_term, b.cut_term)


def test_a_chain_is_counted_by_stage() -> None:
    result, events = events_of(PARAMS)
    found = diagnose_chain(events, PARAMS.alpha, PARAMS.max_tokens)

    assert [stage.stage for stage in found.stages] == [1, 2]
    assert [stage.steps for stage in found.stages] == [40, 40]
    for name in ("accepted", "moved", "rejected_early"):
        assert sum(getattr(stage, name) for stage in found.stages) == getattr(result.usage, name)
    second: list[Any] = [event for event in events if isinstance(event, Stepped) and event.stage == 2]
    known = [event for event in second if not event.rejected_early]
    lost = [event for event in second if event.rejected_early]
    stage = found.stages[1]
    assert stage.acceptance == sum(event.accepted for event in second) / 40
    assert stage.power_term == pytest.approx(np.mean([event.power_term for event in known]))
    assert stage.cut_term == pytest.approx(np.mean([event.cut_term for event in known]))
    assert stage.power_term_bound == pytest.approx(np.mean([event.power_term for event in lost]))
    assert stage.cut_term_bound == pytest.approx(np.mean([event.cut_term for event in lost]))


def test_traces_and_cuts_are_those_of_the_steps() -> None:
    result, events = events_of(PARAMS)
    found = diagnose_chain(events, PARAMS.alpha, PARAMS.max_tokens)
    steps = [event for event in events if isinstance(event, Stepped)]

    assert found.log_p == tuple(event.log_p for event in steps)
    assert found.log_p[-1] == float(result.trace.log_p.sum())
    assert found.log_pi == tuple(3.0 * value for value in found.log_p)
    assert found.length == tuple(event.length for event in steps)
    cuts = Counter(event.cut for event in steps)
    assert found.cuts.bin_tokens == 1
    assert found.cuts.counts == tuple(cuts[position] for position in range(6))
    assert found.cuts.share_at_zero == cuts[0] / 80 > 0


def test_a_long_answer_has_a_short_histogram() -> None:
    steps = [stepped(step, cut) for step, cut in enumerate((0, 31, 32, 999))]
    cuts = diagnose_chain(steps, 4.0, 1000).cuts

    assert cuts.bin_tokens == 32
    assert len(cuts.counts) == 32
    assert (cuts.counts[0], cuts.counts[1], cuts.counts[31]) == (2, 1, 1)
    assert cuts.share_at_zero == 0.25


def test_steps_with_nothing_to_redraw_are_steps_too() -> None:
    events: list[Event] = []
    forced = from_table(table(("a", "b"), (), {}, np.array([1.0, 0.0])))
    run(make_chain(forced, PARAMS, emit=events.append).run())
    found = diagnose_chain(events, 3.0, 6)

    assert [type(event) for event in events] == ([Extended] + [Kept] * 40) * 2
    assert [stage.steps for stage in found.stages] == [40, 40]
    assert found.stages[0].acceptance is None
    assert found.cuts.share_at_zero is None
    assert found.length == (3,) * 40 + (6,) * 40


def test_a_term_that_is_not_finite_is_left_out_of_the_mean() -> None:
    steps = [replace(stepped(0, 1), power_term=value, cut_term=math.nan) for value in (-1.0, -math.inf, -3.0, math.nan)]
    stage = diagnose_chain(steps, 4.0, 8).stages[0]

    assert stage.power_term == -2.0
    assert stage.cut_term is None


def stepped(step: int, cut: int) -> Stepped:
    """A rejected step."""
    return Stepped(0, 1, 1, step, cut, (1,), -0.1, -0.05, False, False, False, -3.0, 4, 9, -0.1, 0.0)


def test_nothing_to_diagnose_is_no_error() -> None:
    found = diagnose_chain([], 4.0, 8)
    assert (found.stages, found.log_p, found.cuts.share_at_zero) == ((), (), None)


def noise(steps: int, chains: int = 4, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(chains, steps))


def constant(steps: int, *values: float) -> Floats:
    return np.repeat(np.array(values)[:, None], steps, axis=1)


def test_many_independent_draws_have_converged() -> None:
    converged, reason = verdict(noise(1000), constant(1000, 5, 5, 5, 5))
    assert converged is True
    assert "ESS" in reason


def test_chains_in_different_places_have_not() -> None:
    apart = noise(1000) + np.array([[0.0], [0.0], [0.0], [3.0]])
    assert verdict(apart, constant(1000, 5, 5, 5, 5))[0] is False
    assert verdict(noise(1000), apart)[0] is False


@pytest.mark.parametrize(
    ("log_pi", "says"),
    [
        (noise(1000, chains=3), "at least 4 chains, and there are 3"),
        (noise(1000, chains=1), "at least 4 chains, and there is 1 chain"),
        (noise(9), "fewer than 10 steps in the last stage, and there are 9"),
        (constant(50, -1, -1, -1, -1), "undefined"),
        (noise(50, seed=6) + np.array([[0.0], [0.0], [0.0], [0.5]]), "by chance: take more steps"),
    ],
)
def test_what_cannot_be_told_is_unknown_and_says_why(log_pi: Floats, says: str) -> None:
    converged, reason = verdict(log_pi, np.full(log_pi.shape, 5.0))
    assert converged is None
    assert says in reason


def test_chains_that_stand_still_apart_are_not_undefined() -> None:
    converged, reason = verdict(constant(50, -1, -1, -1, -2), constant(50, 5, 5, 5, 5))
    assert converged is False
    assert "not in the same place" in reason


@pytest.mark.slow
def test_a_low_r_hat_of_few_effective_draws_is_unknown() -> None:
    low = [draws for seed in range(200) if verdict(draws := noise(60, seed=seed), draws)[0] is None]
    reasons = [verdict(draws, draws)[1] for draws in low]
    assert any(f"where {4 * ESS_PER_CHAIN} are needed" in reason for reason in reasons)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [10, 20, 100])
def test_independent_draws_are_hardly_ever_called_unconverged(steps: int) -> None:
    """CHANCE says under 1 %; 400 pairs of log π and length leave room for 12 (5 %: one in 10^4 at 1 %)."""
    rng = np.random.default_rng(steps)
    verdicts = Counter(
        verdict(rng.choice([-1.0, -2.0, -4.0], p=[0.7, 0.2, 0.1], size=(4, steps)), rng.normal(size=(4, steps)))[0]
        for _ in range(400)
    )
    assert verdicts[False] <= 12


async def chains_on(engine: Engine, params: PowerParams, count: int) -> list[tuple[Answer, ChainDiagnostics]]:
    """Answers of several chains with their diagnostics."""
    found: list[tuple[Answer, ChainDiagnostics]] = []
    for chain in range(count):
        events: list[Event] = []
        answer = await METHODS["entropy_cut"](Job(engine, (0,), params, 1, chain, emit=events.append))
        found.append((answer, diagnose_chain(events, params.alpha, params.max_tokens)))
    return found


@pytest.mark.slow
def test_chains_of_a_small_model_converge_and_are_compared_over_the_last_stage() -> None:
    params = PowerParams(3, 1.0, 0.0, blocks=2, steps_per_block=1000, top_k=None)
    found = diagnose_chains(asyncio.run(chains_on(random_engine(4, 6), params, 4)))

    assert found.converged is True, found.reason
    assert (found.chains, found.steps) == (4, 1000)
    assert found.log_pi.r_hat is not None and found.log_pi.r_hat < 1.01  # noqa: PT018
    assert found.log_pi.ess_bulk is not None and found.log_pi.ess_bulk > 400  # noqa: PT018
    assert 1 <= found.distinct_answers <= 4


def answer(ended_by: EndedBy = EndedBy.COMPLETED, trace: Trace | None = None) -> Answer:
    return Answer("entropy_cut", 0, 0, trace or empty_trace(), ended_by, 1, 1, 20, PowerUsage())


def test_chains_that_ended_early_are_not_compared() -> None:
    chain = diagnose_chain([stepped(step, 0) for step in range(20)], 4.0, 8)
    found = diagnose_chains([(answer(), chain)] * 3 + [(answer(EndedBy.DEADLINE), chain)])

    assert found.converged is None
    assert "1 of 4 chains ended early (deadline)" in found.reason
    assert (found.steps, found.log_pi.r_hat, found.length.ess_bulk) == (0, None, None)


def test_chains_of_unequal_last_stages_are_not_compared() -> None:
    long, short = (diagnose_chain([stepped(step, 0) for step in range(count)], 4.0, 8) for count in (20, 19))
    found = diagnose_chains([(answer(), long)] * 3 + [(answer(), short)])

    assert found.converged is None
    assert "equally many" in found.reason


def test_chains_that_retired_in_different_stages_are_not_compared() -> None:
    one = diagnose_chain([stepped(step, 0) for step in range(20)], 4.0, 8)
    two = diagnose_chain([replace(stepped(step, 0), stage=2) for step in range(20)], 4.0, 8)
    found = diagnose_chains([(answer(), one)] * 3 + [(answer(), two)])

    assert found.converged is None
    assert "in the same stage" in found.reason


def test_equal_answers_are_counted_once() -> None:
    chains = asyncio.run(chains_on(random_engine(4, 6), replace(PARAMS, alpha=1.0, steps_per_block=1), 12))
    distinct = len({each.trace.ids for each, _ in chains})

    assert 1 < distinct < 12
    assert diagnose_chains(chains).distinct_answers == distinct


@pytest.mark.parametrize("method", ["entropy_cut", "uniform_cut", "multiple_try"])
@pytest.mark.parametrize("mode", ["exact", "paper"])
def test_every_method_with_steps_tells_its_terms(method: str, mode: Mode) -> None:
    if (method, mode) == ("multiple_try", "paper"):
        return  # refused
    events: list[Any] = []
    params = replace(PARAMS, mode=mode, tries=2, blocks=1)

    async def several() -> None:
        for seed in range(6):
            await METHODS[method](Job(random_engine(9, 6), (0,), params, seed, emit=events.append))

    asyncio.run(several())
    known = [event for event in events if isinstance(event, Stepped) and event.log_ratio is not None]

    assert known
    assert all((event.power_term or 0.0) + (event.cut_term or 0.0) == event.log_ratio for event in known)
    assert any(event.cut_term for event in known) == ((method, mode) != ("uniform_cut", "paper"))


def test_only_the_last_stage_is_compared() -> None:
    draws = noise(400)
    chains: list[tuple[Answer, ChainDiagnostics]] = []
    for chain, values in enumerate(draws.tolist()):
        apart = [replace(stepped(step, 0), log_p=-100.0 * chain, length=chain) for step in range(400)]
        mixed = [replace(stepped(step, 0), stage=2, log_p=value) for step, value in enumerate(values)]
        chains.append((answer(), diagnose_chain(apart + mixed, 4.0, 8)))
    found = diagnose_chains(chains)

    assert found.log_pi.r_hat == pytest.approx(split_r_hat(4.0 * draws))
    assert found.length.r_hat is None
    assert found.converged is True
