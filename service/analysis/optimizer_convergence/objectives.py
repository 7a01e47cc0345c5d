"""Convex Lipschitz functions of a matrix, by value and subgradient."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from service.analysis.optimizer_convergence.norms import Matrix

Vector = NDArray[np.float64]


class Unbounded(ValueError):
    """The function has no minimum."""


class Objective(Protocol):
    """f with its Frobenius-Lipschitz constant and a point to compare with.

    Attributes:
        lipschitz: L with |f(V) − f(W)| ≤ L ‖V − W‖_F.
        optimum: f at `minimiser`.
    """

    lipschitz: float
    optimum: float

    def evaluate(self, weights: Matrix) -> tuple[float, Matrix]:
        """f(W) and one subgradient."""
        ...

    def minimiser(self, start: Matrix) -> Matrix:
        """A minimiser, near `start` if there are several."""
        ...


class DiagonalAbs:
    """f(W) = c |W₁₁ + W₂₂| + |W₁₁ − W₂₂| on 2×2 matrices: the counterexample of the paper's authors.

    f* = 0 at W₁₁ = W₂₂ = 0; entries off the diagonal do not matter and never move. At ties the oracle answers with
    slope +1, a valid subgradient; the certificates without momentum need a slope of ±1 for |W₁₁ − W₂₂|.
    """

    def __init__(self, c: float) -> None:
        self.c = c
        self.lipschitz = float(np.sqrt(2 * (1 + c * c)))
        self.optimum = 0.0

    def evaluate(self, weights: Matrix) -> tuple[float, Matrix]:
        """f(W) and one subgradient."""
        total, difference = weights[0, 0] + weights[1, 1], weights[0, 0] - weights[1, 1]
        plus, minus = self.c if total >= 0 else -self.c, 1.0 if difference >= 0 else -1.0
        return float(self.c * abs(total) + abs(difference)), np.diag([plus + minus, plus - minus])

    def minimiser(self, start: Matrix) -> Matrix:
        """The nearest: the start without its diagonal."""
        return start - np.diag(np.diag(start))


class L1Regression:
    """f(W) = mean over i of |⟨A_i, W⟩ − b_i|.

    Args:
        inputs: A, N × m × n.
        targets: b, N.
    """

    def __init__(self, inputs: NDArray[np.float64], targets: Vector) -> None:
        self.shape = inputs.shape[1:]
        self.inputs, self.targets = inputs.reshape(len(inputs), -1), targets
        self.lipschitz = float(np.linalg.norm(self.inputs, 2) / np.sqrt(len(inputs)))
        self._best = self._solve()
        self.optimum = self.evaluate(self._best)[0]

    def evaluate(self, weights: Matrix) -> tuple[float, Matrix]:
        """f(W) and one subgradient."""
        residuals = self.inputs @ weights.ravel() - self.targets
        slope = np.sign(residuals) @ self.inputs / len(self.targets)
        return float(np.abs(residuals).mean()), slope.reshape(self.shape)

    def minimiser(self, start: Matrix) -> Matrix:
        """The one that the linear programme, or least squares where all residuals vanish, gave."""
        return self._best

    def _solve(self) -> Matrix:
        exact = np.linalg.lstsq(self.inputs, self.targets, rcond=None)[0]
        scale = np.abs(self.targets).max() + np.abs(self.inputs).max()
        if np.abs(self.inputs @ exact - self.targets).max() <= 1e-12 * scale:
            return np.asarray(exact, dtype=np.float64).reshape(self.shape)
        count, size = self.inputs.shape
        above = np.hstack([self.inputs, -np.eye(count)])
        below = np.hstack([-self.inputs, -np.eye(count)])
        costs = np.concatenate([np.zeros(size), np.full(count, 1 / count)])
        limits = np.concatenate([self.targets, -self.targets])
        bounds = [(None, None)] * size + [(0, None)] * count
        found: Any = linprog(costs, np.vstack([above, below]), limits, bounds=bounds, method="highs")
        return np.asarray(found.x[:size]).reshape(self.shape)


class MaxAffine:
    """f(W) = max over i of ⟨A_i, W⟩ + b_i.

    Args:
        slopes: A, N × m × n.
        offsets: b, N.

    Raises:
        Unbounded: 0 is not a convex combination of the slopes.
    """

    def __init__(self, slopes: NDArray[np.float64], offsets: Vector) -> None:
        self.shape = slopes.shape[1:]
        self.slopes, self.offsets = slopes.reshape(len(slopes), -1), offsets
        self.lipschitz = float(np.linalg.norm(self.slopes, axis=1).max())
        self._best = self._solve()
        self.optimum = self.evaluate(self._best)[0]

    def evaluate(self, weights: Matrix) -> tuple[float, Matrix]:
        """f(W) and one subgradient: the slope of the first largest piece."""
        pieces = self.slopes @ weights.ravel() + self.offsets
        highest = int(np.argmax(pieces))
        return float(pieces[highest]), self.slopes[highest].reshape(self.shape)

    def minimiser(self, start: Matrix) -> Matrix:
        """The one that the linear programme gave."""
        return self._best

    def _solve(self) -> Matrix:
        count, size = self.slopes.shape
        costs = np.append(np.zeros(size), 1.0)
        rows = np.hstack([self.slopes, -np.ones((count, 1))])
        found: Any = linprog(costs, rows, -self.offsets, bounds=[(None, None)] * (size + 1), method="highs")
        if found.status != 0:
            raise Unbounded
        return np.asarray(found.x[:size]).reshape(self.shape)
