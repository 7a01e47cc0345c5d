"""Closed forms and integrals for linear generators in many dimensions: derived here, checked by simulation.

Data are Gaussian with covariance C in d dimensions, n = γ·d samples; a model draws x̂ = (Ĉ + λ)^{1/2}z, Ĉ the empirical
covariance, λ a ridge. Everything is a function of the load γ = n/d; a spectrum is the array of C's eigenvalues.
"""

import math

import numpy as np
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import erf, gammaln, hyp2f1

NEWTON_STEPS = 200
LOADS = (1e-4, 1e4)
SPHERE_SHARE = 1 / 16
"""Up to this load a sample's direction among the n training points is uniform on their sphere."""


def identity_convergence(load: float) -> float:
    """q for C = I without ridge: (mean of √x under Marchenko–Pastur)², by F = ₂F₁(1/2, −1/2; 2; ·)."""
    if load <= 1:
        return load * float(hyp2f1(0.5, -0.5, 2, load)) ** 2
    return float(hyp2f1(0.5, -0.5, 2, 1 / load)) ** 2


def resolvent_scale(spectrum: np.ndarray, load: float, t: np.ndarray) -> np.ndarray:
    """The μ with 1/μ = t + (1/n)·Σ c/(1 + μc), for each t > 0, shape (T,).

    g(μ) = μt + (1/n)·Σ μc/(1 + μc) − 1 rises and is concave, so that Newton from below stays below and converges.
    """
    mu = 1 / (t + spectrum.mean() / load)
    for _ in range(NEWTON_STEPS):
        share = 1 / (1 + mu[:, None] * spectrum)
        value = mu * t + (1 - share).mean(axis=1) / load - 1
        slope = t + (spectrum * share**2).mean(axis=1) / load
        step = value / slope
        mu = mu - step
        if np.all(np.abs(step) <= 1e-14 * mu):
            break
    return mu


def root_diagonal(spectrum: np.ndarray, load: float, ridge: float, points: int) -> np.ndarray:
    """F_k, the diagonal of E(Ĉ + λ)^{1/2} in C's basis, shape of the spectrum.

    F_k = (2/π)∫₀^∞ [1 − (s²/t)/(1 + μ(t)·c_k)] ds with t = s² + λ, by s = s₀·tan φ and midpoints.
    """
    angles = (np.arange(points) + 0.5) * (math.pi / 2 / points)
    scale = math.sqrt(float(spectrum.mean()) + ridge)
    s = scale * np.tan(angles)
    t = s**2 + ridge
    mu = resolvent_scale(spectrum, load, t)
    integrand = 1 - (s**2 / t)[:, None] / (1 + mu[:, None] * spectrum)
    weights = scale * (1 + np.tan(angles) ** 2) * (math.pi / 2 / points)
    return 2 / math.pi * (weights @ integrand)


def convergence(spectrum: np.ndarray, load: float, ridge: float, points: int) -> float:
    """q = Σ F_k²/Σ (c_k + λ) for any spectrum and ridge; the closed form where all c_k are equal and λ = 0."""
    if ridge == 0 and np.ptp(spectrum) == 0:
        return identity_convergence(load)
    root = root_diagonal(spectrum, load, ridge, points)
    return float((root**2).sum() / (spectrum + ridge).sum())


def half_convergence_load(spectrum: np.ndarray, ridge: float, points: int) -> float | None:
    """The load at which q = 1/2, or None where it is above or below at all loads from 1e-4 to 1e4."""

    def above(log_load: float) -> float:
        return convergence(spectrum, math.exp(log_load), ridge, points) - 0.5

    low, high = (math.log(load) for load in LOADS)
    if above(low) > 0 or above(high) < 0:
        return None
    return math.exp(float(brentq(above, low, high, xtol=1e-6)))  # type: ignore[arg-type]


def memorisation_ratio(load: float, ridge: float) -> float:
    """Nearest similarity to the training set over that to an equally large held-out one, for C = I."""
    return math.sqrt(1 + 1 / (load * (1 + ridge)))


def mean_largest(n: int) -> float:
    """E max of n |N(0, 1)|: ∫₀^∞ 1 − erf(x/√2)^n dx."""
    return float(quad(lambda x: 1 - erf(x / math.sqrt(2)) ** n, 0, 20, limit=200)[0])


def nearest_similarity(n: int, d: int, ridge: float) -> float:
    """E max |cos(x̂, x_μ)| over the n training points, for C = I.

    For n ≪ d without ridge the largest coordinate of a uniform direction in n dimensions, exactly 1 at n = 1; else the
    largest of n Gaussians of variance 1/(n(1 + λ)) + 1/d.
    """
    if ridge == 0 and n <= SPHERE_SHARE * d:
        mean_norm = math.sqrt(2) * math.exp(float(gammaln((n + 1) / 2) - gammaln(n / 2)))
        return mean_largest(n) / mean_norm
    return min(1.0, mean_largest(n) * math.sqrt(1 / (n * (1 + ridge)) + 1 / d))


def threshold_load(theta: float) -> float:
    """Below this load nothing of a spike is seen (Baik, Ben Arous, Péché 2005): 1/θ², and at least 1 for θ < 0."""
    return 1 / theta**2


def latent_overlap_sq(load: float, theta: float) -> float:
    """⟨v̂, v⟩² of a spike and its empirical eigenvector; a spike θ < 0 is seen at the bulk's lower edge."""
    if load <= threshold_load(theta):
        return 0.0
    return (1 - 1 / (load * theta**2)) / (1 + 1 / (load * theta))


def top_eigenvalue(load: float, theta: float) -> float:
    """The eigenvalue that the spike sends out of the bulk, or the bulk's edge on its side."""
    if load > threshold_load(theta):
        return (1 + theta) * (1 + 1 / (load * theta))
    return (1 + load**-0.5) ** 2 if theta > 0 else max(0.0, 1 - load**-0.5) ** 2
