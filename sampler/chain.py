"""The chain: a schedule of stages, and in each the Metropolis–Hastings steps. The only loop.

Stage k has horizon h_k; its states are traces that ended by length ≤ h_k, and unfinished ones of length exactly
h_k. Between stages an unfinished trace is extended by q. A finished trace stays in play to the last stage: retiring
it would change the limit law. A proposal runs to its end or to h_k, whatever the current length.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from sampler.answer import EndedBy, PowerUsage
from sampler.cuts import draw_cut
from sampler.drawing import BudgetSpent, Drawer, Drawn, Preempted, splice
from sampler.engine import Engine, Priority
from sampler.errors import NumericalError
from sampler.events import Event, Extended, Kept, Statistics, Stepped
from sampler.power import accepts, is_lost, log_uniform, start_bound
from sampler.prefetch import Prefetch
from sampler.rng import EXTEND, DrawKey, Kind
from sampler.state import ChainResult, ChainState, ChainTask, restore, save
from sampler.trace import Token, Trace

PREFETCH_DEPTH = 4
"""Steps drawn ahead at most: beyond that an acceptance nearly always comes first."""


class Proposed(NamedTuple):
    """A step's proposal and what becomes of it. `log_ratio` is None where the step stopped before it was known."""

    cut: int
    log_u: float
    drawn: Drawn
    log_ratio: float | None
    accepted: bool
    non_finite: bool
    terms: tuple[float, float] | None = None
    """The power term and the cut term of log r; None if they are the bound's."""


def _ignore(event: Event) -> None:
    """For chains nobody watches."""


class Chain(Drawer):
    """One chain on one engine."""

    def __init__(self, engine: Engine, task: ChainTask, emit: Callable[[Event], None] | None = None) -> None:
        super().__init__(engine, task)
        self._emit: Callable[[Event], None] = emit or _ignore
        self._still = 0
        """Steps in a row that left the trace as it was."""
        # Budgets make the number of steps depend on their cost, which drawing ahead would change. And where a tree must
        # replay on an engine that draws by itself, drawing ahead would make what the tree holds a matter of timing.
        free_to = (self.params.deadline_s, self.params.max_generated_tokens) == (None, None) and not task.tree_per_stage
        self._depth = PREFETCH_DEPTH if self.params.prefetch and free_to else 0

    async def run(self, state: ChainState | None = None) -> ChainResult:
        """Run from the start, or go on from a finished stage; gives the same tokens either way."""
        horizons = self.params.horizons
        if state is not None:
            self.trace, self.usage = restore(state, self.law), PowerUsage(**state.usage)
            self._still = state.still
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
            state = save(self.trace, stage + 1, self.usage, self._still, self.task.head)
            if self.task.checkpoint is not None:
                self.task.checkpoint(state)
        return ChainResult(self.trace, EndedBy.COMPLETED, len(horizons), self.usage, state)

    async def extend(self, stage: int, horizon: int) -> None:
        """Draw an unfinished trace on to the horizon by q. A budget spent on the way keeps what is there."""
        before = len(self.trace)
        spent = await self.draw_on(horizon, self.task.draws.key(Kind.TOKEN, stage, EXTEND))
        if spent and len(self.trace) == before:
            raise BudgetSpent(spent)
        if len(self.trace) > before:
            self._still = 0
        self._emit(
            Extended(
                self.task.draws.chain,
                stage + 1,
                len(self.params.horizons),
                self.trace.ids,
                self.trace.finished,
                self.usage.generated_tokens,
                self._statistics(before),
            )
        )
        if spent:
            raise BudgetSpent(spent)

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
                self._still = self._still + 1 if self.trace.ids == before else 0
                if self._is_frozen(horizon):
                    raise BudgetSpent(EndedBy.FROZEN)
        finally:
            await ahead.aclose()

    async def step(self, stage: int, step: int, horizon: int, ready: Proposed | None = None) -> None:
        """One Metropolis–Hastings step on the whole response so far, its proposal perhaps drawn ahead."""
        if self._stuck():
            self._keep(stage, step)
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

    def _is_frozen(self, horizon: int) -> bool:
        """Whether to stop because the trace has not moved for long. Never with a prefix: its end is still to come."""
        limit = self.params.stop_when_frozen
        whole = self.trace.finished or horizon == self.params.max_tokens
        return limit is not None and whole and self._still >= limit

    def _keep(self, stage: int, step: int) -> None:
        """A step with nothing to redraw."""
        self.usage = self.usage.plus(steps=1)
        stages, log_p = len(self.params.horizons), float(self.trace.log_p.sum())
        place = (self.task.draws.chain, stage + 1, stages, step + 1)
        self._emit(Kept(*place, log_p, len(self.trace), self.usage.generated_tokens))

    async def _propose(self, stage: int, step: int, horizon: int, *ahead: Priority) -> Proposed:
        """The kernel of a step: draw a proposal, and decide on it. Depends on the trace and the step's keys alone."""
        draws = self.task.draws
        cut = draw_cut(self.trace.log_norm, draws.key(Kind.CUT, stage, step).uniform())
        log_u = log_uniform(draws.key(Kind.ACCEPT, stage, step).uniform())
        bound = start_bound(self.trace, cut)
        drawn = await self._draw(
            cut, horizon, draws.key(Kind.TOKEN, stage, step), bound, partial(is_lost, log_u=log_u), *ahead
        )
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
        cut, log_u, drawn, log_ratio, accepted, non_finite, terms = proposed
        watcher, before = drawn.watcher, self.trace
        if terms is None and watcher.bound is not None:
            terms = watcher.bound.power_term, watcher.bound.cut_term
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
                *(terms or (None, None)),
                statistics_of(watcher.tokens) if self.task.tell_statistics else None,
            )
        )

    def _statistics(self, start: int) -> Statistics | None:
        """Of the trace's tokens from `start` on, if anybody asks for them."""
        if not self.task.tell_statistics:
            return None
        return Statistics(self.trace.log_p[start:], self.trace.log_z[start:], self.trace.entropy[start:])

    def _move(self, trace: Trace) -> None:
        self.trace = trace
        if self.task.tree is not None:
            self.task.tree.pin(self.task.draws.chain, trace.ids)


def statistics_of(tokens: Sequence[Token]) -> Statistics:
    """The statistics of a proposal's tokens."""
    columns = np.array([(token.log_p, token.log_z, token.entropy) for token in tokens], dtype=np.float64)
    return Statistics(*columns.reshape(-1, 3).T)
