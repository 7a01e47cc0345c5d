"""The chain: a schedule of stages, and in each the Metropolis–Hastings steps. The only loop.

Stage k has horizon h_k; its states are traces that ended by length ≤ h_k, and unfinished ones of length exactly
h_k. Between stages an unfinished trace is extended by q. A finished trace stays in play to the last stage: retiring
it would change the limit law. A proposal runs to its end or to h_k, whatever the current length.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

from sampler.answer import EndedBy, PowerUsage
from sampler.cuts import CutLaw, CutState, advance, draw_cut
from sampler.engine import Engine, Priority, Request, Support
from sampler.errors import EngineDead, EngineError, NumericalError
from sampler.events import Event, Extended, Stepped
from sampler.params import PowerParams
from sampler.power import Bound, accepts, log_uniform, start_bound
from sampler.rng import EXTEND, DrawKey, Draws, Kind
from sampler.row import Row
from sampler.stops import StopMatcher
from sampler.trace import End, Token, Trace, empty_trace
from sampler.watch import Watcher

RETRIES = 2
"""How often a failed engine call is asked again, with the same key."""


@dataclass(frozen=True, slots=True)
class ChainState:
    """A chain after `stage` finished stages, as plain data: everything needed to go on, in JSON's types.

    The cut law's values are not stored: they follow from `entropy`, bit for bit.
    """

    stage: int
    ids: list[int]
    log_p: list[float]
    log_z: list[float]
    entropy: list[float]
    log_mass: list[float]
    end: str
    usage: dict[str, int]


@dataclass(frozen=True, slots=True)
class ChainTask:
    """What a chain samples, and with which randomness."""

    prompt_ids: tuple[int, ...]
    params: PowerParams
    law: CutLaw
    draws: Draws
    affinity: str = ""
    priority: Priority = Priority.INTERACTIVE
    keep_rows: bool = False
    head: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class ChainResult:
    """Where the chain stopped. `state` is its last finished stage, None before the first."""

    trace: Trace
    ended_by: EndedBy
    stage: int
    usage: PowerUsage
    state: ChainState | None


class _BudgetSpent(Exception):
    def __init__(self, ended_by: EndedBy) -> None:
        self.ended_by = ended_by


class _Drawn(NamedTuple):
    watcher: Watcher
    rows: tuple[Row, ...] | None
    spent: EndedBy | None


def _ignore(event: Event) -> None:
    """For chains nobody watches."""


class Chain:
    """One chain on one engine."""

    def __init__(self, engine: Engine, task: ChainTask, emit: Callable[[Event], None] | None = None) -> None:
        self.engine, self.task, self.params, self.law = engine, task, task.params, task.law
        self.trace = empty_trace(rows=task.keep_rows)
        self.usage = PowerUsage()
        self._emit: Callable[[Event], None] = emit or _ignore
        self._deadline: float | None = None

    async def run(self, state: ChainState | None = None) -> ChainResult:
        """Run from the start, or go on from a finished stage; gives the same tokens either way."""
        horizons = self.params.horizons
        if state is not None:
            self.trace, self.usage = restore(state, self.law), PowerUsage(**state.usage)
        if self.params.deadline_s is not None:
            self._deadline = asyncio.get_running_loop().time() + self.params.deadline_s
        for stage in range(state.stage if state else 0, len(horizons)):
            try:
                await self.extend(stage, horizons[stage])
                for step in range(self.params.steps_per_block):
                    await self.step(stage, step, horizons[stage])
            except _BudgetSpent as spent:
                return ChainResult(self.trace, spent.ended_by, stage + 1, self.usage, state)
            state = save(self.trace, stage + 1, self.usage)
        return ChainResult(self.trace, EndedBy.COMPLETED, len(horizons), self.usage, state)

    async def extend(self, stage: int, horizon: int) -> None:
        """Draw an unfinished trace on to the horizon by q. A budget spent on the way keeps what is there."""
        cut = len(self.trace)
        if not self.trace.finished and cut < horizon:
            drawn = await self._draw(cut, horizon, self.task.draws.key(Kind.TOKEN, stage, EXTEND))
            if any(math.isnan(token.log_z) or math.isnan(token.entropy) for token in drawn.watcher.tokens):
                raise NumericalError("the model's logits hold NaN: no trace can start from them")
            self.trace = splice(self.trace, cut, drawn)
            if drawn.spent:
                raise _BudgetSpent(drawn.spent)
        self._emit(
            Extended(
                self.task.draws.chain,
                stage + 1,
                len(self.params.horizons),
                self.trace.ids,
                self.trace.finished,
                self.usage.generated_tokens,
            )
        )

    async def step(self, stage: int, step: int, horizon: int) -> None:
        """One Metropolis–Hastings step on the whole response so far."""
        if self.trace.total_log_norm == -math.inf:
            self.usage = self.usage.plus(steps=1)  # Z = 0: this is the only trace there is, nothing to redraw
            return
        draws = self.task.draws
        cut = draw_cut(self.trace.log_norm, draws.key(Kind.CUT, stage, step).uniform())
        log_u = log_uniform(draws.key(Kind.ACCEPT, stage, step).uniform())
        bound = start_bound(self.trace, cut)
        drawn = await self._draw(cut, horizon, draws.key(Kind.TOKEN, stage, step), bound, log_u)
        if drawn.spent:
            raise _BudgetSpent(drawn.spent)  # the step in flight is dropped
        self._decide(stage, step, cut, log_u, drawn)

    def _decide(self, stage: int, step: int, cut: int, log_u: float, drawn: _Drawn) -> None:
        watcher = drawn.watcher
        assert watcher.bound is not None
        value = watcher.bound.value
        log_ratio = None if watcher.rejected else value
        accepted = log_ratio is not None and accepts(log_ratio, log_u)
        before = self.trace
        if accepted:
            self.trace = splice(before, cut, drawn)
        moved = self.trace.ids != before.ids
        self.usage = self.usage.plus(
            steps=1,
            accepted=accepted,
            moved=moved,
            rejected_early=watcher.rejected,
            non_finite=math.isnan(value) or value == -math.inf,
        )
        self._emit(
            Stepped(
                self.task.draws.chain,
                stage + 1,
                len(self.params.horizons),
                step + 1,
                cut,
                tuple(token.id for token in watcher.tokens),
                log_ratio,
                log_u,
                accepted,
                moved,
                watcher.rejected,
                float(self.trace.log_p.sum()),
                len(self.trace),
                self.usage.generated_tokens,
            )
        )

    async def _draw(
        self, cut: int, horizon: int, key: DrawKey, bound: Bound | None = None, log_u: float = -math.inf
    ) -> _Drawn:
        """Draw a suffix within the budgets.

        A failed call is asked again with the same key: drawing anew, or counting the failure as a rejection, would
        change the law.
        """
        limit = horizon - cut
        for attempt in range(RETRIES + 1):
            watcher = self._watcher(cut, limit, bound, log_u)
            allowed = limit
            if self.params.max_generated_tokens is not None:  # failed attempts are charged too
                allowed = min(limit, self.params.max_generated_tokens - self.usage.generated_tokens)
            if allowed < 1:
                return _Drawn(watcher, self._no_rows(), EndedBy.TOKEN_BUDGET)
            try:
                rows = await self._ask(cut, allowed, key, watcher)
            except _BudgetSpent as spent:
                return _Drawn(watcher, self._no_rows(), spent.ended_by)
            except EngineDead:
                raise
            except EngineError:
                if attempt == RETRIES:
                    raise
                continue
            return _Drawn(watcher, rows, EndedBy.TOKEN_BUDGET if watcher.end is None else None)
        raise AssertionError("unreachable")

    async def _ask(self, cut: int, allowed: int, key: DrawKey, watcher: Watcher) -> tuple[Row, ...] | None:
        task = self.task
        request = Request(
            ids=task.prompt_ids + self.trace.ids[:cut],
            max_tokens=allowed,
            alpha=self.params.alpha,
            support=Support.of(self.params.top_k),
            key=key,
            position=cut,
            eos_ids=self.engine.info.eos_ids,
            watch=watcher,
            affinity=task.affinity,
            priority=task.priority,
            keep_rows=task.keep_rows,
            head=task.head,
        )
        try:
            async with asyncio.timeout_at(self._deadline) as deadline:
                segment = await self.engine.propose(request)
        except BaseException as error:
            self.usage = self.usage.plus(generated_tokens=len(watcher.tokens))
            if isinstance(error, TimeoutError) and deadline.expired():
                raise _BudgetSpent(EndedBy.DEADLINE) from None
            if isinstance(error, TimeoutError):
                raise EngineError("the engine timed out on this call") from error
            raise
        self.usage = self.usage.plus(generated_tokens=len(segment.tokens))
        watcher(segment.tokens[len(watcher.tokens) :])
        if watcher.end is None and len(segment.tokens) < allowed:
            raise EngineError(
                f"the engine ended a segment after {len(segment.tokens)} of {allowed} tokens for no reason"
            )
        return segment.rows[: len(watcher.tokens)] if segment.rows is not None else None

    def _watcher(self, cut: int, limit: int, bound: Bound | None = None, log_u: float = -math.inf) -> Watcher:
        early = bound is not None and self.params.early_rejection and self.params.alpha >= 1.0
        return Watcher(
            self.law,
            self.trace,
            cut,
            limit,
            self.engine.info.eos_ids,
            StopMatcher(self.params.stop, self.engine.tokenizer),
            bound,
            log_u if early else None,
        )

    def _no_rows(self) -> tuple[Row, ...] | None:
        return () if self.task.keep_rows else None


def splice(trace: Trace, cut: int, drawn: _Drawn) -> Trace:
    """The trace up to `cut` followed by a watched suffix."""
    watcher, rows = drawn.watcher, drawn.rows
    kept = len(watcher.log_norm)  # the last list a watcher appends to: a cancelled engine may still be at it
    if rows is not None:
        kept = min(kept, len(rows))
    end = watcher.end if watcher.end is not None and kept == len(watcher.tokens) else End.LENGTH
    return trace.spliced(cut, watcher.tokens[:kept], watcher.log_weight[:kept], watcher.log_norm[:kept], end, rows)


def save(trace: Trace, stage: int, usage: PowerUsage) -> ChainState:
    """A finished stage as plain data."""
    return ChainState(
        stage,
        list(trace.ids),
        trace.log_p.tolist(),
        trace.log_z.tolist(),
        trace.entropy.tolist(),
        trace.log_mass.tolist(),
        str(trace.end),
        asdict(usage),
    )


def restore(state: ChainState, law: CutLaw) -> Trace:
    """The trace of a saved stage, its cut-law values recomputed."""
    tokens = [
        Token(*values)
        for values in zip(state.ids, state.log_p, state.log_z, state.entropy, state.log_mass, strict=True)
    ]
    cuts: list[CutState] = []
    for token in tokens:
        cuts.append(advance(law, cuts[-1] if cuts else CutState(), token.entropy))
    weights, norms = [cut.log_weight for cut in cuts], [cut.log_norm for cut in cuts]
    return empty_trace().spliced(0, tokens, weights, norms, End(state.end))
