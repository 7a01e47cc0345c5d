"""Broken samplers: each function patches one fault into the sampler's own modules."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from sampler import chain, cuts, drawing, power, watch
from sampler.chain import Chain
from sampler.cuts.entropy import EntropyCut
from sampler.engine import Support
from sampler.errors import EngineError
from sampler.power import Bound
from sampler.rng import DrawKey, Draws, Kind
from sampler.stops import StopMatcher
from sampler.trace import End, Token, Trace
from sampler.watch import Lost, Watcher

Patch = pytest.MonkeyPatch
Mutant = Callable[[Patch], None]
MODULES: tuple[ModuleType, ...] = (chain, cuts, drawing, power, watch)


def everywhere(patch: Patch, name: str, value: object) -> None:
    """Replace a function in every module that imported it."""
    for module in MODULES:
        if hasattr(module, name):
            patch.setattr(module, name, value)


def value_of(formula: Callable[[float, float], float]) -> Mutant:
    """A bound that puts its ℓ difference and its Z difference together in another way."""

    def mutate(patch: Patch) -> None:
        def value(self: Bound) -> float:
            return formula(self.log_z - self.current_log_z, self.current_log_norm - self.log_norm)

        patch.setattr(Bound, "value", property(value))

    return mutate


ell_sign = value_of(lambda ell, norm: -ell + norm)
z_inverted = value_of(lambda ell, norm: ell - norm)
z_dropped = value_of(lambda ell, norm: ell)


def start_with(patch: Patch, suffix_sum: Callable[[Trace, int], float]) -> None:
    """Another Σ ℓ of the current trace."""

    def start_bound(trace: Trace, cut: int) -> Bound:
        return Bound(suffix_sum(trace, cut), trace.total_log_norm, 0.0, float(trace.log_norm[cut]))

    everywhere(patch, "start_bound", start_bound)


def after_take(patch: Patch, then: Callable[[Any], None]) -> None:
    """Do something to the watcher after each token it takes."""
    take, init = Watcher._take, Watcher.__init__

    def remember(self: Any, law: Any, trace: Trace, cut: int, *rest: Any, **named: Any) -> None:
        init(self, law, trace, cut, *rest, **named)
        self.trace, self.cut = trace, cut

    def take_then(self: Any, token: Token) -> None:
        take(self, token)
        if self.bound is not None:
            then(self)

    patch.setattr(Watcher, "__init__", remember)
    patch.setattr(Watcher, "_take", take_then)


def ell_m_counted(patch: Patch) -> None:
    start_with(patch, lambda trace, cut: float(trace.log_z[cut:].sum()))


def last_ell_dropped(patch: Patch) -> None:
    """The last row of either trace is not counted."""
    start_with(patch, lambda trace, cut: float(trace.log_z[cut + 1 : -1].sum()))

    def drop(watcher: Any) -> None:
        if watcher.end is not None and len(watcher.tokens) > 1:
            watcher.bound = watcher.bound._replace(log_z=watcher.bound.log_z - watcher.tokens[-1].log_z)

    after_take(patch, drop)


def last_ell_of_proposal_dropped(patch: Patch) -> None:
    def drop(watcher: Any) -> None:
        if watcher.end is not None and len(watcher.tokens) > 1:
            watcher.bound = watcher.bound._replace(log_z=watcher.bound.log_z - watcher.tokens[-1].log_z)

    after_take(patch, drop)


def row_beyond(engine: Any, ids: tuple[int, ...]) -> float:
    """ℓ of the row after an unfinished trace, at the α of the mutants' case."""
    return engine.row(ids, 4.0, Support()).log_z


def row_h_counted(engine: Any, *, current_too: bool) -> Mutant:
    """Row h_k of unfinished traces is counted, in the proposal or in both."""

    def mutate(patch: Patch) -> None:
        def total(trace: Trace, cut: int) -> float:
            beyond = 0.0 if trace.finished else row_beyond(engine, trace.ids)
            return float(trace.log_z[cut + 1 :].sum()) + beyond

        if current_too:
            start_with(patch, total)

        def count(watcher: Any) -> None:
            if watcher.end is End.LENGTH:
                ids = watcher.trace.ids[: watcher.cut] + tuple(token.id for token in watcher.tokens)
                watcher.bound = watcher.bound._replace(log_z=watcher.bound.log_z + row_beyond(engine, ids))

        after_take(patch, count)

    return mutate


def uphill_only(patch: Patch) -> None:
    everywhere(patch, "accepts", lambda log_ratio, log_u: log_ratio >= 0)


def always_accepts(patch: Patch) -> None:
    everywhere(patch, "accepts", lambda log_ratio, log_u: True)


def suffix_cut_to_the_shorter(patch: Patch) -> None:
    """Only as many rows are compared as the shorter suffix has: defect b of the released code."""

    def shorten(watcher: Any) -> None:
        if watcher.end is not None:
            kept = min(len(watcher.tokens), len(watcher.trace) - watcher.cut)
            current = float(watcher.trace.log_z[watcher.cut + 1 : watcher.cut + kept].sum())
            proposed = sum(token.log_z for token in watcher.tokens[1:kept])
            watcher.bound = watcher.bound._replace(current_log_z=current, log_z=proposed)

    after_take(patch, shorten)


def cut_zero_has_no_weight(patch: Patch) -> None:
    """Δ_0 := 0, the paper's text taken literally."""
    advance = EntropyCut.advance

    def without(self: EntropyCut, length: int, before: float, log_norm: float, entropy: float) -> tuple[float, float]:
        return (-math.inf, -math.inf) if length == 0 else advance(self, length, before, log_norm, entropy)

    patch.setattr(EntropyCut, "advance", without)


def cut_zero_never_drawn(patch: Patch) -> None:
    draw_cut = cuts.draw_cut
    everywhere(patch, "draw_cut", lambda log_norm, u: max(draw_cut(log_norm, u), min(1, len(log_norm) - 1)))


def cut_drawn_evenly(patch: Patch) -> None:
    everywhere(patch, "draw_cut", lambda log_norm, u: math.ceil(u * len(log_norm)) - 1)


def bound_one_row_late(patch: Patch) -> None:
    judge = Watcher._judge

    def late(self: Any, token: int) -> End | None:
        bound = self.bound
        self.bound, self.late = getattr(self, "late", bound), bound
        end = judge(self, token)
        self.bound = bound
        return end

    patch.setattr(Watcher, "_judge", late)


def bound_kept_below_alpha_one(patch: Patch) -> None:
    make = Chain._watcher

    def unguarded(self: Chain, cut: int, limit: int, bound: Bound | None = None, lost: Lost | None = None) -> Watcher:
        params, self.params = self.params, replace(self.params, alpha=max(self.params.alpha, 1.0))
        try:
            return make(self, cut, limit, bound, lost)
        finally:
            self.params = params

    patch.setattr(Chain, "_watcher", unguarded)


def stops_judged_on_new_text_only(patch: Patch) -> None:
    restart = StopMatcher.restart
    patch.setattr(StopMatcher, "restart", lambda self, kept_ids: restart(self, ()))


def keys_with(patch: Patch, change: Callable[[Draws, Kind, int, int, int], tuple[Draws, Kind, int, int, int]]) -> None:
    """Keys made from altered ingredients."""
    key = Draws.key

    def altered(self: Draws, kind: Kind, stage: int, step: int, attempt: int = 0) -> DrawKey:
        return key(*change(self, kind, stage, step, attempt))

    patch.setattr(Draws, "key", altered)


def keys_without_prompt(patch: Patch) -> None:
    keys_with(patch, lambda draws, *rest: (replace(draws, prompt_digest=b""), *rest))


def keys_without_kind(patch: Patch) -> None:
    keys_with(patch, lambda draws, kind, *rest: (draws, Kind.TOKEN, *rest))


def extension_shares_a_step(patch: Patch) -> None:
    patch.setattr(chain, "EXTEND", 0)


def proposal_no_longer_than_the_trace(patch: Patch) -> None:
    """Defect a of the released code: a proposal runs to the current length instead of the horizon."""
    draw = Chain._draw

    async def capped(self: Chain, cut: int, horizon: int, key: DrawKey, *rest: Any) -> Any:
        return await draw(self, cut, min(horizon, len(self.trace)) if rest else horizon, key, *rest)

    patch.setattr(Chain, "_draw", capped)


def finished_trace_retired(patch: Patch) -> None:
    step = Chain.step

    async def retired(self: Chain, stage: int, number: int, horizon: int) -> None:
        kept = self.trace
        await step(self, stage, number, horizon)
        if kept.finished:
            self.trace = kept

    patch.setattr(Chain, "step", retired)


def failure_counted_as_rejection(patch: Patch) -> None:
    draw = Chain._draw

    async def once(
        self: Chain, cut: int, horizon: int, key: DrawKey, bound: Bound | None = None, lost: Lost | None = None
    ) -> Any:
        if bound is None:
            return await draw(self, cut, horizon, key)
        watcher = self._watcher(cut, horizon - cut, bound, lost)
        try:
            rows = await self._ask(cut, horizon - cut, key, watcher)
        except EngineError:
            watcher.end = End.REJECTED
            rows = None
        return drawing.Drawn(watcher, rows, None)

    patch.setattr(Chain, "_draw", once)


def failure_redrawn_with_a_new_key(patch: Patch) -> None:
    ask, asked = Chain._ask, dict[bytes, int]()

    async def fresh(self: Chain, cut: int, allowed: int, key: DrawKey, watcher: Watcher) -> Any:
        place = key.digest + self.engine.__class__.__name__.encode()
        asked[place] = asked.get(place, 0) + 1
        if asked[place] > 1:
            key = DrawKey(hashlib.blake2b(place + bytes([asked[place]]), digest_size=32).digest())
        return await ask(self, cut, allowed, key, watcher)

    patch.setattr(Chain, "_ask", fresh)
