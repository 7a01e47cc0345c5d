"""The margin that the best W reaches, from the distance of a Gaussian vector to a polyhedron in d dimensions."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, nnls

from service.analysis.associative_memory.theory import Estimate


def least_distance_sq(rows: NDArray[np.float64], levels: NDArray[np.float64]) -> float:
    """min ‖x‖² with rows·x ≥ levels (Lawson and Hanson's reduction to non-negative least squares)."""
    if (levels <= 0).all():
        return 0.0
    matrix = np.vstack([rows.T, levels])
    wanted = np.zeros(len(matrix))
    wanted[-1] = 1.0
    dual, _ = nnls(matrix, wanted, maxiter=50 * len(levels))
    residual = matrix @ dual - wanted
    return float(np.sum((residual[:-1] / residual[-1]) ** 2)) if residual[-1] < 0 else math.inf


def _draws(
    dimension: int, targets: int, samples: int, rng: np.random.Generator
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Differences of a target and its competitors (entries of variance 1/d each), and a Gaussian vector."""
    found = []
    for _ in range(samples):
        vectors = rng.standard_normal((targets, dimension)) / math.sqrt(dimension)
        found.append((vectors[0] - vectors[1:], rng.standard_normal(dimension)))
    return found


def finite_sq_distance(dimension: int, targets: int, margin: float, samples: int, rng: np.random.Generator) -> Estimate:
    """E_d(κ): mean squared distance of g ~ N(0, I_d) to {h : (y_0 − y_k)·h ≥ κ for all k}."""
    draws = _draws(dimension, targets, samples, rng)
    distances = np.array([least_distance_sq(rows, margin - rows @ g) for rows, g in draws])
    return Estimate(float(distances.mean()), float(distances.std() / math.sqrt(samples)))


def predict_margin(
    facts: int, targets: int, input_dim: int, output_dim: int, samples: int, rng: np.random.Generator
) -> float | None:
    """κ with p·E_d(κ) = d_in d_out: the margin of the best W; None above capacity."""
    draws = _draws(output_dim, targets, samples, rng)

    def excess(margin: float) -> float:
        mean = np.mean([least_distance_sq(rows, margin - rows @ g) for rows, g in draws])
        return facts * float(mean) - input_dim * output_dim

    if excess(0.0) >= 0:
        return None
    above = 1.0
    while excess(above) < 0:  # E_d(κ) grows like κ², or is infinite
        above *= 2
    root: Any = brentq(excess, 0.0, above, xtol=2e-3 * above)
    return float(root)
