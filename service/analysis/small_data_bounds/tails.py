"""Test-set bounds: upper limits on the risk of a predictor that does not depend on the N examples.

A lower limit on accuracy is one minus the upper limit on risk. All take the failure probability `delta`; N examples
are i.i.d. with losses in [0, 1]. `wald_upper`, `wilson_upper` and `cluster_t_upper` are estimates: they are here to
stand beside the bounds, and do not cover.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats
from scipy.special import rel_entr


def kl(q: float, p: float) -> float:
    """Divergence of Bernoulli laws in nats, with 0 ln 0 = 0; infinite where p is 0 or 1 and q is not."""
    return float(rel_entr(q, p) + rel_entr(1.0 - q, 1.0 - p))


def kl_inverse(q: float, c: float) -> float:
    """The largest p ≥ q with kl(q, p) ≤ c, by bisection; the bracket's upper end, so that rounding is conservative.

    Args:
        q: In [0, 1].
        c: In nats, ≥ 0.
    """
    low, high = q, 1.0
    while True:
        middle = (low + high) / 2
        if not low < middle < high:
            return high
        if kl(q, middle) <= c:
            low = middle
        else:
            high = middle


def binomial_tail_upper(errors: int, n: int, delta: float) -> float:
    """sup{p : P[Bin(n, p) ≤ errors] ≥ delta}: the one-sided Clopper–Pearson limit, the sharpest for 0/1 losses."""
    return 1.0 if errors >= n else float(stats.beta.isf(delta, errors + 1, n - errors))


def pooled_binomial_upper(errors: int, n: int, delta: float) -> float:
    """The same for independent trials of unequal error probabilities, on their mean.

    Hoeffding (1956): a Poisson-binomial lower tail lies below the binomial one of equal mean, if errors ≤ n·p − 1.
    The floor (errors + 1)/n makes that hold; without it n − 1 errors under-cover by a hair.
    """
    return max(binomial_tail_upper(errors, n, delta), min(1.0, (errors + 1) / n))


def chernoff_upper(q: float, n: int, delta: float) -> float:
    """Chernoff's bound in its kl form, for any losses in [0, 1] of mean q; the laws may differ from one to another."""
    return kl_inverse(q, math.log(1 / delta) / n)


def hoeffding_upper(q: float, n: int, delta: float) -> float:
    """Hoeffding's bound, for any losses in [0, 1] of mean q."""
    return min(1.0, q + math.sqrt(math.log(1 / delta) / (2 * n)))


def hoeffding_unequal_upper(q: float, samples: Sequence[int], delta: float) -> float:
    """Hoeffding's bound on the mean over problems of per-problem means of `samples[i]` independent trials each."""
    weight = sum(1 / s for s in samples) / len(samples) ** 2
    return min(1.0, q + math.sqrt(math.log(1 / delta) * weight / 2))


def wald_upper(q: float, n: int, delta: float) -> float:
    """Mean plus normal quantile times standard error: under-covers badly at small n and near 0 and 1."""
    return min(1.0, q + float(stats.norm.isf(delta)) * math.sqrt(q * (1 - q) / n))


def wilson_upper(q: float, n: int, delta: float) -> float:
    """Wilson's score limit: better than Wald's, and still no bound."""
    z = float(stats.norm.isf(delta))
    centre = q + z * z / (2 * n)
    spread = z * math.sqrt(q * (1 - q) / n + z * z / (4 * n * n))
    return min(1.0, (centre + spread) / (1 + z * z / n))


def cluster_t_upper(losses: np.ndarray, delta: float) -> float:
    """Student's t over per-problem mean losses, shape (N ≥ 2,): an estimate that respects the clustering."""
    n = len(losses)
    error = float(np.std(losses, ddof=1)) / math.sqrt(n)
    return min(1.0, float(np.mean(losses)) + float(stats.t.isf(delta, n - 1)) * error)


def sign_test(wins: int, losses: int) -> float:
    """One-sided p-value of at least so many wins among the problems that differ, if either were as likely."""
    if wins + losses == 0:
        return 1.0
    return float(stats.binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue)
