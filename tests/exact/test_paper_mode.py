"""Mode paper is the released code's chain step by step, and is not exact: here is how far from p^α it ends."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from sampler import paper
from sampler.chain import Chain, ChainTask
from sampler.cuts import cut_law
from sampler.engine import Request, Support, drawable
from sampler.engines import tabular
from sampler.engines.tabular import TabularEngine
from sampler.events import Event, Extended, Stepped
from sampler.paper import PaperChain
from sampler.params import PowerParams
from sampler.rng import EXTEND, DrawKey, Draws, Kind, prompt_digest
from sampler.row import Row
from sampler.state import ChainResult
from sampler.trace import Trace
from tests.exact.checks import chi_square_p
from tests.exact.enumeration import Case, Space, StagedChain, total_variation
from tests.exact.models import EndlessEngine, random_engine
from tests.exact.released import Ids, Law, Released, run

Record = Callable[[str, object], None]
Place = tuple[str, int, int, int]
NAMES = {Kind.CUT: "cut", Kind.ACCEPT: "accept", Kind.TOKEN: "token"}
LETTERS = ("a", "b", "c", "<eos>")


@dataclass(frozen=True)
class RecordedKey(DrawKey):
    place: tuple[str, int, int] = ("", 0, 0)
    record: dict[Place, float] = field(default_factory=dict)

    def uniform(self, position: int = 0) -> float:
        u = super().uniform(position)
        self.record[(*self.place, position)] = u
        return u


@dataclass(frozen=True)
class RecordedDraws(Draws):
    record: dict[Place, float] = field(default_factory=dict)

    def key(self, kind: Kind, stage: int, step: int, attempt: int = 0) -> DrawKey:
        assert EXTEND == -1
        return RecordedKey(super().key(kind, stage, step, attempt).digest, (NAMES[kind], stage, step), self.record)


def released(engine: TabularEngine, params: PowerParams, cut: str) -> Released:
    def row(prefix: Ids) -> dict[int, float]:
        whole = engine.row(prefix, 1.0, Support())
        return {int(token): float(np.exp(logit)) for token, logit in zip(whole.ids, whole.logits, strict=True)}

    (eos,) = engine.info.eos_ids
    top_k = params.top_k or engine.info.vocabulary
    block, rest = divmod(params.max_tokens, params.blocks)
    assert rest == 0
    steps = params.steps_per_block
    return Released(row, eos, params.alpha, params.cut_power, params.blocks, steps, block, top_k, cut == "uniform")


def paper_chain(
    engine: TabularEngine, params: PowerParams, cut: str, seed: int, events: list[Event]
) -> tuple[PaperChain, dict[Place, float]]:
    draws = RecordedDraws(seed, prompt_digest((0,)))
    task = ChainTask((0,), params, cut_law(cut, params.cut_power), draws)
    return PaperChain(engine, task, events.append), draws.record


def follow(engine: TabularEngine, params: PowerParams, cut: str, seed: int) -> tuple[ChainResult, list[Event], int]:
    """Run the real chain, then the oracle on its recorded draws; they agree in every step. Returns accepted steps."""
    events: list[Event] = []
    chain, record = paper_chain(engine, params, cut, seed, events)
    result = asyncio.run(chain.run())
    steps, answer, stage = run(released(engine, params, cut), lambda *place: record[place])
    taken = [event for event in events if isinstance(event, Stepped)]
    assert len(taken) == len(steps)
    for event, step in zip(taken, steps, strict=True):
        assert (event.stage, event.step, event.cut) == (step.stage, step.step, step.cut)
        assert event.proposal == step.proposal
        assert event.log_ratio is not None
        assert event.log_ratio == pytest.approx(step.log_ratio, rel=1e-9, abs=1e-9)
        assert event.accepted == step.accepted
        assert event.length == len(step.after)
    assert result.trace.ids == answer
    assert result.stage == stage
    return result, events, sum(step.accepted for step in steps)


def follow_many(cut: str, top_k: int | None = None, cut_power: float = 4.0, models: int = 25) -> tuple[int, int, int]:
    """Follow chains on many models: how many ended early, accepted steps, chains that fell behind their horizon."""
    ended = moved = shorter = 0
    for seed in range(models):
        engine = EndlessEngine(seed, LETTERS, (3,), concentration=0.7, end_mass=None if seed % 2 else 0.06)
        params = PowerParams(20, 2.0 + seed % 3, cut_power, 4, 8, top_k, mode="paper")
        result, events, accepted = follow(engine, params, cut, seed)
        ended += result.stage < 4
        moved += accepted
        shorter += any(isinstance(event, Extended) and len(event.ids) < 5 * event.stage for event in events)
    return ended, moved, shorter


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["entropy", "uniform"])
@pytest.mark.parametrize(("top_k", "cut_power"), [(None, 4.0), (3, 1.0), (2, 4.0)])
def test_paper_mode_is_the_transcription_step_by_step(cut: str, top_k: int | None, cut_power: float) -> None:
    ended, moved, shorter = follow_many(cut, top_k, cut_power)
    assert ended >= 5
    assert moved >= 100
    assert shorter >= 5


def no_cap(patch: pytest.MonkeyPatch) -> None:
    """Without (a)."""
    draw = PaperChain._draw

    async def whole(self: PaperChain, cut: int, horizon: int, key: DrawKey, *rest: Any) -> Any:
        return await draw(self, cut, horizon + 1 if rest else horizon, key, *rest)

    patch.setattr(PaperChain, "_draw", whole)


def whole_suffixes(patch: pytest.MonkeyPatch) -> None:
    """Without (b)."""

    def terms(trace: Trace, proposal: Trace, cut: int, alpha: float) -> float:
        return float(proposal.log_z[cut:].sum() - trace.log_z[cut:].sum())

    patch.setattr(paper, "suffix_terms", terms)


def end_not_barred(patch: pytest.MonkeyPatch) -> None:
    """Without (c)."""
    patch.setattr(tabular, "drawable", lambda row, request, drawn: row)


def log_q_of_the_whole_row(patch: pytest.MonkeyPatch) -> None:
    """(c) only half: the end is barred, but q is not renormalised."""

    def barred(row: Row, request: Request, drawn: int) -> Row:
        return replace(drawable(row, request, drawn), log_z=row.log_z)

    patch.setattr(tabular, "drawable", barred)


def common_row_kept(patch: pytest.MonkeyPatch) -> None:
    """Row m of the current trace stands for the proposal's, as in exact mode."""
    patch.setattr(PaperChain, "_watcher", Chain._watcher)


def cut_term_always(patch: pytest.MonkeyPatch) -> None:
    """Without (d)."""
    init = PaperChain.__init__

    def with_term(self: PaperChain, *args: Any) -> None:
        init(self, *args)
        self._has_cut_term = True

    patch.setattr(PaperChain, "__init__", with_term)


def never_final(patch: pytest.MonkeyPatch) -> None:
    """Without half of (e)."""
    patch.setattr(PaperChain, "_retired", Chain._retired)


def extended_to_the_horizon(patch: pytest.MonkeyPatch) -> None:
    """Without the other half."""
    patch.setattr(PaperChain, "extend", Chain.extend)


@pytest.mark.parametrize(
    ("mutate", "cut"),
    [
        (no_cap, "entropy"),
        (whole_suffixes, "entropy"),
        (end_not_barred, "entropy"),
        (log_q_of_the_whole_row, "entropy"),
        (common_row_kept, "entropy"),
        (cut_term_always, "uniform"),
        (never_final, "uniform"),
        (extended_to_the_horizon, "entropy"),
    ],
)
def test_a_departure_left_out_is_seen(
    monkeypatch: pytest.MonkeyPatch, mutate: Callable[[pytest.MonkeyPatch], None], cut: str
) -> None:
    mutate(monkeypatch)
    with pytest.raises((AssertionError, KeyError)):
        follow_many(cut)


def test_rows_without_entropy_are_cut_evenly_and_a_forced_end_stands() -> None:
    """Every row is certain: Z = 0. Where the end is all there is, barring it leaves nothing, and it is drawn."""
    engine = random_engine(0, 6)
    for prefix in engine._logits:
        token = 2 if len(prefix) == 3 else 0
        engine._logits[prefix] = np.where(np.arange(3) == token, 0.0, -np.inf)
    for cut in ("entropy", "uniform"):
        result, events, _ = follow(engine, PowerParams(6, 4.0, 4.0, 1, 12, None, mode="paper"), cut, 1)
        assert result.trace.ids == (0, 0, 0, 2)
        assert len({event.cut for event in events if isinstance(event, Stepped)}) == 4


def test_an_ended_trace_is_final_after_its_stage_and_costs_nothing_more() -> None:
    engine = random_engine(3, 6)
    params = PowerParams(6, 4.0, 4.0, 3, 4, None, mode="paper")
    results = [follow(engine, params, "entropy", seed)[0] for seed in range(10)]
    assert any(result.stage == 1 for result in results)
    for result in results:
        assert result.trace.finished or result.stage == 3
        assert result.usage.steps == 4 * result.stage


def test_a_resumed_chain_keeps_how_its_tokens_were_drawn() -> None:
    params = PowerParams(20, 3.0, 4.0, 4, 8, None, mode="paper")
    for seed in range(6):
        engine = EndlessEngine(seed, LETTERS, (3,), end_mass=0.02)
        events: list[Event] = []
        whole = asyncio.run(paper_chain(engine, params, "entropy", seed, events)[0].run())
        first, _ = paper_chain(engine, replace(params, max_tokens=10, blocks=2), "entropy", seed, [])
        half = asyncio.run(first.run())
        resumed = asyncio.run(paper_chain(engine, params, "entropy", seed, [])[0].run(half.state))
        assert resumed.trace.ids == whole.trace.ids
        assert resumed.usage == whole.usage


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["entropy", "uniform"])
def test_drawing_ahead_changes_no_token(cut: str) -> None:
    params = PowerParams(20, 3.0, 4.0, 4, 8, None, mode="paper")
    drawn_ahead = 0
    for seed in range(6):
        engine = EndlessEngine(seed, LETTERS, (3,), end_mass=0.02)
        plain = asyncio.run(paper_chain(engine, params, cut, seed, [])[0].run())
        engine.free_rows = 8
        ahead = asyncio.run(paper_chain(engine, params, cut, seed, [])[0].run())
        assert plain.trace.ids == ahead.trace.ids
        drawn_ahead += ahead.usage.prefetched_tokens
    assert drawn_ahead > 0


def distances(cut: str, seeds: range, steps: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean over models of TV(law of the answer, p^α) for each number of steps: mode paper, mode exact."""
    paper: list[list[float]] = []
    exact: list[list[float]] = []
    params = PowerParams(6, 4.0, 4.0, 3, 10, None)
    for seed in seeds:
        engine = random_engine(seed, 6)
        staged = StagedChain(Case(engine, params, cut), verify=False)
        target = dict(zip((trace.ids for trace in staged.last.traces), staged.last.target, strict=True))
        laws = Law(released(engine, params, cut)).answers(steps)
        every = [set(target) | set(law) for law in laws]
        paper.append(
            [
                0.5 * sum(abs(law.get(ids, 0.0) - target.get(ids, 0.0)) for ids in ids_)
                for law, ids_ in zip(laws, every, strict=True)
            ]
        )
        exact.append([total_variation(staged.law(number), staged.last.target) for number in steps])
    return np.mean(paper, axis=0), np.mean(exact, axis=0)


def check_departure(cut: str, seeds: range, record_property: Record) -> None:
    steps = (10, 100)
    paper, exact = distances(cut, seeds, steps)
    for name, values in (("paper", paper), ("exact", exact)):
        print(cut, name, dict(zip(steps, values.round(4).tolist(), strict=True)))
        record_property(f"{cut} {name}", values.tolist())
    assert paper[0] > 0.35
    assert paper[1] > 0.45
    assert exact[1] < 0.1
    assert paper[1] > 5 * exact[1]


@pytest.mark.slow
def test_paper_mode_ends_far_from_the_power_distribution(record_property: Record) -> None:
    check_departure("entropy", range(24, 26), record_property)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("cut", "models"), [("entropy", range(24)), ("entropy", range(24, 48)), ("uniform", range(8))])
def test_on_many_models_paper_mode_ends_far_from_the_power_distribution(
    cut: str, models: range, record_property: Record
) -> None:
    check_departure(cut, models, record_property)


def check_law(chains: int) -> None:
    params = PowerParams(4, 2.0, 4.0, 2, 3, None, mode="paper")
    engine = random_engine(8, 4)
    law = Law(released(engine, params, "entropy")).answers([3])[0]
    assert math.isclose(sum(law.values()), 1.0)
    names = sorted(law)
    counts = np.zeros(len(names))

    async def all_chains() -> None:
        for seed in range(chains):
            chain, _ = paper_chain(engine, params, "entropy", seed, [])
            counts[names.index((await chain.run()).trace.ids)] += 1

    asyncio.run(all_chains())
    assert chi_square_p(counts, np.array([law[name] for name in names])) > 1e-6
    space = Space(Case(engine, params), 4)
    target = [space.target[space.index[name]] if name in space.index else 0.0 for name in names]
    assert total_variation(np.array(target), np.array([law[name] for name in names])) > 0.1


@pytest.mark.slow
def test_the_real_chain_has_the_law_of_the_released_code() -> None:
    check_law(400)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_real_chain_has_the_law_of_the_released_code_over_5000_chains() -> None:
    check_law(5000)
