"""Have chains mixed? Effective sample size and R-hat, rank-normalised and split.

Definitions of Vehtari, Gelman, Simpson, Carpenter and Bürkner, "Rank-Normalization, Folding, and Localization: An
Improved R̂ for Assessing Convergence of MCMC" (2021, arXiv 1903.08008), in ArviZ's conventions, which the tests hold
these functions to. All take draws of shape [chains, steps] and return NaN where the definition gives no number.
"""

import math
from statistics import NormalDist

import numpy as np

from sampler.row import Floats

MIN_STEPS = 4
"""Fewest steps of a chain: each half needs a variance."""


def split_r_hat(draws: Floats) -> float:
    """The larger of the rank-normalised split R-hats of the draws (location) and of the folded draws (scale).

    Infinite where no half of a chain ever moved and two of them differ, NaN where all draws are equal.
    """
    if not _is_enough(draws, chains=2):
        return math.nan
    halves = split(draws)
    folded = np.abs(halves - np.median(halves))
    found = [r_hat(rank_normalised(each)) for each in (halves, folded)]
    defined = [value for value in found if not math.isnan(value)]  # folding may make unequal draws equal
    return max(defined, default=math.nan)


def ess_bulk(draws: Floats) -> float:
    """How many independent draws would know the middle of the law as well as these do. NaN if all are equal."""
    if not _is_enough(draws, chains=1):
        return math.nan
    halves = split(draws)
    return ess(rank_normalised(halves)) if np.ptp(halves) > 0 else math.nan


def r_hat(draws: Floats) -> float:
    """The square root of (the variance of all chains' draws together ÷ the variance within chains)."""
    steps = draws.shape[1]
    between = steps * float(np.var(draws.mean(axis=1), ddof=1))
    within = float(np.var(draws, axis=1, ddof=1).mean())
    if within == 0.0:
        return math.nan if between == 0.0 else math.inf
    return math.sqrt((between / within + steps - 1) / steps)


def ess(draws: Floats) -> float:
    """The effective sample size by Geyer's initial monotone sequence of autocorrelations over chains."""
    chains, steps = draws.shape
    covariance = autocovariance(draws).mean(axis=0)
    within = covariance[0] * steps / (steps - 1)
    total = covariance[0] + (float(np.var(draws.mean(axis=1), ddof=1)) if chains > 1 else 0.0)
    correlation = 1.0 - (within - covariance) / total
    correlation[0] = 1.0
    pairs = correlation[: steps // 2 * 2].reshape(-1, 2).sum(axis=1)
    last = _last_pair(pairs, steps)
    sums = np.minimum.accumulate(pairs[:last])
    rest = float(correlation[2 * last])  # the lag after the last whole pair still lowers the variance if chains swing
    rest = rest if pairs[last] >= 0 else max(rest, 0.0)
    time = -1.0 + 2.0 * float(sums.sum()) + rest
    size = chains * steps
    return size / max(time, 1.0 / math.log10(size))  # ArviZ's cap on what antithetic chains may gain


def _last_pair(pairs: Floats, steps: int) -> int:
    """The first pair of lags (2k, 2k + 1) whose correlations do not sum to more than 0, or the last that is known."""
    known = max((steps - 1) // 2 - 1, 0)
    ended = np.flatnonzero(pairs[: known + 1] <= 0)
    return int(ended[0]) if len(ended) else known


def autocovariance(draws: Floats) -> Floats:
    """The biased autocovariance of each chain at lags 0..steps−1; shape [chains, steps]."""
    steps = draws.shape[1]
    size = 1 << (2 * steps - 1).bit_length()  # padded, so that lags do not wrap round
    spectrum = np.fft.rfft(draws - draws.mean(axis=1, keepdims=True), size, axis=1)
    return np.fft.irfft(spectrum * spectrum.conj(), size, axis=1)[:, :steps] / steps


def split(draws: Floats) -> Floats:
    """Each chain as its first and its last half, shape [2·chains, steps // 2]: a drift within chains shows too."""
    half = draws.shape[1] // 2
    return np.vstack([draws[:, :half], draws[:, -half:]])


def rank_normalised(draws: Floats) -> Floats:
    """Normal scores of the ranks over all chains, ties at their mean rank: no moment of the draws need exist."""
    _, which, counts = np.unique(draws, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    score = NormalDist().inv_cdf
    scores = np.array([score((rank - 0.375) / (draws.size + 0.25)) for rank in ranks.tolist()])
    return scores[which].reshape(draws.shape)


def _is_enough(draws: Floats, chains: int) -> bool:
    if draws.ndim != 2 or draws.shape[0] < chains or draws.shape[1] < MIN_STEPS:
        return False
    return bool(np.isfinite(draws).all())
