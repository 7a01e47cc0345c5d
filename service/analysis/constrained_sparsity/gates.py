"""Closed forms of hard-concrete gates (Louizos, Welling and Kingma 2018), without torch.

A gate is z = clip(s(ζ − γ) + γ, 0, 1) with s = σ((ln u − ln(1 − u) + log α)/τ) and u uniform: 0 and 1 have mass.
"""

from math import exp, log

GAMMA, ZETA = -0.1, 1.1
CLAMP = (log(0.01), log(100))
"""Where log α is held after each step."""


def sigmoid(x: float) -> float:
    """1 / (1 + e^−x)."""
    return 1 / (1 + exp(-x))


def active_shift(temperature: float) -> float:
    """P[z ≠ 0] = σ(log α − this): τ ln(−γ/ζ)."""
    return temperature * log(-GAMMA / ZETA)


def active_probability(log_alpha: float, temperature: float) -> float:
    """P[z ≠ 0]."""
    return sigmoid(log_alpha - active_shift(temperature))


def floor(temperature: float) -> float:
    """The lowest density that gates within the clamp can have."""
    return active_probability(CLAMP[0], temperature)


def initial_density(drop_rate: float, temperature: float) -> float:
    """Density of gates that start at log α = ln((1 − ρ)/ρ)."""
    return active_probability(log((1 - drop_rate) / drop_rate), temperature)
