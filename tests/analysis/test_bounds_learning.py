"""The shape of the paper's Figures 3 and 4 on a toy: the sharpest test-set bound wins, Catoni comes second.

Thresholds on a line with both signs (202 hypotheses, uniform prior), 3 % label noise, δ = 0.1. Gibbs posteriors, whose
temperatures and β are fitted on tasks of their own, may use all data; the prior and the test-set predictor the first m.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
import pytest

from service.analysis.small_data_bounds import tails
from service.analysis.small_data_bounds.pac_bayes import catoni_upper, log_xi, pac_bayes_kl_upper

DELTA, NOISE = 0.1, 0.03
THRESHOLDS = (np.arange(101) + 0.5) / 101
TEMPERATURES = (0.25, 0.5, 1.0, 2.0, 4.0)
BETAS = np.geomspace(0.3, 6, 14)
TABLE = {30: (0.216, 0.233, 0.253, 0.285), 60: (0.133, 0.148, 0.161, 0.191)}


class Tasks(NamedTuple):
    """Errors of each hypothesis on each example, (T, 202, N), and true risks, (T, 202)."""

    errors: np.ndarray
    risks: np.ndarray


def draw_tasks(rng: np.random.Generator, count: int, n: int) -> Tasks:
    """Tasks with a random threshold and sign each."""
    x = rng.random((count, n))
    truth, sign = rng.random((count, 1)), rng.random((count, 1)) < 0.5
    label = ((x > truth) ^ sign) ^ (rng.random((count, n)) < NOISE)
    above = x[:, None, :] > THRESHOLDS[None, :, None]
    errors = np.concatenate([above != label[:, None, :], above == label[:, None, :]], axis=1)
    apart = np.abs(THRESHOLDS[None, :] - truth)
    agrees = np.where(sign, 1 - apart, apart)  # share of x on which "above" and the truth differ
    clean = np.concatenate([agrees, 1 - agrees], axis=1)
    return Tasks(errors, NOISE + (1 - 2 * NOISE) * clean)


def gibbs(errors: np.ndarray, temperature: float) -> np.ndarray:
    """Weights ∝ exp(−temperature·errors), (T, 202)."""
    weights = np.exp(-temperature * (errors - errors.min(axis=1, keepdims=True)))
    return weights / weights.sum(axis=1, keepdims=True)


class Posteriors(NamedTuple):
    """What PAC-Bayes sees of each task: empirical risk and divergence, and the true risk, all (T,)."""

    q: np.ndarray
    divergence: np.ndarray
    risk: np.ndarray


def posteriors(tasks: Tasks, m: int, prior_temperature: float, temperature: float) -> Posteriors:
    prior = gibbs(tasks.errors[:, :, :m].sum(axis=2), prior_temperature)
    posterior = gibbs(tasks.errors.sum(axis=2), temperature)
    divergence = (posterior * np.log(posterior / prior)).sum(axis=1).clip(0)
    q = (posterior * tasks.errors[:, :, m:].mean(axis=2)).sum(axis=1).clip(0, 1)
    return Posteriors(q, divergence, (posterior * tasks.risks).sum(axis=1))


def catoni_bounds(seen: Posteriors, n: int, beta: float) -> np.ndarray:
    return np.array([catoni_upper(q, d, n, DELTA, beta) for q, d in zip(seen.q, seen.divergence, strict=True)])


def kl_bounds(seen: Posteriors, n: int, moment: float) -> np.ndarray:
    pairs = zip(seen.q, seen.divergence, strict=True)
    return np.array([pac_bayes_kl_upper(q, d, n, DELTA, moment) for q, d in pairs])


def pac_bayes(train: Tasks, test: Tasks, m: int) -> dict[str, tuple[float, float]]:
    """Mean bound and coverage on the test tasks, with what makes the bound least on the training tasks."""
    n = train.errors.shape[2] - m
    choices = list(itertools.product(TEMPERATURES if m else (1.0,), TEMPERATURES))
    seen = {choice: posteriors(train, m, *choice) for choice in choices}
    _, best, beta = min(
        (catoni_bounds(seen[choice], n, beta).mean(), choice, beta) for choice in choices for beta in BETAS
    )
    moment = log_xi(n)
    _, best_kl = min((kl_bounds(seen[choice], n, moment).mean(), choice) for choice in choices)
    found = {}
    there = posteriors(test, m, *best)
    bounds = catoni_bounds(there, n, float(beta))
    found["catoni"] = float(bounds.mean()), float((bounds >= there.risk).mean())
    there = posteriors(test, m, *best_kl)
    bounds = kl_bounds(there, n, moment)
    found["kl"] = float(bounds.mean()), float((bounds >= there.risk).mean())
    return found


def test_set(test: Tasks, m: int) -> dict[str, tuple[float, float]]:
    """The middle one of the hypotheses with fewest errors on the first m, judged on the others."""
    n = test.errors.shape[2] - m
    first = test.errors[:, :, :m].sum(axis=2)
    least = first == first.min(axis=1, keepdims=True)
    chosen = np.array([np.flatnonzero(row)[int(row.sum()) // 2] for row in least])
    rows = np.arange(len(chosen))
    errors, risks = test.errors[rows, chosen, m:].sum(axis=1), test.risks[rows, chosen]
    table = {
        "binomial": [tails.binomial_tail_upper(k, n, DELTA) for k in range(n + 1)],
        "chernoff": [tails.chernoff_upper(k / n, n, DELTA) for k in range(n + 1)],
    }
    found = {}
    for name, values in table.items():
        bounds = np.array(values)[errors]
        found[name] = float(bounds.mean()), float((bounds >= risks).mean())
    return found


test_set.__test__ = False  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("n", TABLE)
def test_the_sharpest_test_set_bound_wins_and_catoni_comes_second(n: int) -> None:
    rng = np.random.default_rng(0)
    train, test = draw_tasks(rng, 100, n), draw_tasks(rng, 1000, n)
    best: dict[str, float] = {}
    for share in (0.0, 0.2, 0.4, 0.6, 0.8):
        m = round(share * n)
        for name, (bound, covered) in (pac_bayes(train, test, m) | test_set(test, m)).items():
            assert covered >= 1 - DELTA, f"{name} at {share}"
            best[name] = min(best.get(name, math.inf), bound)
    print(f"n = {n}: { ({name: round(value, 3) for name, value in best.items()}) }")
    assert best["binomial"] < best["catoni"] < best["chernoff"] < best["kl"]
    order = [best[name] for name in ("binomial", "catoni", "chernoff", "kl")]
    assert order == pytest.approx(TABLE[n], abs=0.02)
