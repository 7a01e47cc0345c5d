"""Means over problems with bootstrap intervals that resample whole problems, and unbiased pass@k.

Answers to one problem rise and fall together, so the problem and not the answer is what is drawn again: treating
30 × 16 answers as 480 independent ones would make every interval too narrow.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DRAWS = 2000
"""Bootstrap draws: the ends of a 95 % interval then move by about a hundredth of its width from seed to seed."""
CHUNK = 1 << 22
"""Resampled values held at once: 32 MiB."""


class Estimate(NamedTuple):
    """A mean over problems with its bootstrap interval; NaN ends for fewer than two problems."""

    value: float
    lower: float
    upper: float


def cluster_mean(
    values: Sequence[float] | Floats, rng: np.random.Generator, delta: float = 0.05, draws: int = DRAWS
) -> Estimate:
    """The mean of one value a problem, with a percentile interval over resampled problems.

    Args:
        values: shape (problems,), each already the mean over that problem's answers.
        rng: where the resampling comes from.
        delta: the interval has level 1 − delta.
        draws: bootstrap draws.
    """
    column = np.asarray(values, float)
    ones = np.ones_like(column)
    return ratio_of_sums(column, ones, rng, delta, draws)


def ratio_of_sums(
    above: Sequence[float] | Floats,
    below: Sequence[float] | Floats,
    rng: np.random.Generator,
    delta: float = 0.05,
    draws: int = DRAWS,
) -> Estimate:
    """Σ above ÷ Σ below over problems, both resampled together: an acceptance, or tokens per token."""
    top, bottom = np.asarray(above, float), np.asarray(below, float)
    if top.shape != bottom.shape or top.ndim != 1 or not len(top):
        raise ValueError("one value above and one below for each problem")
    total = bottom.sum()
    value = float(top.sum() / total) if total else float("nan")
    if len(top) < 2 or not total:
        return Estimate(value, float("nan"), float("nan"))
    found: list[Floats] = []
    for start in range(0, draws, step := max(1, CHUNK // len(top))):
        chosen = rng.integers(len(top), size=(min(step, draws - start), len(top)))
        sums = bottom[chosen].sum(axis=1)
        found.append(top[chosen].sum(axis=1)[sums > 0] / sums[sums > 0])
    lower, upper = np.quantile(np.concatenate(found), [delta / 2, 1 - delta / 2])
    return Estimate(value, float(lower), float(upper))


def pass_at_k(total: int, correct: int, k: int) -> float:
    """Probability that at least one of k answers drawn without replacement from `total` is right.

    The unbiased estimate 1 − C(n − c, k) / C(n, k) (arXiv 2107.03374), as a product that neither overflows nor cancels.
    """
    if not 1 <= k <= total or not 0 <= correct <= total:
        raise ValueError(f"pass@{k} of {correct} right in {total} is not defined")
    if total - correct < k:
        return 1.0
    return float(1 - np.prod(1 - k / np.arange(total - correct + 1, total + 1)))


def pass_curve(
    totals: Sequence[int], corrects: Sequence[int], rng: np.random.Generator, delta: float = 0.05
) -> dict[int, Estimate]:
    """Pass@k for every k that each problem has answers for, as a mean over problems with its bootstrap interval."""
    pairs = list(zip(totals, corrects, strict=True))
    most = min(totals, default=0)
    return {k: cluster_mean([pass_at_k(n, c, k) for n, c in pairs], rng, delta) for k in range(1, most + 1)}
