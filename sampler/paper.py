"""Paper mode: the chain of the released code of arXiv 2605.30327, its departures from Metropolis–Hastings included.

For comparison with published tables only: p^α is *not* the limit of this chain (docs/method.md has the distance). It
does otherwise than `chain` and `power`, as the code does and its predecessor's (arXiv 2510.14901) did:

a. A proposal is at most as long as what it replaces, so that a trace never grows inside a stage.
b. Where the proposal is shorter, the current suffix is compared over as many tokens only.
c. The first redrawn token is no end-of-sequence id. log q of that token is renormalised without them, and is kept so if
   the proposal is accepted; every other log q is not.
d. With uniform cuts there is no term for the number of positions. (Where no position has weight, any is cut, c = 1/n.)
e. A stage extends a trace by the stage's own tokens, not to its horizon; a trace that has ended after a stage is final.

log p, log q and H are over the `top_k` likeliest tokens. The ratio has its three terms, summed from the cut on: with
(b) and (c) they do not cancel. *Not* reproduced: a stop string ends a trace as in exact mode, no token is added.

Early rejection and the memo tree are off: (b) leaves no bound, and published costs count every token. Prefetch is as in
exact mode, since it changes no token.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from sampler.chain import Chain, ChainTask, Proposed
from sampler.cuts import draw_cut
from sampler.cuts.uniform import UniformCut
from sampler.drawing import splice
from sampler.engine import Engine, Priority, Request
from sampler.errors import InvalidParams
from sampler.events import Event
from sampler.power import Bound, accepts, log_uniform
from sampler.rng import DrawKey, Kind
from sampler.trace import End, Trace
from sampler.watch import Lost, Watcher

OFF = ("early_rejection", "memo_tree")
"""Savings that paper mode has not."""


def refuse_savings(given: Mapping[str, str]) -> None:
    """Raise `InvalidParams` for a saving that paper mode has not; `given` maps fields set to true to their names."""
    for field in OFF:
        if field in given:
            raise InvalidParams(given[field], f"{given[field]}: mode paper has none, as the released code")


class PaperChain(Chain):
    """One chain of the released code."""

    def __init__(self, engine: Engine, task: ChainTask, emit: Callable[[Event], None] | None = None) -> None:
        super().__init__(engine, replace(task, tree=None), emit)
        self._has_cut_term = not isinstance(task.law, UniformCut)

    async def extend(self, stage: int, horizon: int) -> None:
        """Draw an unfinished trace on by the stage's tokens."""
        before = self.params.horizons[stage - 1] if stage else 0
        await super().extend(stage, len(self.trace) + horizon - before)

    def _retired(self, stage: int) -> bool:
        return stage > 0 and self.trace.finished

    def _stuck(self) -> bool:
        return False

    async def _propose(self, stage: int, step: int, horizon: int, *ahead: Priority) -> Proposed:
        draws, trace = self.task.draws, self.trace
        cut = any_cut(trace, draws.key(Kind.CUT, stage, step).uniform())
        log_u = log_uniform(draws.key(Kind.ACCEPT, stage, step).uniform())
        drawn = await self._draw(cut, len(trace), draws.key(Kind.TOKEN, stage, step), None, None, *ahead)
        if drawn.spent:
            return Proposed(cut, log_u, drawn, None, False, False)
        proposal = splice(trace, cut, drawn)
        suffix, position = suffix_terms(trace, proposal, cut, self.params.alpha), 0.0
        if self._has_cut_term:
            position = log_cut(proposal, cut, trace) - log_cut(trace, cut, trace)
        log_ratio = suffix + position
        non_finite = math.isnan(log_ratio) or log_ratio == -math.inf
        return Proposed(cut, log_u, drawn, log_ratio, accepts(log_ratio, log_u), non_finite, (suffix, position))

    def _request(
        self, kept: tuple[int, ...], allowed: int, key: DrawKey, watcher: Watcher, priority: Priority
    ) -> Request:
        request = super()._request(kept, allowed, key, watcher, priority)
        return replace(request, bars_end=len(kept) < len(self.trace))

    def _watcher(self, cut: int, limit: int, bound: Bound | None = None, lost: Lost | None = None) -> Watcher:
        """A watcher of what comes after the kept tokens, without the common row: its log q is not common here."""
        whole = self.trace
        self.trace = whole.spliced(cut, (), (), (), End.LENGTH)
        try:
            return super()._watcher(cut, limit)
        finally:
            self.trace = whole


def any_cut(trace: Trace, u: float) -> int:
    """The position that u ∈ (0, 1] picks by the cut law, or evenly where no position has weight."""
    if trace.total_log_norm == -math.inf:
        return math.ceil(u * len(trace)) - 1
    return draw_cut(trace.log_norm, u)


def suffix_terms(trace: Trace, proposal: Trace, cut: int, alpha: float) -> float:
    """The power term and the proposal term of log r in nats, over as many tokens as the proposal has after the cut."""
    end = len(proposal)
    log_p, new_log_p = trace.log_p[cut:end], proposal.log_p[cut:]
    log_q, new_log_q = alpha * log_p - trace.log_z[cut:end], alpha * new_log_p - proposal.log_z[cut:]
    power_term = alpha * (float(new_log_p.sum()) - float(log_p.sum()))
    return power_term + float(log_q.sum()) - float(new_log_q.sum())


def log_cut(trace: Trace, cut: int, current: Trace) -> float:
    """log c(cut|trace) in nats. Row `cut` is common, so its weight is the current trace's for both."""
    if trace.total_log_norm == -math.inf:
        return -math.log(len(trace))
    return float(current.log_weight[cut]) - trace.total_log_norm
