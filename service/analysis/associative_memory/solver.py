"""Whether some W recalls all facts: a W that does, or weights that prove that none does.

L-BFGS on F(W) = ½ Σ h², h = (1 − gap)₊. Stops feasible as soon as the least gap is positive (W is the proof), and
infeasible when the gradient vanishes beside h: by Gordan's theorem h ≥ 0, h ≠ 0 with Σ h_{μk}(y_own − y_k)x_μᵀ = 0
leaves no W. In float64 that sum is only nearly 0; its size is reported.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from service.analysis.associative_memory.instances import Facts, Matrix

Status = Literal["feasible", "infeasible", "undecided"]
MEMORY = 30
RESTARTS = 3


@dataclass
class Solution:
    """Where the search ended.

    Attributes:
        status: Feasible and infeasible carry proofs; undecided does not.
        weights: The last W, d_out × d_in.
        residual: ‖Σ h (y_own − y_k) xᵀ‖_∞/Σh of an infeasibility proof; None without one.
    """

    status: Status
    weights: Matrix
    residual: float | None = None


class _Decided(Exception):
    """The search may stop."""

    def __init__(self, solution: Solution) -> None:
        super().__init__(solution.status)
        self.solution = solution


def hebbian(facts: Facts) -> Matrix:
    """Σ_μ y_own x_μᵀ, d_out × d_in."""
    return facts.own.T @ facts.inputs


def scaled(weights: Matrix) -> Matrix:
    """With mean square entry 1."""
    norm = np.linalg.norm(weights)
    return weights * (math.sqrt(weights.size) / norm) if norm > 0 else weights


def hinge(facts: Facts, weights: Matrix) -> tuple[float, Matrix, float, float]:
    """F(W), its gradient, the least gap, and Σh."""
    gaps = facts.gaps(facts.inputs @ weights.T)
    short = np.maximum(1.0 - gaps, 0.0)
    gradient = facts.pull(short).T @ facts.inputs
    return float(np.sum(short * short) / 2), gradient, float(gaps.min()), float(short.sum())


def _lbfgs(
    value: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]],
    start: NDArray[np.float64],
    iterations: int,
) -> NDArray[np.float64]:
    options: dict[str, Any] = {"maxcor": MEMORY, "maxiter": iterations, "maxfun": 3 * iterations, "ftol": 0, "gtol": 0}
    found: Any = minimize(value, start, jac=True, method="L-BFGS-B", options=options)
    return found.x


def find(facts: Facts, iterations: int, tolerance: float) -> Solution:
    """Decide whether some W of full rank recalls every fact.

    Args:
        facts: p of them.
        iterations: Of L-BFGS, at most.
        tolerance: Of ‖∇F‖_∞/Σh.
    """
    start = scaled(hebbian(facts))
    shape = start.shape

    def value(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(shape)
        loss, gradient, least, total = hinge(facts, weights)
        if least > 0:
            raise _Decided(Solution("feasible", weights.copy()))
        residual = float(np.abs(gradient).max()) / total
        if residual < tolerance:
            raise _Decided(Solution("infeasible", weights.copy(), residual))
        return loss, gradient.ravel()

    try:
        last = _lbfgs(value, start.ravel(), iterations)
    except _Decided as decided:
        return decided.solution
    return Solution("undecided", last.reshape(shape))


def find_factored(facts: Facts, hidden: int, iterations: int, rng: np.random.Generator) -> Solution:
    """Search W = UV with h hidden units, from the Hebbian map cut to rank h and two perturbations of it.

    A search that fails proves nothing: the status is feasible or undecided.
    """
    left, singular, right = np.linalg.svd(scaled(hebbian(facts)), full_matrices=False)
    roots = np.sqrt(singular[:hidden])
    first, second = left[:, :hidden] * roots, roots[:, None] * right[:hidden]
    cut, last = first.size, first @ second

    def value(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        upper, lower = flat[:cut].reshape(first.shape), flat[cut:].reshape(second.shape)
        loss, gradient, least, _ = hinge(facts, upper @ lower)
        if least > 0:
            raise _Decided(Solution("feasible", upper @ lower))
        return loss, np.concatenate([(gradient @ lower.T).ravel(), (upper.T @ gradient).ravel()])

    for attempt in range(RESTARTS):
        start = np.concatenate([first.ravel(), second.ravel()])
        if attempt:
            start = start + 0.3 * start.std() * rng.standard_normal(len(start))
        try:
            found = _lbfgs(value, start, iterations)
        except _Decided as decided:
            return decided.solution
        last = found[:cut].reshape(first.shape) @ found[cut:].reshape(second.shape)
    return Solution("undecided", last)


def widen(
    facts: Facts, start: Matrix, penalties: list[float], iterations: int, report: Callable[[float], None]
) -> Matrix:
    """The W of largest margin: ½Σh² + ½λ‖W‖² for falling λ, each from the last one's end."""
    shape, weights = start.shape, start
    for number, penalty in enumerate(penalties):
        report(number / len(penalties))

        def value(flat: NDArray[np.float64], penalty: float = penalty) -> tuple[float, NDArray[np.float64]]:
            loss, gradient, _, _ = hinge(facts, flat.reshape(shape))
            return loss + penalty * float(flat @ flat) / 2, gradient.ravel() + penalty * flat

        options: dict[str, Any] = {"maxcor": MEMORY, "maxiter": iterations, "maxfun": 3 * iterations, "ftol": 1e-13}
        found: Any = minimize(value, weights.ravel(), jac=True, method="L-BFGS-B", options=options)
        weights = found.x.reshape(shape)
    return weights


def normalised_margin(facts: Facts, weights: Matrix) -> float:
    """Least gap/(‖W‖_F σ_x σ_y)."""
    least = float(facts.gaps(facts.inputs @ weights.T).min())
    return least / (float(np.linalg.norm(weights)) * float(facts.inputs.std()) * facts.target_scale)
