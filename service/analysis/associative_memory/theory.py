"""How many facts a linear map can hold: a prediction without free parameters, derived here, not the paper's wording.

W is feasible as long as the facts' constraints together have less statistical dimension than W has entries:

    p_c · E(K, κ) = d_in · min(d_out, K−1) · Q(r),   E = E[dist²(g, {u : u_0 ≥ u_k + κ for all k})],  g ~ N(0, I_K)

(Gardner's replica-symmetric argument, or the conic kinematic formula of Amelunxen et al. 2014). Q is the share of
energy in the top fraction r = h/d of the singular values of a Gaussian matrix: the price of two layers of width h.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar
from scipy.special import log_ndtr, ndtr, ndtri

Vector = NDArray[np.float64]
POOLING_LIMIT = 100_000
"""Most targets for which E is drawn; above, the mean-field form."""
HEAD = 64
"""Largest competitors drawn first; more are drawn where they are pooled."""
BATCH_ENTRIES = 1_000_000
SERIES_FROM = 6.0


class Estimate(NamedTuple):
    """A Monte Carlo mean and its standard error; an error of 0 says that it is no estimate."""

    mean: float
    std_error: float


def pooled_distances(correct: Vector, competitors: NDArray[np.float64]) -> tuple[Vector, NDArray[np.bool_]]:
    """Squared distance to {u_0 ≥ u_k} by isotonic pooling, and whether all competitors given were pooled.

    Args:
        correct: z_0 of each draw, n.
        competitors: The largest z_k (κ added), n × J, sorted downwards. J < K−1 if the tail was left out.
    """
    counts = np.arange(1, competitors.shape[1] + 1)
    pooled = (correct[:, None] + np.cumsum(competitors, axis=1)) / (counts + 1)
    before = np.column_stack([correct, pooled[:, :-1]])
    number = (competitors > before).sum(axis=1)  # z_k > T_{k−1} holds for a first run of k
    level = np.where(number > 0, pooled[np.arange(len(correct)), np.maximum(number, 1) - 1], correct)
    inside = counts <= number[:, None]
    squares = np.where(inside, (competitors - level[:, None]) ** 2, 0.0).sum(axis=1)
    return (level - correct) ** 2 + squares, number == competitors.shape[1]


def top_normals(spacings: NDArray[np.float64], total: int) -> NDArray[np.float64]:
    """The largest of `total` independent normals, sorted downwards, from standard exponentials (Rényi's spacings)."""
    log_uniform = np.cumsum(spacings / (total - np.arange(spacings.shape[1])), axis=1)  # −log of order statistics
    return -ndtri(-np.expm1(-log_uniform))


def expected_sq_distance(targets: int, margin: float, samples: int, rng: np.random.Generator) -> Estimate:
    """E(K, κ) by Monte Carlo.

    Args:
        targets: K ≥ 2.
        margin: κ ≥ 0, in the units of one coordinate.
        samples: Draws.
        rng: Of the draws.
    """
    others = targets - 1
    batch = max(1, min(samples, BATCH_ENTRIES // min(others, HEAD)))
    found = [_distances(others, margin, min(batch, samples - done), rng) for done in range(0, samples, batch)]
    distances = np.concatenate(found)
    return Estimate(float(distances.mean()), float(distances.std() / math.sqrt(samples)))


def _distances(others: int, margin: float, count: int, rng: np.random.Generator) -> Vector:
    correct = rng.standard_normal(count)
    spacings = rng.standard_exponential((count, min(others, HEAD)))
    while True:
        distances, all_pooled = pooled_distances(correct, top_normals(spacings, others) + margin)
        if spacings.shape[1] == others or not all_pooled.any():
            return distances
        width = min(others, 2 * spacings.shape[1])
        spacings = np.hstack([spacings, rng.standard_exponential((count, width - spacings.shape[1]))])


def mean_field_sq_distance(log_targets: float) -> float:
    """E_MF for κ = 0: an upper bound on E that becomes exact (4.6 % high at K = 565, 0.7 % at 50,257).

    Args:
        log_targets: log K, in nats: it may be a million.
    """
    log_others = log_targets + math.log1p(-math.exp(-log_targets))

    def cost(level: float) -> float:
        head = (1 + level**2) * float(ndtr(level)) + level * math.exp(-(level**2) / 2) / math.sqrt(2 * math.pi)
        return head + math.exp(min(700.0, log_others + _log_tail(level)))

    top = math.sqrt(2 * max(log_others, 1.0)) + 1
    found: Any = minimize_scalar(cost, bounds=(-2.0, top), method="bounded", options={"xatol": 1e-10 * top})
    return float(found.fun)


def _log_tail(level: float) -> float:
    """log of (1+T²)Φ(−T) − Tφ(T), by its series where the difference would lose its digits."""
    log_density = -(level**2) / 2 - math.log(2 * math.pi) / 2
    if level > SERIES_FROM:
        return log_density + math.log(2) - 3 * math.log(level) + math.log1p(-6 / level**2 + 45 / level**4)
    return math.log((1 + level**2) * math.exp(float(log_ndtr(-level))) - level * math.exp(log_density))


def rank_factor(fraction: float) -> float:
    """Q(r): energy share of the top fraction r of the quarter-circle law's singular values; 0 < r ≤ 1."""
    if fraction >= 1:
        return 1.0
    lowest: Any = brentq(lambda x: quarter_circle(x) - (1 - fraction), 0.0, 2.0)
    return quad(lambda x: x * x * math.sqrt(4 - x * x) / math.pi, lowest, 2.0)[0]


def quarter_circle(x: float) -> float:
    """Distribution function of the quarter-circle law, for singular values scaled to mean square 1."""
    clipped = min(2.0, max(0.0, x))
    return (clipped * math.sqrt(4 - clipped**2) / 2 + 2 * math.asin(clipped / 2)) / math.pi


def sampled_rank_factor(rows: int, columns: int, hidden: int, rng: np.random.Generator) -> float:
    """The same share for rectangular matrices, from Gaussian draws."""
    draws = max(4, min(50, 20_000 // (rows * columns)))
    shares = []
    for _ in range(draws):
        energy = np.linalg.svd(rng.standard_normal((rows, columns)), compute_uv=False) ** 2
        shares.append(energy[:hidden].sum() / energy.sum())
    return float(np.mean(shares))
