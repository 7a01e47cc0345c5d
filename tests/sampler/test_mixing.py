"""R-hat and ESS are ArviZ's, and know a chain that mixes from one that does not."""

import math
from typing import Any

import numpy as np
import pytest
from arviz_stats.base.array import array_stats

from sampler import mixing
from sampler.mixing import ess_bulk, split_r_hat
from sampler.row import Floats


def oracle(draws: Floats) -> tuple[float, float]:
    """ArviZ's R-hat and bulk ESS."""
    arviz: Any = array_stats
    axes = {"chain_axis": 0, "draw_axis": 1}
    return float(arviz.rhat(draws, method="rank", **axes)), float(arviz.ess(draws, method="bulk", **axes))


def walks(seed: int, chains: int, steps: int, memory: float, levels: int | None = None) -> Floats:
    """Autoregressive chains, rounded to `levels` where ties are wanted."""
    rng = np.random.default_rng(seed)
    draws = np.empty((chains, steps))
    draws[:, 0] = rng.normal(size=chains)
    for t in range(1, steps):
        draws[:, t] = memory * draws[:, t - 1] + math.sqrt(1 - memory**2) * rng.normal(size=chains)
    return draws if levels is None else np.round(draws * levels / 4)


SHAPES = [(2, 4), (2, 5), (4, 6), (4, 7), (4, 10), (5, 11), (4, 40), (3, 101), (8, 200), (4, 1000)]


def worst_difference(ties: int | None) -> float:
    """The largest relative difference from ArviZ over shapes and memories."""
    worst, compared = 0.0, 0
    for seed, (shape, memory) in enumerate((s, m) for s in SHAPES for m in (-0.8, 0.0, 0.5, 0.9, 0.99)):
        draws = walks(seed, *shape, memory, ties)
        with np.errstate(all="ignore"):
            wanted = oracle(draws)
        for found, right in zip((split_r_hat(draws), ess_bulk(draws)), wanted, strict=True):
            if math.isfinite(right) and np.ptp(mixing.split(draws)) > 0:  # ArviZ calls draws that are all equal perfect
                assert math.isfinite(found)
                worst, compared = max(worst, abs(found / right - 1)), compared + 1
    assert compared > 80
    return worst


@pytest.mark.parametrize("ties", [None, 8, 2])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_r_hat_and_ess_are_arvizs(ties: int | None) -> None:
    assert worst_difference(ties) < 1e-9


def test_r_hat_without_the_split_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    drifting = np.tile(np.linspace(0, 1, 100), (4, 1)) + walks(0, 4, 100, 0.0) / 100
    assert split_r_hat(drifting) > 1.5

    monkeypatch.setattr(mixing, "split", lambda draws: draws)

    assert split_r_hat(drifting) < 1.01, "the mutant does what it is meant to"
    assert worst_difference(None) > 0.1, "and the oracle kills it"


def test_the_folded_half_sees_chains_of_different_width() -> None:
    draws = walks(1, 4, 400, 0.0) * np.array([[1.0], [1.0], [1.0], [5.0]])

    assert mixing.r_hat(mixing.rank_normalised(mixing.split(draws))) < 1.02
    assert split_r_hat(draws) > 1.1


def test_constant_chains_have_no_r_hat_and_no_ess() -> None:
    assert math.isnan(split_r_hat(np.zeros((4, 10))))
    assert math.isnan(ess_bulk(np.zeros((4, 10))))


def test_chains_that_stand_still_apart_have_an_infinite_r_hat() -> None:
    assert split_r_hat(np.repeat([[0.0], [0.0], [0.0], [1.0]], 10, axis=1)) == math.inf


@pytest.mark.parametrize("draws", [np.zeros((1, 10)), np.zeros((4, 3)), np.full((4, 10), np.nan), np.zeros(10)])
def test_too_little_gives_no_number(draws: Floats) -> None:
    assert math.isnan(split_r_hat(draws))


def test_ess_falls_with_memory_and_rises_for_chains_that_swing() -> None:
    swinging, independent, slow = (ess_bulk(walks(3, 4, 1000, memory)) for memory in (-0.5, 0.0, 0.9))

    assert swinging > 1.5 * 4000
    assert independent == pytest.approx(4000, rel=0.1)
    assert slow == pytest.approx(4000 * 0.1 / 1.9, rel=0.3)
