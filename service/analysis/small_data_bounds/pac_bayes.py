"""PAC-Bayes bounds on the risk of a randomised predictor, and the curve that none of them can go under.

For a posterior Q with empirical risk q and KL = KL(Q;P) in nats, the prior P fixed before the n examples are seen.
The generic theorem (Germain et al. 2009): for a convex Δ chosen before the data, with probability ≥ 1 − δ for all Q at
once, Δ(q, p) ≤ (KL + ln(I_Δ(n)/δ))/n. The formulas' proofs are two lines each and stand in docs/analysis.
"""

import math
from typing import Any

import numpy as np
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from service.analysis.small_data_bounds.tails import kl_inverse

BETA_RANGE = (1e-3, 50.0)


def log_xi(n: int) -> float:
    """ln ξ(n), ξ(n) = Σ_j C(n,j)(j/n)^j(1−j/n)^(n−j): the exact moment term of Δ = kl; √n ≤ ξ(n) ≤ 2√n for n ≥ 8."""
    j = np.arange(n + 1)
    terms = np.asarray(stats.binom.logpmf(j, n, j / n))
    return float(np.asarray(logsumexp(terms)))


def pac_bayes_kl_upper(q: float, divergence: float, n: int, delta: float, log_moment: float | None = None) -> float:
    """Seeger, Langford and Maurer's bound, with ln ξ(n) exact unless another moment term is given."""
    moment = log_xi(n) if log_moment is None else log_moment
    return kl_inverse(q, (divergence + moment + math.log(1 / delta)) / n)


def catoni_upper(q: float, divergence: float, n: int, delta: float, beta: float) -> float:
    """Catoni's bound, whose moment term is exactly 1; a certificate only if β was fixed before the data."""
    exponent = -beta * q - (divergence + math.log(1 / delta)) / n
    return min(1.0, math.expm1(exponent) / math.expm1(-beta))


def optimistic_upper(q: float, divergence: float, n: int, delta: float) -> float:
    """PAC-Bayes-kl without its moment term: no convex Δ gives less, and nobody has proved it a bound."""
    return kl_inverse(q, (divergence + math.log(1 / delta)) / n)


def best_beta(q: float, divergence: float, n: int, delta: float) -> float:
    """The β that makes Catoni's bound smallest on this one data set; using it there certifies nothing."""

    def bound(log_beta: float) -> float:
        beta = math.exp(log_beta)
        exponent = -beta * q - (divergence + math.log(1 / delta)) / n
        return math.expm1(exponent) / math.expm1(-beta)

    low, high = (math.log(end) for end in BETA_RANGE)
    found: Any = minimize_scalar(bound, bounds=(low, high), method="bounded", options={"xatol": 1e-9})
    return math.exp(float(found.x))


def divergence_of(posterior: np.ndarray, prior: np.ndarray) -> float:
    """KL(Q;P) in nats over a finite set, both of shape (M,); infinite where Q has mass and P has none."""
    kept = posterior > 0
    if np.any(prior[kept] == 0):
        return math.inf
    return max(0.0, float(np.sum(posterior[kept] * np.log(posterior[kept] / prior[kept]))))
