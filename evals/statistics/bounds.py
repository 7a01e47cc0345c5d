"""Bounds on an accuracy that hold at every sample size: exact binomial, Chernoff-kl, Hoeffding, best of several.

From "How Tight Can PAC-Bayes be in the Small Data Regime?" (arXiv 2106.03542): for a fixed predictor and right-or-wrong
outcomes the binomial tail inversion is the sharpest. `delta` is the chance that a bound fails, over both sides together
where both are asked for. The analysis endpoint `benchmark-bounds` computes the same; a test holds the two equal.
"""

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from scipy.special import rel_entr
from scipy.stats import beta


class Side(StrEnum):
    """Which sides of the accuracy are bounded; `two_sided` spends half of delta on each."""

    LOWER = "lower"
    UPPER = "upper"
    TWO_SIDED = "two_sided"


class Bounds(NamedTuple):
    """The accuracy lies in [lower, upper] but for the chance delta."""

    lower: float
    upper: float


def split(delta: float, side: Side) -> tuple[float, float]:
    """The chance of failure of the lower and of the upper bound; 0 means that the side is not bounded."""
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, not {delta:g}")
    each = delta / 2 if side is Side.TWO_SIDED else delta
    return (each if side is not Side.UPPER else 0.0), (each if side is not Side.LOWER else 0.0)


def binomial_tail(correct: int, total: int, delta: float = 0.05, side: Side = Side.TWO_SIDED) -> Bounds:
    """Binomial tail inversion: Clopper and Pearson's limits if both sides are asked for.

    The error rate is at most sup{p : Pr[Bin(n, p) ≤ k] ≥ δ} = BetaPPF(1 − δ; k + 1, n − k) for k errors, 1 if k = n;
    the other side is its mirror image. Holds if the outcomes are independent with one success probability.
    """
    _check_count(correct, total)
    low, high = split(delta, side)
    lower = float(beta.ppf(low, correct, total - correct + 1)) if low and correct else 0.0
    upper = float(beta.isf(high, correct + 1, total - correct)) if high and correct < total else 1.0
    return Bounds(lower, upper)


def binomial_tail_fixed(correct: int, total: int, delta: float = 0.05, side: Side = Side.TWO_SIDED) -> Bounds:
    """Binomial tail for the mean of *unequal* success probabilities: these exact problems, equally many draws of each.

    Hoeffding (1956): the tail of a sum of independent unequal trials is below the binomial's if the count is at least
    one away from its mean. The floor (k + 1) / n on the error rate makes that so; it matters only next to 0 and n.
    """
    tail = binomial_tail(correct, total, delta, side)
    low, high = split(delta, side)
    lower = min(tail.lower, max(0.0, (correct - 1) / total)) if low else 0.0
    upper = max(tail.upper, min(1.0, (correct + 1) / total)) if high else 1.0
    return Bounds(lower, upper)


def chernoff_kl(mean: float, total: int, delta: float = 0.05, side: Side = Side.TWO_SIDED) -> Bounds:
    """Chernoff's bound kl(mean, p) ≤ log(1/δ) / n, for independent scores in [0, 1] such as solve rates."""
    if not 0 <= mean <= 1 or total < 1:
        raise ValueError("the mean must lie in [0, 1] and the total be at least 1")
    low, high = split(delta, side)
    lower = 1 - kl_inverse(1 - mean, -math.log(low) / total) if low else 0.0
    upper = kl_inverse(mean, -math.log(high) / total) if high else 1.0
    return Bounds(lower, upper)


def kl_inverse(q: float, budget: float) -> float:
    """sup{p ≥ q : kl(q, p) ≤ budget} by bisection; the upper end of the bracket, so that rounding is conservative."""
    low, high = q, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if binary_kl(q, middle) <= budget:
            low = middle
        else:
            high = middle
    return high


def binary_kl(q: float, p: float) -> float:
    """Relative entropy in nats of Bernoulli(q) to Bernoulli(p); 0 log 0 = 0."""
    return float(rel_entr(q, p) + rel_entr(1 - q, 1 - p))


def hoeffding_means(
    means: Sequence[float], counts: Sequence[int], delta: float = 0.05, side: Side = Side.TWO_SIDED
) -> Bounds:
    """Hoeffding's bound on the mean over N problems of their solve probabilities, from s_i draws of problem i.

    Half-width √(½ log(1/δ) Σ 1/(N² s_i)). For these exact problems with unequally many draws, where pooling the
    counts would estimate another mean.
    """
    if len(means) != len(counts) or not means or min(counts) < 1:
        raise ValueError("each problem needs a mean and at least one draw")
    low, high = split(delta, side)
    centre = float(np.mean(means))
    spread = sum(1 / (len(means) ** 2 * count) for count in counts)
    lower = max(0.0, centre - math.sqrt(-math.log(low) * spread / 2)) if low else 0.0
    upper = min(1.0, centre + math.sqrt(-math.log(high) * spread / 2)) if high else 1.0
    return Bounds(lower, upper)


def union_delta(delta: float, tried: int, prior_weight: float | None = None) -> float:
    """δ·π_i for the configuration chosen among several, π_i = 1 / tried by default.

    With it a bound holds for all the configurations at once, so also for the one that looked best (Occam's bound). All
    that were tried on these problems count, also those that nobody reports.
    """
    if tried < 1:
        raise ValueError("at least one configuration was tried")
    weight = 1 / tried if prior_weight is None else prior_weight
    if not 0 < weight <= 1:
        raise ValueError("a prior weight lies in (0, 1]")
    return delta * weight


def _check_count(correct: int, total: int) -> None:
    if total < 1 or not 0 <= correct <= total:
        raise ValueError(f"{correct} of {total} is no count of right answers")
