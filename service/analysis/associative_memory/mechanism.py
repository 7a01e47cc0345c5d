"""How a map stores facts: scores against thresholds, gaps, singular values, and recall at a temperature."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.analysis.associative_memory.instances import Facts, Matrix
from service.analysis.associative_memory.theory import quarter_circle

AT_MARGIN = 1.05
"""A gap within 5 % of the least one is at the margin."""


@dataclass
class Scores:
    """Per fact, in units of ‖W x_μ‖ σ_y.

    Attributes:
        target: s, the own target's score.
        threshold: t, the best competitor's.
        gaps: Own − competitor, p × competitors or more, not in those units.
        recall: Share of facts with s > t.
    """

    target: NDArray[np.float64]
    threshold: NDArray[np.float64]
    gaps: Matrix
    units: NDArray[np.float64]

    @property
    def recall(self) -> float:
        """Share of facts whose own target scores highest."""
        return float((self.target > self.threshold).mean())


def score(facts: Facts, weights: Matrix) -> Scores:
    """Scores of every fact under W; an input that W maps to 0 has scores of 0."""
    outputs = facts.inputs @ weights.T
    units = np.linalg.norm(outputs, axis=1) * facts.target_scale
    units = np.where(units > 0, units, 1.0)
    gaps = facts.gaps(outputs)
    own = np.sum(outputs * facts.own, axis=1)
    return Scores(own / units, (own - gaps.min(axis=1)) / units, gaps, units)


def correlation(scores: Scores) -> float | None:
    """Of s and t over facts; None if one of them does not vary."""
    if len(scores.target) < 2 or scores.target.std() == 0 or scores.threshold.std() == 0:
        return None
    return float(np.corrcoef(scores.target, scores.threshold)[0, 1])


def at_margin(scores: Scores) -> tuple[float, float]:
    """Share of facts whose gap is within 5 % of the least, and how many competitors are, per fact; needs recall 1."""
    edge = AT_MARGIN * float(scores.gaps.min())
    near = scores.gaps <= edge
    return float(near.any(axis=1).mean()), float(near.sum() / len(near))


def softmax_recall(scores: Scores, temperature: float) -> float:
    """Mean probability of the own target when scores in those units are sampled at a temperature."""
    odds = np.exp(np.minimum(-scores.gaps / (scores.units[:, None] * temperature), 700.0))
    return float((1 / (1 + odds.sum(axis=1))).mean())


def spectrum(weights: Matrix) -> NDArray[np.float64]:
    """Singular values, scaled to mean square 1, largest first."""
    values = np.linalg.svd(weights, compute_uv=False)
    return values / np.sqrt(np.mean(values**2))


def quarter_circle_distance(values: NDArray[np.float64]) -> float:
    """Kolmogorov-Smirnov distance of singular values to the quarter-circle law."""
    ordered = np.sort(values)
    expected = np.array([quarter_circle(float(value)) for value in ordered])
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return float(max(np.abs(expected - steps[1:]).max(), np.abs(expected - steps[:-1]).max()))


def participation(vectors: Matrix) -> float:
    """(Σλ)²/Σλ² of the covariance: how many directions the vectors fill."""
    squares = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False) ** 2
    return float(squares.sum() ** 2 / np.sum(squares**2)) if squares.any() else 0.0
