"""How far from the optimum error feedback can stay, for constant γ: derived here, not the paper's wording.

The virtual-iterate argument of Karimireddy et al. 2019 with momentum and any norm: with
Z_t = W_t − E_t − γβ/(1−β)·M_{t−1}, Z_{t+1} = Z_t − γG_t exactly, and ‖E_t‖_F ≤ 2γL√(1−δ)/δ, δ = 1/ρ. Hence for every W*

    (1/T) Σ_{t<T} f(W_t) − f(W*) ≤ R²/(2γT) + γL²K/2,   K = 1 + 4√(1−δ)/δ + 2β/(1−β),   R = ‖W₀ − W*‖_F.
"""

import math
from typing import NamedTuple


class Bound(NamedTuple):
    """The bound and what it is made of."""

    value: float
    lipschitz: float
    distance: float
    delta: float
    k: float
    gamma: float
    error_norm: float


def best_gamma(lipschitz: float, distance: float, rho: int, momentum: float, steps: int) -> float:
    """R/(L√(TK)), at which the bound is RL√(K/T)."""
    return distance / (lipschitz * math.sqrt(steps * noise_factor(rho, momentum)))


def noise_factor(rho: int, momentum: float) -> float:
    """K."""
    delta = 1 / rho
    return 1 + 4 * math.sqrt(1 - delta) / delta + 2 * momentum / (1 - momentum)


def bound(lipschitz: float, distance: float, rho: int, momentum: float, steps: int, gamma: float) -> Bound:
    """The bound on mean f(W_t) − f(W*), t < T, and on ‖E_t‖_F."""
    delta, k = 1 / rho, noise_factor(rho, momentum)
    value = distance**2 / (2 * gamma * steps) + gamma * lipschitz**2 * k / 2
    return Bound(value, lipschitz, distance, delta, k, gamma, 2 * gamma * lipschitz * math.sqrt(1 - delta) / delta)
