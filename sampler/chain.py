"""The chain: a schedule of stages, and in each the Metropolis–Hastings steps. The only loop.

Stage k has horizon h_k; its states are traces that ended by length ≤ h_k, and unfinished ones of length exactly
h_k. Between stages an unfinished trace is extended by q. A finished trace stays in play to the last stage: retiring
it would change the limit law. A proposal runs to its end or to h_k, whatever the current length.
"""

import asyncio
import math
from collections.abc import Callable
from typing import NamedTuple

from sampler.answer import EndedBy, PowerUsage
from sampler.cuts import draw_cut
from sampler.engine import Engine, Priority, Request, Support
from sampler.errors import EngineDead, EngineError, NumericalError
from sampler.events import Event, Extended, Stepped
from sampler.power import Bound, accepts, log_uniform, start_bound
from sampler.prefetch import Prefetch
from sampler.rng import EXTEND, DrawKey, Kind
from sampler.row import Row
from sampler.state import ChainResult, ChainState, ChainTask, restore, save
from sampler.stops import StopMatcher
from sampler.trace import End, Segment, Trace, empty_trace
from sampler.tree import walk
from sampler.watch import Watcher

RETRIES = 2
"""How often a failed engine call is asked again, with the same key."""
PREFETCH_DEPTH = 4
"""Steps drawn ahead at most: beyond that an acceptance nearly always comes first."""


class BudgetSpent(Exception):
    """A clock or a token budget stopped the chain."""

    def __init__(self, ended_by: EndedBy) -> None:
        self.ended_by = ended_by


class Preempted(Exception):
    """The engine gave a row that drew ahead to somebody else."""


class Drawn(NamedTuple):
    """A watched suffix, its rows if they are kept, and the budget that stopped it if one did."""

    watcher: Watcher
    rows: tuple[Row, ...] | None
    spent: EndedBy | None


class Proposed(NamedTuple):
    """A step's proposal and what becomes of it. `log_ratio` is None where the step stopped before it was known."""

    cut: int
    log_u: float
    drawn: Drawn
    log_ratio: float | None
    accepted: bool
    non_finite: bool


def _ignore(event: Event) -> None:
    """For chains nobody watches."""


class Chain:
    """One chain on one engine."""

    def __init__(self, engine: Engine, task: ChainTask, emit: Callable[[Event], None] | None = None) -> None:
        self.engine, self.task, self.params, self.law = engine, task, task.params, task.law
        self.trace = empty_trace(rows=task.keep_rows)
        self.usage = PowerUsage()
        self._emit: Callable[[Event], None] = emit or _ignore
        self.deadline: float | None = None
        """The loop's time at which drawing stops; `run` sets it from `deadline_s`."""
        # Budgets make the number of steps depend on their cost, which drawing ahead would change. And where a tree must
        # replay on an engine that draws by itself, drawing ahead would make what the tree holds a matter of timing.
        free_to = (self.params.deadline_s, self.params.max_generated_tokens) == (None, None) and not task.tree_per_stage
        self._depth = PREFETCH_DEPTH if self.params.prefetch and free_to else 0

    async def run(self, state: ChainState | None = None) -> ChainResult:
        """Run from the start, or go on from a finished stage; gives the same tokens either way."""
        horizons = self.params.horizons
        if state is not None:
            self.trace, self.usage = restore(state, self.law), PowerUsage(**state.usage)
        if self.params.deadline_s is not None:
            self.deadline = asyncio.get_running_loop().time() + self.params.deadline_s
        for stage in range(state.stage if state else 0, len(horizons)):
            if self._retired(stage):
                return ChainResult(self.trace, EndedBy.COMPLETED, stage, self.usage, state)
            try:
                if self.task.tree is not None and self.task.tree_per_stage:
                    self.task.tree.clear()
                await self.extend(stage, horizons[stage])
                await self._steps(stage, horizons[stage])
            except BudgetSpent as spent:
                return ChainResult(self.trace, spent.ended_by, stage + 1, self.usage, state)
            state = save(self.trace, stage + 1, self.usage)
        return ChainResult(self.trace, EndedBy.COMPLETED, len(horizons), self.usage, state)

    async def extend(self, stage: int, horizon: int) -> None:
        """Draw an unfinished trace on to the horizon by q. A budget spent on the way keeps what is there."""
        if spent := await self.draw_on(horizon, self.task.draws.key(Kind.TOKEN, stage, EXTEND)):
            raise BudgetSpent(spent)
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

    async def draw_on(self, horizon: int, key: DrawKey) -> EndedBy | None:
        """Draw an unfinished trace on to the horizon by q; which budget was spent on the way, if one was."""
        cut = len(self.trace)
        if self.trace.finished or cut >= horizon:
            return None
        drawn = await self._draw(cut, horizon, key)
        if any(math.isnan(token.log_z) or math.isnan(token.entropy) for token in drawn.watcher.tokens):
            raise NumericalError("the model's logits hold NaN: no trace can start from them")
        self._move(splice(self.trace, cut, drawn))
        return drawn.spent

    async def _steps(self, stage: int, horizon: int) -> None:
        """A stage's steps, drawing ahead while the engine has rows to spare."""
        steps = range(self.params.steps_per_block)
        ahead = Prefetch(
            lambda step: self._propose_ahead(stage, step, horizon), self.engine.room, self._depth, self._count_dropped
        )
        try:
            for step in steps:
                before = self.trace.ids
                if not self._stuck():
                    ahead.start(steps[step + 1 :])
                await self.step(stage, step, horizon, await ahead.take(step))
                if self.trace.ids != before:
                    ahead.drop()
        finally:
            await ahead.aclose()

    async def step(self, stage: int, step: int, horizon: int, ready: Proposed | None = None) -> None:
        """One Metropolis–Hastings step on the whole response so far, its proposal perhaps drawn ahead."""
        if self._stuck():
            self.usage = self.usage.plus(steps=1)
            return
        proposed = ready or await self._propose(stage, step, horizon)
        if proposed.drawn.spent:
            raise BudgetSpent(proposed.drawn.spent)  # the step in flight is dropped
        self._decide(stage, step, proposed)

    def _retired(self, stage: int) -> bool:
        """Whether the trace is left as it is from this stage on: never, it would change the limit law."""
        return False

    def _stuck(self) -> bool:
        """Whether no step can move the trace. Z = 0: it is the only one there is, nothing to redraw."""
        return self.trace.total_log_norm == -math.inf

    async def _propose(self, stage: int, step: int, horizon: int, *ahead: Priority) -> Proposed:
        """The kernel of a step: draw a proposal, and decide on it. Depends on the trace and the step's keys alone."""
        draws = self.task.draws
        cut = draw_cut(self.trace.log_norm, draws.key(Kind.CUT, stage, step).uniform())
        log_u = log_uniform(draws.key(Kind.ACCEPT, stage, step).uniform())
        bound = start_bound(self.trace, cut)
        drawn = await self._draw(cut, horizon, draws.key(Kind.TOKEN, stage, step), bound, log_u, *ahead)
        assert drawn.watcher.bound is not None
        value = drawn.watcher.bound.value
        log_ratio = None if drawn.watcher.rejected else value
        accepted = log_ratio is not None and accepts(log_ratio, log_u)
        return Proposed(cut, log_u, drawn, log_ratio, accepted, math.isnan(value) or value == -math.inf)

    async def _propose_ahead(self, stage: int, step: int, horizon: int) -> Proposed | None:
        try:
            return await self._propose(stage, step, horizon, Priority.PREFETCH)
        except Preempted:
            return None

    def _count_dropped(self, proposed: Proposed) -> None:
        watcher = proposed.drawn.watcher
        self.usage = self.usage.plus(prefetched_tokens=len(watcher.tokens) - watcher.free)

    def _decide(self, stage: int, step: int, proposed: Proposed) -> None:
        cut, log_u, drawn, log_ratio, accepted, non_finite = proposed
        watcher, before = drawn.watcher, self.trace
        if accepted:
            self._move(splice(before, cut, drawn))
        moved = self.trace.ids != before.ids
        self.usage = self.usage.plus(
            steps=1,
            accepted=accepted,
            moved=moved,
            rejected_early=watcher.rejected,
            non_finite=non_finite,
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
        self,
        cut: int,
        horizon: int,
        key: DrawKey,
        bound: Bound | None = None,
        log_u: float = -math.inf,
        *ahead: Priority,
    ) -> Drawn:
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
                return Drawn(watcher, self._no_rows(), EndedBy.TOKEN_BUDGET)
            try:
                rows = await self._ask(cut, allowed, key, watcher, *ahead)
            except BudgetSpent as spent:
                return Drawn(watcher, self._no_rows(), spent.ended_by)
            except EngineDead:
                raise
            except EngineError:
                if attempt == RETRIES:
                    raise
                continue
            return Drawn(watcher, rows, EndedBy.TOKEN_BUDGET if watcher.end is None else None)
        raise AssertionError("unreachable")

    async def _ask(
        self, cut: int, allowed: int, key: DrawKey, watcher: Watcher, *ahead: Priority
    ) -> tuple[Row, ...] | None:
        """Draw tokens from rows already known, then from the engine. Returns the rows of all the watcher took."""
        task, tree, kept = self.task, self.task.tree, self.trace.ids[:cut]
        rows = walk(tree, kept, key, watcher, allowed) if tree is not None else []
        watcher.free = len(rows)
        if watcher.end is None and watcher.free < allowed:
            priority = ahead[0] if ahead else task.priority
            segment = await self._call(kept, allowed - watcher.free, key, watcher, priority)
            watcher(segment.tokens[len(watcher.tokens) - watcher.free :])
            if tree is not None and segment.rows is not None:
                known = kept + tuple(token.id for token in watcher.tokens[: watcher.free])
                tree.insert(known, [token.id for token in segment.tokens], segment.rows)
            if watcher.end is None and len(segment.tokens) < allowed - watcher.free:
                if segment.end is End.CANCELLED and ahead:
                    self.usage = self.usage.plus(prefetched_tokens=len(segment.tokens))
                    raise Preempted
                raise EngineError(f"the engine ended a segment after {len(segment.tokens)} tokens for no reason")
            rows += segment.rows or ()
        else:
            await self._breathe()
        self.usage = self.usage.plus(free_tokens=watcher.free)
        return tuple(rows[: len(watcher.tokens)]) if task.keep_rows else None

    async def _breathe(self) -> None:
        """A step that costs nothing must still let others run, and see the time."""
        await asyncio.sleep(0)
        if self.deadline is not None and asyncio.get_running_loop().time() >= self.deadline:
            raise BudgetSpent(EndedBy.DEADLINE)

    async def _call(
        self, kept: tuple[int, ...], allowed: int, key: DrawKey, watcher: Watcher, priority: Priority
    ) -> Segment:
        request = self._request(kept, allowed, key, watcher, priority)
        deadline = asyncio.timeout_at(self.deadline)
        try:
            async with deadline:
                segment = await self.engine.propose(request)
        except BaseException as error:
            lost = len(watcher.tokens) - watcher.free
            dropped = lost if priority is Priority.PREFETCH and isinstance(error, asyncio.CancelledError) else 0
            self.usage = self.usage.plus(generated_tokens=lost, prefetched_tokens=dropped)
            if isinstance(error, TimeoutError) and deadline.expired():
                raise BudgetSpent(EndedBy.DEADLINE) from None
            if isinstance(error, TimeoutError):
                raise EngineError("the engine timed out on this call") from error
            raise
        self.usage = self.usage.plus(generated_tokens=len(segment.tokens))
        return segment

    def _request(
        self, kept: tuple[int, ...], allowed: int, key: DrawKey, watcher: Watcher, priority: Priority
    ) -> Request:
        task = self.task
        known = kept + tuple(token.id for token in watcher.tokens)
        return Request(
            ids=task.prompt_ids + known,
            max_tokens=allowed,
            alpha=self.params.alpha,
            support=Support.of(self.params.top_k),
            key=key,
            position=len(known),
            eos_ids=self.engine.info.eos_ids,
            watch=watcher,
            affinity=task.affinity,
            priority=priority,
            keep_rows=task.keep_rows or task.tree is not None,
            head=task.head,
        )

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

    def _move(self, trace: Trace) -> None:
        self.trace = trace
        if self.task.tree is not None:
            self.task.tree.pin(self.task.draws.chain, trace.ids)

    def _no_rows(self) -> tuple[Row, ...] | None:
        return () if self.task.keep_rows else None


def splice(trace: Trace, cut: int, drawn: Drawn) -> Trace:
    """The trace up to `cut` followed by a watched suffix."""
    watcher, rows = drawn.watcher, drawn.rows
    kept = len(watcher.log_norm)  # the last list a watcher appends to: a cancelled engine may still be at it
    if rows is not None:
        kept = min(kept, len(rows))
    end = watcher.end if watcher.end is not None and kept == len(watcher.tokens) else End.LENGTH
    return trace.spliced(cut, watcher.tokens[:kept], watcher.log_weight[:kept], watcher.log_norm[:kept], end, rows)
