"""The two loops: momentum with a norm's direction, and the same with error feedback.

Without: M ← βM + (1−β)G; W ← W − α·LMO(M), or of (1−β)G + βM with Nesterov. With error feedback (the authors' code):
P ← γM + E; C(P) = (⟨P, LMO(P)⟩/‖LMO(P)‖_F²)·LMO(P), the projection of P on its direction; W ← W − C(P);
E ← P − C(P).
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from service.analysis.optimizer_convergence.norms import Lmo, Matrix
from service.analysis.optimizer_convergence.objectives import DiagonalAbs, Objective

Losses = NDArray[np.float64]
Rates = NDArray[np.floating]
Report = Callable[[float], None]
REPORT_EVERY = 4096


class Run(NamedTuple):
    """One run of T steps.

    Attributes:
        losses: f(W_0) … f(W_T).
        last: W_T.
        largest_error: The largest ‖E_t‖_F; None without error feedback.
        least_delta: The least δ_P = ‖P‖*²/(‖LMO(P)‖_F² ‖P‖_F²); None without.
    """

    losses: Losses
    last: Matrix
    largest_error: float | None = None
    least_delta: float | None = None


class StepRule(Protocol):
    """The learning rate of step t, given f(W_t), a subgradient G and its direction."""

    def __call__(self, step: int, loss: float, gradient: Matrix) -> float:
        """α_t."""
        ...


def listed(rates: Rates) -> StepRule:
    """Rates known beforehand."""
    values = rates.tolist()
    return lambda step, loss, gradient: values[step]


def polyak(lmo: Lmo, optimum: float) -> StepRule:
    """(f(W) − f*)/‖G‖*."""

    def rate(step: int, loss: float, gradient: Matrix) -> float:
        dual = float(np.sum(gradient * lmo(gradient)))
        return (loss - optimum) / dual if dual > 0 else 0.0

    return rate


def descend(
    objective: Objective,
    lmo: Lmo,
    start: Matrix,
    rule: StepRule,
    steps: int,
    momentum: float,
    *,
    nesterov: bool = False,
    report: Report = lambda fraction: None,
) -> Run:
    """Momentum with the norm's direction."""
    weights, buffer = start.copy(), np.zeros_like(start)
    losses = np.empty(steps + 1)
    for step in range(steps):
        if step % REPORT_EVERY == 0:
            report(step / steps)
        losses[step], gradient = objective.evaluate(weights)
        buffer = momentum * buffer + (1 - momentum) * gradient
        used = (1 - momentum) * gradient + momentum * buffer if nesterov else buffer
        weights = weights - rule(step, losses[step], gradient) * lmo(used)
    losses[steps] = objective.evaluate(weights)[0]
    return Run(losses, weights)


def compress(lmo: Lmo, wanted: Matrix) -> tuple[Matrix, float]:
    """C(P) and δ_P; (0, 1) for P = 0."""
    direction = lmo(wanted)
    squares, size = float(np.sum(direction * direction)), float(np.sum(wanted * wanted))
    if squares == 0 or size == 0:
        return np.zeros_like(wanted), 1.0
    dual = float(np.sum(wanted * direction))
    return dual / squares * direction, dual * dual / (squares * size)


def descend_with_feedback(
    objective: Objective,
    lmo: Lmo,
    start: Matrix,
    gammas: Rates,
    momentum: float,
    report: Report = lambda fraction: None,
) -> Run:
    """The same with error feedback: what a step could not take is added to the next one."""
    steps = len(gammas)
    weights, buffer, error = start.copy(), np.zeros_like(start), np.zeros_like(start)
    losses, largest, least = np.empty(steps + 1), 0.0, 1.0
    for step, gamma in enumerate(gammas.tolist()):
        if step % REPORT_EVERY == 0:
            report(step / steps)
        losses[step], gradient = objective.evaluate(weights)
        buffer = momentum * buffer + (1 - momentum) * gradient
        wanted = gamma * buffer + error
        taken, delta = compress(lmo, wanted)
        weights, error = weights - taken, wanted - taken
        largest, least = max(largest, float(np.linalg.norm(error))), min(least, delta)
    losses[steps] = objective.evaluate(weights)[0]
    return Run(losses, weights, largest, least)


def _sign(number: float) -> float:
    return (number > 0.0) - (number < 0.0)


def diagonal_directions(first: float, second: float, tolerance: float) -> tuple[float, float]:
    """The exact polar factor of diag(first, second): signs, 0 for a value that counts as no singular value."""
    edge = tolerance * max(abs(first), abs(second))
    return (_sign(first) if abs(first) > edge else 0.0), (_sign(second) if abs(second) > edge else 0.0)


def descend_diagonal(
    objective: DiagonalAbs, start: Matrix, rates: Rates, momentum: float, tolerance: float, *, nesterov: bool = False
) -> Run:
    """`descend` on the diagonal objective in plain numbers, about thirty times faster: its buffers are diagonal.

    Args:
        objective: Whose c is used.
        start: 2×2; entries off the diagonal stay.
        rates: Learning rates.
        momentum: β.
        tolerance: Of the rank, for the spectral norm; 0 for sign, column and row, which are then the same.
        nesterov: As in `descend`.
    """
    c, w1, w2 = objective.c, float(start[0, 0]), float(start[1, 1])
    m1 = m2 = 0.0
    keep, losses = 1 - momentum, [0.0] * (len(rates) + 1)
    for step, rate in enumerate(rates.tolist()):
        total, difference = w1 + w2, w1 - w2
        losses[step] = c * abs(total) + abs(difference)
        plus, minus = c if total >= 0 else -c, 1.0 if difference >= 0 else -1.0
        g1, g2 = plus + minus, plus - minus
        m1, m2 = momentum * m1 + keep * g1, momentum * m2 + keep * g2
        n1, n2 = (keep * g1 + momentum * m1, keep * g2 + momentum * m2) if nesterov else (m1, m2)
        d1, d2 = diagonal_directions(n1, n2, tolerance)
        w1, w2 = w1 - rate * d1, w2 - rate * d2
    losses[-1] = c * abs(w1 + w2) + abs(w1 - w2)
    last = start.copy()
    last[0, 0], last[1, 1] = w1, w2
    return Run(np.array(losses), last)


def feed_back_diagonal(objective: DiagonalAbs, start: Matrix, gammas: Rates, momentum: float, tolerance: float) -> Run:
    """`descend_with_feedback` on the diagonal objective in plain numbers, for the norms of `descend_diagonal`."""
    c, w1, w2 = objective.c, float(start[0, 0]), float(start[1, 1])
    m1 = m2 = e1 = e2 = 0.0
    largest, least = 0.0, 1.0
    keep, losses = 1 - momentum, [0.0] * (len(gammas) + 1)
    for step, gamma in enumerate(gammas.tolist()):
        total, difference = w1 + w2, w1 - w2
        losses[step] = c * abs(total) + abs(difference)
        plus, minus = c if total >= 0 else -c, 1.0 if difference >= 0 else -1.0
        m1, m2 = momentum * m1 + keep * (plus + minus), momentum * m2 + keep * (plus - minus)
        p1, p2 = gamma * m1 + e1, gamma * m2 + e2
        d1, d2 = diagonal_directions(p1, p2, tolerance)
        squares, dual, size = abs(d1) + abs(d2), p1 * d1 + p2 * d2, p1 * p1 + p2 * p2
        if squares > 0 and size > 0:
            least = min(least, dual * dual / (squares * size))
            t1, t2 = dual / squares * d1, dual / squares * d2
        else:
            t1 = t2 = 0.0
        w1, w2, e1, e2 = w1 - t1, w2 - t2, p1 - t1, p2 - t2
        largest = max(largest, e1 * e1 + e2 * e2)
    losses[-1] = c * abs(w1 + w2) + abs(w1 - w2)
    last = start.copy()
    last[0, 0], last[1, 1] = w1, w2
    return Run(np.array(losses), last, largest**0.5, least)
