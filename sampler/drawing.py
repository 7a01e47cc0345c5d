"""Draws suffixes for a chain: known rows first, then the engine, within the budgets, asking again after failures.

The counterpart of the loop in `chain`: that decides what to draw, this draws it and counts what it cost.
"""

import asyncio
from typing import NamedTuple

from sampler.answer import EndedBy, PowerUsage
from sampler.engine import Engine, Priority, Request, Support, check_segment
from sampler.errors import EngineDead, EngineError
from sampler.power import Bound
from sampler.rng import DrawKey
from sampler.row import Row
from sampler.state import ChainTask
from sampler.stops import StopMatcher
from sampler.trace import End, Segment, Trace, empty_trace
from sampler.tree import walk
from sampler.watch import Lost, Watcher

RETRIES = 2
"""How often a failed engine call is asked again, with the same key."""


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


class Drawer:
    """Draws for one chain: its current trace, what it has cost, and until when it may draw."""

    def __init__(self, engine: Engine, task: ChainTask) -> None:
        self.engine, self.task, self.params, self.law = engine, task, task.params, task.law
        self.trace = empty_trace(rows=task.keep_rows)
        self.usage = PowerUsage()
        self.deadline: float | None = None
        """The loop's time at which drawing stops; the chain sets it from `deadline_s`."""

    async def _draw(
        self,
        cut: int,
        horizon: int,
        key: DrawKey,
        bound: Bound | None = None,
        lost: Lost | None = None,
        *ahead: Priority,
    ) -> Drawn:
        """Draw a suffix within the budgets.

        A failed call is asked again with the same key: drawing anew, or counting the failure as a rejection, would
        change the law.
        """
        limit = horizon - cut
        for attempt in range(RETRIES + 1):
            watcher = self._watcher(cut, limit, bound, lost)
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
            check_segment(segment, request, self.engine.info)
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

    def _watcher(self, cut: int, limit: int, bound: Bound | None = None, lost: Lost | None = None) -> Watcher:
        early = bound is not None and self.params.early_rejection and self.params.alpha >= 1.0
        return Watcher(
            self.law,
            self.trace,
            cut,
            limit,
            self.engine.info.eos_ids,
            StopMatcher(self.params.stop, self.engine.tokenizer),
            bound,
            lost if early else None,
        )

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
