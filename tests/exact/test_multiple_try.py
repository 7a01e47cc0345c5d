"""Several tries at one cut: p^α is invariant, the race has its law, and stopping early changes nothing."""

import importlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from sampler.answer import EndedBy
from sampler.drawing import Drawn
from sampler.engine import Request
from sampler.errors import EngineError, InvalidParams
from sampler.events import Stepped
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.methods.multiple_try import Race, gumbel
from sampler.params import PowerParams
from sampler.power import Bound
from sampler.rng import DrawKey, Draws, Kind
from sampler.state import ChainState
from sampler.trace import Segment
from tests.exact import mutants as m
from tests.exact.checks import chi_square_p, same_trace
from tests.exact.engines import Flaky, Wrapped
from tests.exact.enumeration import Case, Space, total_variation, transition_matrix
from tests.exact.models import EndlessEngine, random_engine
from tests.exact.tries import (
    check_step_law,
    check_tries,
    check_tries_law,
    resume_tries,
    run_tries,
    tries_law,
    tries_matrix,
)

Patch = pytest.MonkeyPatch
Record = Callable[[str, object], None]
tries_module: Any = importlib.import_module("sampler.methods.multiple_try")  # the name is the function's as well
ENGINE = random_engine(8, 4)
PARAMS = PowerParams(4, 2.0, 1.0, 2, 2, None, tries=2, stop=("ab",))
STEP = PowerParams(3, 2.0, 1.0, 1, 1, None, tries=3, stop=("ab",))
LONG = PowerParams(24, 4.0, 4.0, 3, 8, None, tries=4)


@pytest.mark.parametrize("tries", [1, 2, 3])
@pytest.mark.parametrize(
    ("alpha", "beta", "top_k"), [(2.0, 1.0, None), (4.0, 4.0, None), (4.0, 0.0, 2), (0.5, 4.0, None)]
)
def test_a_step_with_tries_leaves_the_power_distribution_invariant(
    tries: int, alpha: float, beta: float, top_k: int | None
) -> None:
    horizon = 4 if tries < 3 else 3
    check_tries(Case(random_engine(tries, horizon), PowerParams(horizon, alpha, beta, 2, 10, top_k)), tries)
    check_tries(Case(random_engine(7, 3), PowerParams(3, alpha, beta, 1, 10, top_k, stop=("ab",))), tries)


def test_one_try_is_barkers_acceptance_and_more_tries_move_more() -> None:
    space = Space(Case(ENGINE, PowerParams(4, 4.0, 4.0, 1, 10, None)), 4)
    moving = [1 - np.diag(tries_matrix(space, tries)) for tries in (1, 2, 4)]
    assert (moving[0] <= moving[1] + 1e-15).all()
    assert (moving[1] <= moving[2] + 1e-15).all()
    metropolis = 1 - np.diag(transition_matrix(space, verify=False))
    assert (moving[0] <= metropolis + 1e-15).all()


def test_tries_bring_the_staged_chain_to_the_power_distribution() -> None:
    case = Case(random_engine(9, 4), PowerParams(4, 4.0, 4.0, 2, 10, None))
    far, near, limit = (
        total_variation(law, space.target) for law, space in (tries_law(case, 2, n) for n in (0, 10, 1 << 14))
    )
    assert far > near > limit
    assert limit < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("tries", [1, 2, 3])
@pytest.mark.parametrize("early", [True, False])
def test_a_real_step_has_the_enumerated_law(tries: int, early: bool) -> None:
    check_step_law(Case(ENGINE, replace(STEP, tries=tries, early_rejection=early)), 300)


@pytest.mark.slow
def test_the_real_chain_has_the_enumerated_law() -> None:
    check_tries_law(Case(ENGINE, PARAMS), 600)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("tries", [1, 2, 3])
def test_the_real_chain_has_the_enumerated_law_over_5000_chains(tries: int) -> None:
    check_tries_law(Case(ENGINE, replace(PARAMS, tries=tries)), 5000)


def test_a_gumbel_variable_has_its_law() -> None:
    """P(G ≤ g) = exp(−exp(−g)); the smaller u, the larger G."""
    for g in np.linspace(-3, 20, 50):
        assert gumbel(-math.expm1(-math.exp(-g))) == pytest.approx(g, rel=1e-9, abs=1e-9)
    assert gumbel(1.0) == -math.inf
    assert 36 < gumbel(2.0**-53) < 37


def check_same_winners(params: PowerParams = LONG, seeds: range = range(3)) -> float:
    """Stopping early, the tree and drawing side by side change no step; the share of tokens that stopping leaves."""
    early_tokens = plain_tokens = 0
    for seed in seeds:
        engine = EndlessEngine(seed, ("a", "b", "c", "<eos>"), (3,), end_mass=0.02)
        plain, steps = run_tries(engine, replace(params, early_rejection=False), seed)
        for tree, room in ((False, 0), (True, 0), (False, 3), (True, 8)):
            engine.free_rows = room
            early, again = run_tries(engine, params, seed, tree)
            assert same_trace(plain.trace, early.trace), "the traces differ"
            assert winners(steps) == winners(again), "the winners differ"
            if not tree and not room:
                early_tokens += early.usage.generated_tokens
        plain_tokens += plain.usage.generated_tokens
    return early_tokens / plain_tokens


def winners(events: list[Any]) -> list[Any]:
    return [(e.cut, e.accepted, e.moved, e.log_p, e.length) for e in events if isinstance(e, Stepped)]


def test_stopping_tries_early_changes_no_winner_and_saves_tokens(
    record_property: Record,
) -> None:
    share = check_same_winners()
    record_property("tokens with early stop / without", share)
    assert share < 0.8  # these models end early; docs/method.md has a real one's


def test_below_alpha_one_no_try_is_stopped() -> None:
    for seed in range(3):
        _, events = run_tries(EndlessEngine(seed, ("a", "b", "<eos>"), (2,)), replace(LONG, alpha=0.5), seed)
        assert not any(event.rejected_early for event in events if isinstance(event, Stepped))


def test_events_say_what_the_shown_try_had_to_beat() -> None:
    accepted = 0
    for seed in range(4):
        _, events = run_tries(EndlessEngine(seed, ("a", "b", "c"), ()), LONG, seed)
        for event in (event for event in events if isinstance(event, Stepped)):
            accepted += event.accepted
            assert event.accepted <= (event.log_ratio is not None)
            if event.log_ratio is not None:
                assert event.accepted == (event.log_u <= event.log_ratio)
            assert event.rejected_early == (event.log_ratio is None)
    assert accepted > 10


def test_a_try_whose_weight_is_not_a_number_never_wins() -> None:
    race = Race([-50.0, 30.0])
    assert race.score(1, Bound(0.0, 0.0, math.nan, 0.0)) == -math.inf
    assert not race.lost(1)(Bound(0.0, 0.0, math.nan, 0.0))


def check_race(races: int = 4000) -> None:
    """Fixed weights win as often as they weigh, with tries that stop when lost and that are looked at in any order."""
    log_ratios = [0.0, 0.7, -1.0, 1.5]
    counts = np.zeros(4)
    for seed in range(races):
        draws = Draws(seed, b"")
        race = Race([tries_module.gumbel(draws.key(Kind.ACCEPT, 0, 0, j).uniform()) for j in range(4)])
        for j in race.order if seed % 2 else reversed(race.order):
            race.arrive(j, arrived(race, j, log_ratios[j]))
        counts[race.winner] += 1
    law = np.exp(log_ratios)
    assert chi_square_p(counts, law / law.sum()) > 1e-6, "a race has other winners than its weights say"


def arrived(race: Race, j: int, log_ratio: float) -> Drawn:
    """A try of two rows, the first of which says nothing yet."""
    bounds = [Bound(0.0, 0.0, 0.0, max(0.0, -log_ratio) - 2.0), Bound(0.0, 0.0, log_ratio, 0.0)]
    rejected = any(race.lost(j)(bound) for bound in bounds)
    return cast(Drawn, SimpleNamespace(spent=None, watcher=SimpleNamespace(bound=bounds[1], rejected=rejected)))


def test_a_race_is_won_as_often_as_the_weights_say() -> None:
    check_race()


def test_every_try_has_draws_of_its_own() -> None:
    check_own_draws()


def check_own_draws() -> None:
    digests: list[bytes] = []

    class Recording(Wrapped):
        async def propose(self, request: Request) -> Segment:
            digests.append(request.key.digest)
            return await super().propose(request)

    run_tries(Recording(EndlessEngine(1, ("a", "b", "c"), ())), LONG)
    assert len(digests) == 3 + 3 * 8 * 4
    assert len(set(digests)) == len(digests), "two tries share their draws"


def test_failed_tries_are_asked_again_with_the_same_key() -> None:
    for seed in range(3):
        engine = EndlessEngine(seed, ("a", "b", "c", "<eos>"), (3,), end_mass=0.02)
        steady, steps = run_tries(engine, LONG, seed)
        flaky, again = run_tries(Flaky(engine, lambda number: number % 3 == 1), LONG, seed)
        assert same_trace(steady.trace, flaky.trace)
        assert winners(steps) == winners(again)


def test_a_failure_of_one_try_ends_the_others_and_is_raised() -> None:
    engine = Flaky(EndlessEngine(1, ("a", "b", "c"), ()), lambda number: number > 5)
    engine.free_rows = 8
    with pytest.raises(EngineError, match="flaky"):
        run_tries(engine, LONG)


def test_a_budget_stops_the_chain_and_is_not_overspent() -> None:
    for budget in (30, 100, 150):
        engine = EndlessEngine(1, ("a", "b", "c"), ())
        engine.free_rows = 8
        result, _ = run_tries(engine, replace(LONG, max_generated_tokens=budget), 1)
        assert result.ended_by is EndedBy.TOKEN_BUDGET
        assert result.usage.generated_tokens <= budget


def test_a_chain_resumed_from_a_stage_gives_the_same_trace_and_usage() -> None:
    engine = EndlessEngine(3, ("a", "b", "c", "<eos>"), (3,), end_mass=0.02)
    whole, _ = run_tries(engine, LONG, 3)
    half, _ = run_tries(engine, replace(LONG, max_tokens=16, blocks=2), 3)
    assert half.state is not None
    state = ChainState(**json.loads(json.dumps(asdict(half.state))))
    resumed = resume_tries(engine, LONG, 3, state)
    assert same_trace(resumed.trace, whole.trace)
    assert resumed.usage == whole.usage


async def test_the_method_is_served_and_has_no_paper_mode() -> None:
    answer = await METHODS["multiple_try"](Job(ENGINE, (0,), PARAMS, 1))
    assert (answer.method, answer.ended_by, answer.usage.steps) == ("multiple_try", EndedBy.COMPLETED, 4)
    with pytest.raises(InvalidParams, match="paper"):
        await METHODS["multiple_try"](Job(ENGINE, (0,), replace(PARAMS, mode="paper"), 1))


def current_left_out(patch: Patch) -> None:
    start = Race.__init__

    def without(self: Race, gumbels: Any) -> None:
        start(self, gumbels)
        self.best = -math.inf

    patch.setattr(Race, "__init__", without)


def gumbels_upside_down(patch: Patch) -> None:
    patch.setattr(tries_module, "gumbel", lambda u: -gumbel(u))


def gumbels_ignored(patch: Patch) -> None:
    patch.setattr(tries_module, "gumbel", lambda u: 0.0)


def tries_share_draws(patch: Patch, *kinds: Kind) -> None:
    key = Draws.key

    def shared(self: Draws, kind: Kind, stage: int, step: int, attempt: int = 0) -> DrawKey:
        return key(self, kind, stage, step, min(attempt, 1) if kind in kinds else attempt)

    patch.setattr(Draws, "key", shared)


def lost_without_its_gumbel(patch: Patch) -> None:
    patch.setattr(Race, "lost", lambda self, j: lambda bound: bound.value < self.best)


def first_to_beat_the_current_wins(patch: Patch) -> None:
    arrive = Race.arrive

    def first(self: Race, j: int, drawn: Any) -> None:
        if self.winner == 0:
            arrive(self, j, drawn)

    patch.setattr(Race, "arrive", first)


def law() -> None:
    check_step_law(Case(ENGINE, STEP), 300)


def kernel() -> None:
    check_tries(Case(ENGINE, PowerParams(4, 4.0, 4.0, 1, 10, None)), 2)


MUTANTS: dict[str, tuple[Callable[[Patch], object], Callable[[], object]]] = {
    "no cut term": (m.z_dropped, kernel),
    "cut term inverted": (m.z_inverted, kernel),
    "current left out": (current_left_out, law),
    "current left out of the race": (current_left_out, check_race),
    "gumbels upside down": (gumbels_upside_down, check_race),
    "gumbels ignored": (gumbels_ignored, law),
    "tries share their gumbels": (lambda patch: tries_share_draws(patch, Kind.ACCEPT), check_race),
    "tries share their tokens": (lambda patch: tries_share_draws(patch, Kind.TOKEN), check_own_draws),
    "first to beat the current wins": (first_to_beat_the_current_wins, check_race),
    "lost without its gumbel": (lost_without_its_gumbel, check_same_winners),
}


@pytest.mark.slow
@pytest.mark.parametrize("check", [law, kernel, check_same_winners, check_race, check_own_draws])
def test_the_sampler_passes_what_kills_the_mutants(check: Callable[[], object]) -> None:
    check()


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_killed(monkeypatch: Patch, name: str) -> None:
    mutate, check = MUTANTS[name]
    mutate(monkeypatch)
    with pytest.raises(AssertionError):
        check()
