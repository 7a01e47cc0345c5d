"""Order parameters measured on samples, and on linear generators fitted to halves of a data set.

Rows are samples in d dimensions, already centred. The protocol for two models with common noise is that of Kadkhodaie,
Guth, Simoncelli and Mallat (ICLR 2024).
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

CHUNK_CELLS = 4_000_000


class Generator(NamedTuple):
    """x̂ = (Ĉ + λ)^{1/2}z by its factors: (Ĉ + λ)^{1/2} = directionsᵀ·diag(gains)·directions + floor·I."""

    directions: np.ndarray
    gains: np.ndarray
    floor: float

    def draw(self, noise: np.ndarray) -> np.ndarray:
        """Samples from noise, both (N, d)."""
        return (noise @ self.directions.T * self.gains) @ self.directions + self.floor * noise


def fit_generator(rows: np.ndarray, ridge: float) -> Generator:
    """The generator of the rows' empirical covariance, (n, d); its directions fall in variance."""
    _, values, directions = np.linalg.svd(rows / math.sqrt(len(rows)), full_matrices=False)
    floor = math.sqrt(ridge)
    return Generator(directions, np.sqrt(values**2 + ridge) - floor, floor)


def generator_agreement(a: Generator, b: Generator) -> float:
    """q = tr(S_a·S_b)/√(tr S_a²·tr S_b²), S the square roots, exactly and without probes."""
    d = a.directions.shape[1]
    cross = float(a.gains @ (a.directions @ b.directions.T) ** 2 @ b.gains)
    cross += b.floor * float(a.gains.sum()) + a.floor * float(b.gains.sum()) + a.floor * b.floor * d
    squares = [float((one.gains**2 + 2 * one.gains * one.floor).sum()) + one.floor**2 * d for one in (a, b)]
    return cross / math.sqrt(squares[0] * squares[1])


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Each row over its norm; the norms must not be 0."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def nearest(samples: np.ndarray, others: np.ndarray) -> float:
    """Mean over samples of the largest |cosine| with any of the others, in chunks of bounded memory."""
    ours, theirs = unit_rows(samples), unit_rows(others)
    size = max(1, CHUNK_CELLS // len(theirs))
    found = [np.abs(ours[at : at + size] @ theirs.T).max(axis=1) for at in range(0, len(ours), size)]
    return float(np.concatenate(found).mean())


def principal(rows: np.ndarray, count: int) -> np.ndarray:
    """The leading principal directions, (count, d)."""
    return np.linalg.svd(rows, full_matrices=False)[2][:count]


def overlap_sq(ours: np.ndarray, theirs: np.ndarray) -> float:
    """‖VᵀV̂‖²_F/k of two sets of k orthonormal directions, (k, d)."""
    return float(((ours @ theirs.T) ** 2).sum()) / len(ours)


def pair_cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each pair of rows, (N,)."""
    return (unit_rows(a) * unit_rows(b)).sum(axis=1)


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and its 95 % Student interval over N ≥ 2 values."""
    mean = float(values.mean())
    half = float(stats.t.ppf(0.975, len(values) - 1)) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def spectrum_of(rows: np.ndarray, d: int) -> np.ndarray:
    """Eigenvalues of the rows' covariance, (d,), with the zeros of the directions that they do not reach."""
    values = np.linalg.svd(rows / math.sqrt(len(rows)), compute_uv=False) ** 2
    return np.concatenate([values, np.zeros(d - len(values))])


class HalfMeasures(NamedTuple):
    """One split: agreement, memorisation ratio, overlap with the reference's directions and with each other's."""

    convergence: float
    memorisation_ratio: float
    overlap_sq: float
    between_sq: float


def measure_halves(
    a: np.ndarray, b: np.ndarray, reference: np.ndarray, ridge: float, noise: np.ndarray
) -> HalfMeasures:
    """Fit both halves (n, d), and compare: each half is the other's held-out set. The reference is (k, d)."""
    models = fit_generator(a, ridge), fit_generator(b, ridge)
    own = nearest(models[0].draw(noise), a) + nearest(models[1].draw(noise), b)
    other = nearest(models[0].draw(noise), b) + nearest(models[1].draw(noise), a)
    leading = [model.directions[: len(reference)] for model in models]
    return HalfMeasures(
        generator_agreement(*models),
        own / other,
        (overlap_sq(leading[0], reference) + overlap_sq(leading[1], reference)) / 2,
        overlap_sq(leading[0], leading[1]),
    )
