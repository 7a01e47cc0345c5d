"""Why Muon stays above a floor on f(W) = c |W₁₁ + W₂₂| + |W₁₁ − W₂₂|: certificates, derived here, not the paper's.

Write the buffer as m⁺ I + m⁻ diag(1, −1). Where |m⁻| > |m⁺|, its polar factor is ±diag(1, −1), so the trace of W does
not move and f(W) ≥ c |tr W₀|. |m⁺_t| ≤ c (1 − β^{t+1}) always; each certificate bounds |m⁻_t| from below. The sign,
column and row LMOs of a diagonal buffer are the same matrix; the Frobenius one is not, and has no floor.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rates = NDArray[np.floating]
NARROWEST = 1e-10
"""An interval of starts narrower than this share of the largest rate is not told from none by float64."""
SCANNED = 200


class Floor(NamedTuple):
    """f(W_t) ≥ `value` for all t < `horizon`, or for ever if it is None."""

    kind: str
    value: float
    c: float
    horizon: int | None


def alternating_start(rates: Rates) -> float | None:
    """u₀ = |W₁₁ − W₂₂|/2 of a start from which the difference changes its sign at every step, or None.

    u_{t+1} = α_t − u_t must stay in (0, α_{t+1}); the interval of u_t that allows this is followed back from the end.
    """
    low, high = 0.0, float(rates[-1])
    for rate in rates[-2::-1].tolist():
        low, high = max(0.0, rate - high), min(rate, rate - low)
        if low >= high:
            return None
    return (low + high) / 2 if high - low > NARROWEST * float(rates.max()) else None


def widest_ratio(starts: Rates, trace: float, rates: Rates, momentum: float, *, nesterov: bool) -> Rates:
    """μ of each start: the least |m⁻_t|/(1 − β^{t+1}) on the way, so that every c < μ keeps the trace.

    Args:
        starts: W₁₁ − W₂₂ at the start, one a lane.
        trace: W₁₁ + W₂₂ at the start.
        rates: Learning rates.
        momentum: β.
        nesterov: The direction is taken from (1−β) G + β M instead of M.
    """
    first, second = (trace + starts) / 2, (trace - starts) / 2
    buffer, narrowest = np.zeros_like(starts), np.full_like(starts, np.inf)
    weight = 1.0
    for rate in rates.tolist():
        slope = np.where(first - second >= 0, 1.0, -1.0)
        buffer = momentum * buffer + (1 - momentum) * slope
        used = (1 - momentum) * slope + momentum * buffer if nesterov else buffer
        weight *= momentum
        narrowest = np.minimum(narrowest, np.abs(used) / (1 - (momentum * weight if nesterov else weight)))
        step = rate * np.sign(used)
        first, second = first - step, second + step
    return narrowest


def scanned_start(trace: float, rates: Rates, momentum: float, *, nesterov: bool) -> tuple[float, float]:
    """The start W₁₁ − W₂₂ of the largest μ among 200, and μ: for every finite schedule and every β."""
    starts = np.geomspace(1e-3, 4, SCANNED) * float(rates.max())
    ratios = widest_ratio(starts, trace, rates, momentum, nesterov=nesterov)
    best = int(np.argmax(ratios))
    return float(starts[best]), float(ratios[best])


def any_schedule_limit(momentum: float, *, nesterov: bool) -> float:
    """Every c below this keeps the trace whatever the schedule and the start: 1 − 2β, or 1 − 2β² with Nesterov."""
    return 1 - 2 * (momentum**2 if nesterov else momentum)


def alternating_limit(momentum: float) -> float:
    """Every c below this keeps the trace on an alternating path: (1−β)/(1+β)."""
    return (1 - momentum) / (1 + momentum)


def schedule_free(c: float, trace: float, momentum: float, *, nesterov: bool) -> Floor | None:
    """The certificates that hold for every schedule, adaptive ones included, and every start whose trace is not 0."""
    if trace == 0:
        return None
    if momentum == 0:
        return Floor("no_momentum", c * abs(trace), c, None) if c < 1 else None
    if c < any_schedule_limit(momentum, nesterov=nesterov):
        return Floor("any_schedule", c * abs(trace), c, None)
    return None


def of_start(
    c: float, start: tuple[float, float], rates: Rates | None, momentum: float, *, nesterov: bool
) -> Floor | None:
    """A certificate for a diagonal start that the caller chose: schedule-free, or by following m⁻ to the horizon."""
    trace = start[0] + start[1]
    found = schedule_free(c, trace, momentum, nesterov=nesterov)
    if found is not None or rates is None or trace == 0:
        return found
    ratio = widest_ratio(np.array([start[0] - start[1]]), trace, rates, momentum, nesterov=nesterov)[0]
    return Floor("finite_horizon", c * abs(trace), c, len(rates)) if c < ratio else None


def adversarial(
    c: float | None, trace: float, rates: Rates | None, momentum: float, *, nesterov: bool
) -> tuple[Floor | None, tuple[float, float], float]:
    """A diagonal start that is bad for this schedule, its certificate, and the c that goes with it.

    Args:
        c: None for (1−β)/(2(1+β)), or half of μ where only a scan finds a start.
        trace: τ > 0.
        rates: None for an adaptive schedule, which only the schedule-free certificates cover.
        momentum: β.
        nesterov: As in `widest_ratio`.
    """
    chosen = alternating_limit(momentum) / 2 if c is None else c
    free = schedule_free(chosen, trace, momentum, nesterov=nesterov)
    if rates is None:
        return free, (0.6 * trace, 0.4 * trace), chosen
    half = alternating_start(rates)
    if half is not None:
        floor = free or Floor("alternating", chosen * trace, chosen, len(rates))
        return floor, (trace / 2 + half, trace / 2 - half), chosen
    difference, ratio = scanned_start(trace, rates, momentum, nesterov=nesterov)
    start = ((trace + difference) / 2, (trace - difference) / 2)
    if free is not None:
        return free, start, chosen
    chosen = ratio / 2 if c is None else c
    floor = Floor("finite_horizon", chosen * trace, chosen, len(rates)) if 0 < chosen < ratio else None
    return floor, start, chosen
