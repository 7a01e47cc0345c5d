"""Tokens that a request draws, as expected and at worst, by method.

Answers end at a constant rate per token, chosen so that their mean length is the one given: of an answer, h tokens are
reached in the mean E[min(h, X)], with X exponential. A step at a stage with horizon h redraws a share `remaining` of
the trace. With early rejection an accepted proposal is drawn whole and a rejected one in part; of all tokens that
are left the memo tree knows a share, which is free. With everything at its worst these are the counts that admission
reserves (`METHODS[...].worst_case_tokens`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from sampler.methods import METHODS, best_of_n
from sampler.methods.tmc import reach
from sampler.params import PlainParams, PowerParams

Params = PowerParams | PlainParams
GRID = 4097
"""Points of the sum for the longest of several answers."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a model's chains behave, as `/metrics` tells of a running server, `lost_after` apart. Shares are of 1.

    `answer_tokens` is the mean length of an answer, of at most max_tokens; `acceptance` accepted ÷ steps; `remaining`
    the mean share of the trace behind the cut (1 − mean of `powercut:cut_position`), None: that of uniform cuts;
    `lost_after` the tokens until a proposal that will be rejected is lost; `free_share` free ÷ (free + drawn).
    """

    answer_tokens: float
    acceptance: float
    remaining: float | None
    lost_after: float
    free_share: float


WORST = Behaviour(math.inf, 1.0, 1.0, math.inf, 0.0)
"""No answer ends, every cut falls at 0, nothing is rejected early or known."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one answer, or several side by side, costs: tokens unless it says otherwise, means over answers."""

    drawn: float
    """Tokens that the engine draws."""
    free: float
    """Tokens that the memo tree knows."""
    calls: float
    """Proposals, draws and rollouts begun: each looks for its prefix in the engine's cache."""
    depth: float
    """Tokens drawn one after another: what a lone answer waits for."""
    position: float
    """Place in the answer, in the mean over the tokens drawn."""
    worst: float
    """What admission reserves."""

    def times(self, answers: float) -> "Cost":
        """Of so many answers side by side."""
        drawn, free, calls, worst = (each * answers for each in (self.drawn, self.free, self.calls, self.worst))
        return replace(self, drawn=drawn, free=free, calls=calls, worst=worst)

    @property
    def width(self) -> float:
        """Rows that run at once, in the mean."""
        return max(1.0, self.drawn / self.depth) if self.depth else 1.0


class Lengths:
    """Answers that end at a constant rate, of so many tokens in the mean, and of at most `longest`."""

    def __init__(self, longest: int, mean: float) -> None:
        self.longest, self.rate = longest, ending_rate(longest, mean)

    def reached(self, horizon: float) -> float:
        """Mean tokens of an answer up to a horizon."""
        return horizon if self.rate == 0.0 else -math.expm1(-self.rate * horizon) / self.rate

    def going(self, horizon: float) -> float:
        """Share of answers that have not ended by a horizon."""
        return math.exp(-self.rate * horizon)

    def longest_of(self, count: float) -> float:
        """Mean length of the longest of so many answers."""
        places = np.linspace(0.0, self.longest, GRID)
        return float(np.trapezoid(1.0 - (-np.expm1(-self.rate * places)) ** count, places))


def ending_rate(longest: int, mean: float) -> float:
    """The rate per token at which E[min(longest, X)] is `mean`; 0 where none ends before."""
    if mean >= longest * (1 - 1e-9):
        return 0.0
    from scipy.optimize import brentq  # here, so that the commands that plan nothing start without it

    return cast(float, brentq(lambda rate: -math.expm1(-rate * longest) / rate - mean, 1e-12, 2.0 / mean))


def answer_cost(method: str, params: Params, behaviour: Behaviour) -> Cost:
    """What one answer of a method costs. A token budget cuts all of it off in one proportion."""
    lengths = Lengths(params.max_tokens, behaviour.answer_tokens)
    worst = METHODS[method].worst_case_tokens(params)
    if isinstance(params, PlainParams):
        return _side_by_side(1, lengths, 0.0, worst)
    free_share = behaviour.free_share if params.memo_tree and params.mode == "exact" else 0.0
    count = COUNTS.get(method)
    if method == "tmc":
        found = _tmc(params, lengths, free_share, worst)
    elif count is not None:
        found = _side_by_side(count(params, lengths.reached(params.max_tokens)), lengths, free_share, worst)
    else:
        found = _chain(params, behaviour, lengths, free_share, worst, params.tries if method == "multiple_try" else 1)
    return within(found, worst)


def within(cost: Cost, budget: int) -> Cost:
    """A cost cut off where a budget of tokens ends. The mean place in the answer is left: it would be earlier."""
    share = min(1.0, budget / cost.drawn) if cost.drawn else 1.0
    drawn = min(cost.drawn, budget)
    return replace(cost, drawn=drawn, free=cost.free * share, calls=cost.calls * share, depth=cost.depth * share)


COUNTS: dict[str, Callable[[PowerParams, float], float]] = {
    "low_temperature": lambda params, length: 1,
    "best_of_n": lambda params, length: _samples(params, length),
    "smc": lambda params, length: params.particles,
}
"""Draws side by side of a method that makes no proposals, of answers of a mean length."""


def _samples(params: PowerParams, length: float) -> float:
    if params.samples is None and params.max_generated_tokens is not None:
        return min(best_of_n.CAP, math.ceil(params.max_generated_tokens / length))
    return params.samples or best_of_n.SAMPLES


def _side_by_side(count: float, lengths: Lengths, free_share: float, worst: int) -> Cost:
    """So many draws from the first token to the last horizon."""
    length = lengths.reached(lengths.longest)
    proposed = count * length
    depth = lengths.longest_of(count)
    return Cost(proposed * (1 - free_share), proposed * free_share, count, depth, length / 2, worst)


def _tmc(params: PowerParams, lengths: Lengths, free_share: float, worst: int) -> Cost:
    """Candidates for each block of answers that go on, and rollouts of each candidate that goes on."""
    proposed = calls = depth = places = 0.0
    for before, horizon in zip((0, *params.horizons), params.horizons, strict=False):
        begun, block, future = lengths.going(before), horizon - before, reach(params, horizon) - horizon
        going = lengths.going(horizon)
        blocks = params.candidates * begun * lengths.reached(block)
        rolled = params.candidates * params.rollouts * going * lengths.reached(future)
        proposed, calls = proposed + blocks + rolled, calls + params.candidates * (begun + params.rollouts * going)
        depth += begun * block + going * future
        places += blocks * (before + block / 2) + rolled * (horizon + future / 2)
    drawn, free = proposed * (1 - free_share), proposed * free_share
    return Cost(drawn, free, calls, depth, places / proposed, worst)


def _chain(
    params: PowerParams, behaviour: Behaviour, lengths: Lengths, free_share: float, worst: int, tries: int
) -> Cost:
    """Extensions up to the last horizon, and the proposals of every stage's steps."""
    stops = params.early_rejection and params.mode == "exact" and params.alpha >= 1
    extended, steps = lengths.reached(params.max_tokens), params.steps_per_block
    proposed, places = 0.0, extended * extended / 2
    for horizon in params.horizons:
        length = lengths.reached(horizon)
        share = (length + 1) / (2 * length) if behaviour.remaining is None else behaviour.remaining
        kept = kept_share(behaviour, share * length, tries) if stops else 1.0
        redrawn = steps * tries * share * length * kept
        proposed, places = proposed + redrawn, places + redrawn * length * (1 - share + share * kept / 2)
    calls = sum(map(lengths.going, (0, *params.horizons[:-1]))) + params.planned_steps * tries
    drawn, free = (extended + proposed) * (1 - free_share), (extended + proposed) * free_share
    depth = (extended + proposed / tries) * (1 - free_share)
    return Cost(drawn, free, calls, depth, places / (extended + proposed), worst)


def kept_share(behaviour: Behaviour, length: float, tries: int = 1) -> float:
    """Share that early rejection leaves of proposals of a length: at most one try of a step is accepted, and whole."""
    after = behaviour.lost_after
    lost = 1.0 if math.isinf(after) else 0.0 if after == 0.0 else -math.expm1(-length / after) * after / length
    return (behaviour.acceptance + (tries - behaviour.acceptance) * lost) / tries
