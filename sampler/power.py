"""The acceptance law of exact Entropy-Cut Metropolis–Hastings. The formula stands here and nowhere else.

Target π(x) ∝ p(x)^α over responses x_0..x_{n−1} (arXiv 2605.30327; derivation and proof by enumeration
in docs/method.md). A step cuts at m ~ c(·|x) = w_m / Z(x), keeps x_<m and draws x'_{≥m} from
q = p^α / exp ℓ token by token. Metropolis–Hastings accepts with probability min(1, r),

    log r = α·[log p(x'_≥m) − log p(x_≥m)] + log q(x_≥m) − log q(x'_≥m) + log c(m|x') − log c(m|x).

With q at temperature 1/α over the same support, α·log p_t − log q_t = ℓ_t, whatever the token. ℓ_m and w_m
depend on x_<m alone, so they are common to x and x' and cancel. Hence, exactly,

    log r = Σ_{m<t<n'} ℓ_t(x') − Σ_{m<t<n} ℓ_t(x) + log Z(x) − log Z(x').

Both suffixes are whole: they run to the token that ended the trace, or to the stage's horizon.

Early rejection. For α ≥ 1 every ℓ_t ≤ 0, and Z only grows. So with rows up to t of x' known,

    bound_t = Σ_{m<i≤t} ℓ_i(x') − Σ_{m<i<n} ℓ_i(x) + log Z(x) − log Z_t(x')

can only fall as t grows, and log r is the last bound_t, by the same float64 additions. With u drawn first,
a proposal is lost as soon as bound_t < log u: the same chain bit for bit, for fewer tokens. Rounding is
monotone, so the computed bound falls too. For α < 1 the bound does not hold and must not be used.
"""

import math
from typing import NamedTuple

import numpy as np

from sampler.trace import Trace


class Bound(NamedTuple):
    """The running bound of a proposal; its value after the last token is log r (nats)."""

    current_log_z: float
    """Σ_{m<i<n} ℓ_i(x) of the current trace."""
    current_log_norm: float
    """log Z(x) of the current trace."""
    log_z: float
    """Σ_{m<i≤t} ℓ_i(x') of the proposal so far."""
    log_norm: float
    """log Z_t(x') of the proposal so far."""

    @property
    def power_term(self) -> float:
        """The ℓ sums' part of bound_t."""
        return self.log_z - self.current_log_z

    @property
    def cut_term(self) -> float:
        """The cut law's part of bound_t."""
        return self.current_log_norm - self.log_norm

    @property
    def value(self) -> float:
        """bound_t. Exactly 0 for a proposal equal to the current trace."""
        return self.power_term + self.cut_term


def start_bound(trace: Trace, cut: int) -> Bound:
    """bound_m: row m is known to both, so no ℓ has been counted and Z_m(x') = Z_m(x)."""
    suffix = np.cumsum(trace.log_z[cut + 1 :])  # in the order of `advance_bound`, so that equal traces give 0
    total = float(suffix[-1]) if len(suffix) else 0.0
    return Bound(total, trace.total_log_norm, 0.0, float(trace.log_norm[cut]))


def advance_bound(bound: Bound, log_z: float, log_norm: float) -> Bound:
    """bound_t from bound_{t−1} and row t > m of the proposal: ℓ_t and log Z_t."""
    return bound._replace(log_z=bound.log_z + log_z, log_norm=log_norm)


def is_lost(bound: Bound, log_u: float) -> bool:
    """Whether a proposal can no longer be accepted (α ≥ 1). NaN is not lost early; `accepts` refuses it."""
    return bound.value < log_u


def accepts(log_ratio: float, log_u: float) -> bool:
    """Metropolis–Hastings with log u of u ∈ (0, 1]: accept iff log u ≤ log r. NaN and −inf reject."""
    return log_u <= log_ratio


def log_uniform(u: float) -> float:
    """log u of a uniform in (0, 1]."""
    return math.log(u)
