"""The row-scaled spectral estimator (the paper's Algorithm 1), its gap rules, and hard imputation.

For an arm a with mask 1{D = a} and propensities p̂: X = Y·mask/p̂, Â = the best rank-ŝ approximation of X,
ŝ = max{s : σ_s − σ_{s+1} ≥ τ}. The effects are M̂ = Â(1) − Â(0), a unit's effect its row mean.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

DENSE_SIDE = 256
"""Up to this many rows or columns a full decomposition costs less than an iteration."""
KRYLOV_DEPTH, GUESSED_DEPTH, OVERSAMPLING = 12, 3, 8
IMPUTE_ROUNDS = 25


class LowRank(NamedTuple):
    """A matrix by its factors: left (n, r), values (r,) falling, right (r, m)."""

    left: np.ndarray
    values: np.ndarray
    right: np.ndarray

    def cut(self, rank: int) -> "LowRank":
        """Its best approximation of a smaller rank."""
        return LowRank(self.left[:, :rank], self.values[:rank], self.right[:rank])

    def dense(self) -> np.ndarray:
        """The matrix, (n, m)."""
        return (self.left * self.values) @ self.right

    def row_means(self) -> np.ndarray:
        """Mean of each row, (n,), without the matrix."""
        return self.left @ (self.values * self.right.mean(axis=1))

    def top_leverage(self) -> float:
        """Largest n·‖U_i‖²/r over the rows."""
        n, rank = self.left.shape
        return float((self.left**2).sum(axis=1).max() * n / rank)


def leading(matrix: np.ndarray, count: int, rng: np.random.Generator, guess: np.ndarray | None = None) -> LowRank:
    """The `count` leading singular triples of an n x m matrix, in time n·m·count for large ones.

    Block Krylov iteration (Musco and Musco 2015) with a fixed number of products, so that the values at the noise's
    edge, which lie too close together to converge, cost no more than the others. Values a twentieth above the edge are
    right to about a thousandth, those that the default rule can pick (half the edge above it) to rounding.

    Args:
        matrix: Shape (n, m).
        count: How many.
        rng: Of the starting block.
        guess: Right vectors (count, m) near the answer, which then takes fewer products.
    """
    depth = KRYLOV_DEPTH if guess is None else GUESSED_DEPTH
    width = count + OVERSAMPLING
    if min(matrix.shape) <= max(DENSE_SIDE, 2 * width * (depth + 1)):
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
        return LowRank(left, values, right).cut(count)
    start = rng.standard_normal((matrix.shape[1], width))
    if guess is not None:
        start[:, : len(guess)] = guess.T
    basis = krylov_basis(matrix, start, depth)
    inner, values, right = np.linalg.svd(basis.T @ matrix, full_matrices=False)
    return LowRank(basis @ inner[:, :count], values[:count], right[:count])


def krylov_basis(matrix: np.ndarray, start: np.ndarray, depth: int) -> np.ndarray:
    """Orthonormal columns, (n, width·(depth + 1)), of X·S, X·XᵀX·S, …: each block is made orthonormal as it comes."""
    block = np.linalg.qr(matrix @ start)[0]
    blocks = [block]
    for _ in range(depth):
        block = np.linalg.qr(matrix @ (matrix.T @ block))[0]
        blocks.append(block)
    return np.linalg.qr(np.hstack(blocks))[0]


def inverse_propensity(outcomes: np.ndarray, mask: np.ndarray, propensity: np.ndarray) -> np.ndarray:
    """X = Y·mask/p̂, (n, m); the propensity has shape (n, 1) or (n, m)."""
    return np.where(mask, outcomes / propensity, 0.0)


def noise_edge(matrix: np.ndarray, values: np.ndarray, searched: int) -> float:
    """√v·(√n + √m), v the energy left after the `searched` leading values for each degree of freedom left."""
    n, m = matrix.shape
    left_over = float(np.vdot(matrix, matrix)) - float((values[:searched] ** 2).sum())
    v = max(0.0, left_over) / ((n - searched) * (m - searched))
    return math.sqrt(v) * (math.sqrt(n) + math.sqrt(m))


def theory_threshold(bound: float, propensity: np.ndarray, n: int, m: int) -> float:
    """The paper's 96·K·T, T = √((m + r_p·n)·log(m + n)/q) + ‖P‖, from the modelled propensities, (n, 1) or (n, m)."""
    row_means = propensity.mean(axis=1, keepdims=True)
    uneven = propensity / row_means - 1
    spread = float(np.linalg.norm(uneven, 2)) if propensity.shape[1] > 1 else 0.0
    ratio = float((propensity.max(axis=1) / propensity.min(axis=1)).max())
    observed = float(row_means.min())
    return 96 * bound * (math.sqrt((m + ratio * n) * math.log(m + n) / observed) + spread)


def rank_by_gap(values: np.ndarray, threshold: float) -> int:
    """The last s with σ_s − σ_{s+1} ≥ threshold; 0 if there is none."""
    wide = np.flatnonzero(values[:-1] - values[1:] >= threshold)
    return int(wide[-1]) + 1 if len(wide) else 0


def hard_impute(
    outcomes: np.ndarray,
    mask: np.ndarray,
    start: LowRank,
    rng: np.random.Generator,
    report: Callable[[int], None],
) -> LowRank:
    """Not the paper's: keep what was observed, fill the rest from the estimate, cut to its rank, 25 times."""
    rank = len(start.values)
    estimate = start
    for number in range(IMPUTE_ROUNDS):
        report(number)
        estimate = leading(np.where(mask, outcomes, estimate.dense()), rank, rng, estimate.right)
    return estimate
