"""Linear maximisation oracles: the direction that a norm's method takes from a momentum buffer.

For a norm with dual norm ‖·‖*, LMO(M) maximises ⟨M, D⟩ over the unit ball, so ⟨M, LMO(M)⟩ = ‖M‖*. The update is
W ← W − lr · LMO(M); the spectral norm gives Muon. LMO(0) = 0. Standard; Pethick et al. (Scion) have the family.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
RANK_TOLERANCE = 1e-12
"""Singular values at or below this share of the largest count as zero."""


class Lmo(Protocol):
    """A direction from a buffer, and the most ‖LMO(M)‖_F² that any m×n buffer can give."""

    def __call__(self, buffer: Matrix) -> Matrix:
        """LMO(M), of M's shape."""
        ...

    def most_squares(self, shape: tuple[int, int]) -> int:
        """ρ: the largest ‖LMO(M)‖_F² over all M of this shape."""
        ...


@dataclass(frozen=True)
class NormLmo:
    """An LMO by its formula and its ρ."""

    direction: Callable[[Matrix], Matrix]
    rho: Callable[[int, int], int]

    def __call__(self, buffer: Matrix) -> Matrix:
        """LMO(M), of M's shape."""
        return self.direction(buffer)

    def most_squares(self, shape: tuple[int, int]) -> int:
        """ρ: the largest ‖LMO(M)‖_F² over all M of this shape."""
        return self.rho(*shape)


def polar_factor(buffer: Matrix) -> Matrix:
    """U_r V_rᵀ of the reduced SVD: Muon's direction, exactly."""
    left, singular, right = np.linalg.svd(buffer, full_matrices=False)
    keep = singular > RANK_TOLERANCE * singular[0]
    return left[:, keep] @ right[keep]


def newton_schulz(buffer: Matrix, coefficients: Sequence[float], steps: int) -> Matrix:
    """An approximation of the polar factor, as optimisers compute it: X ← aX + (bA + cA²)X with A = XXᵀ.

    Starts from X = M/‖M‖_F, transposed if tall. With the usual (3.4445, −4.775, 2.0315) and 5 steps it does not
    converge: singular values end anywhere in about [0.7, 1.2].
    """
    norm = np.linalg.norm(buffer)
    if norm == 0:
        return np.zeros_like(buffer)
    a, b, c = coefficients
    tall = buffer.shape[0] > buffer.shape[1]
    x = (buffer.T if tall else buffer) / norm
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def _scaled(buffer: Matrix, axis: int) -> Matrix:
    lengths = np.linalg.norm(buffer, axis=axis, keepdims=True)
    return np.divide(buffer, lengths, out=np.zeros_like(buffer), where=lengths > 0)


def _frobenius(buffer: Matrix) -> Matrix:
    norm = np.linalg.norm(buffer)
    return buffer / norm if norm > 0 else np.zeros_like(buffer)


LMOS: dict[str, NormLmo] = {
    "spectral": NormLmo(polar_factor, lambda rows, columns: min(rows, columns)),
    "sign": NormLmo(np.sign, lambda rows, columns: rows * columns),
    "column": NormLmo(lambda buffer: _scaled(buffer, 0), lambda rows, columns: columns),
    "row": NormLmo(lambda buffer: _scaled(buffer, 1), lambda rows, columns: rows),
    "frobenius": NormLmo(_frobenius, lambda rows, columns: 1),
}
"""By the name in a request."""


def newton_schulz_lmo(coefficients: Sequence[float], steps: int) -> NormLmo:
    """The spectral LMO as a library approximates it."""
    return NormLmo(lambda buffer: newton_schulz(buffer, coefficients, steps), LMOS["spectral"].rho)
