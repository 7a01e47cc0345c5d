"""From E to a capacity: the number of facts at which the prediction's two sides meet."""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq

from service.analysis.associative_memory.margins import finite_sq_distance
from service.analysis.associative_memory.theory import (
    POOLING_LIMIT,
    Estimate,
    expected_sq_distance,
    mean_field_sq_distance,
    rank_factor,
    sampled_rank_factor,
)

MARGIN_SAMPLES = 1000
"""Draws of the finite-d distance, each a small least-squares programme."""
ROUNDS = 3
FEWEST = 2.0


class NoCapacity(ValueError):
    """Not even two facts are held."""


class Memory(NamedTuple):
    """Sizes of a memory.

    Attributes:
        input_dim: d_in.
        output_dim: d_out.
        hidden_dim: h: the rank of W is at most this.
        targets: K, or None for one target a fact.
        margin: κ.
    """

    input_dim: int
    output_dim: int
    hidden_dim: int
    targets: int | None
    margin: float


class Capacity(NamedTuple):
    """The prediction.

    Attributes:
        facts: p_c.
        distance: E at p_c.
        rank_share: Q.
        constant: p_c log K/(d_in d_out), with K = p_c where each fact has its own target.
        method: pooling_mc, mean_field, or finite_dimension for κ > 0.
    """

    facts: float
    distance: Estimate
    rank_share: float
    constant: float
    method: str


def predict(memory: Memory, samples: int, seed: np.random.SeedSequence) -> Capacity:
    """p_c of Gaussian facts.

    Raises:
        NoCapacity: The margin is so large that not even two facts are held.
    """
    for_rank, for_distance = (np.random.default_rng(key) for key in seed.spawn(2))
    share = _rank_share(memory, for_rank)
    if memory.targets is not None:
        distance, method = _distance(memory, memory.targets, samples, for_distance)
        facts = _budget(memory, memory.targets) * share / distance.mean
        if facts < FEWEST:
            raise NoCapacity
        return _capacity(memory, facts, distance, share, method, memory.targets)
    facts = _meeting_point(memory, share, 1.0)
    distance, method = Estimate(0.0, 0.0), ""
    for _ in range(ROUNDS):
        near = max(2, round(facts))
        distance, method = _distance(memory, near, samples, for_distance)
        if method == "mean_field":
            break
        facts = _meeting_point(memory, share, distance.mean / mean_field_sq_distance(math.log(near)))
        if abs(facts - near) < 0.05 * near:
            break
    return _capacity(memory, facts, distance, share, method, facts)


def _capacity(memory: Memory, facts: float, distance: Estimate, share: float, method: str, targets: float) -> Capacity:
    constant = facts * math.log(targets) / (memory.input_dim * memory.output_dim)
    return Capacity(facts, distance, share, constant, method)


def _rank_share(memory: Memory, rng: np.random.Generator) -> float:
    rows, columns, hidden = memory.output_dim, memory.input_dim, memory.hidden_dim
    if hidden >= min(rows, columns):
        return 1.0
    return rank_factor(hidden / rows) if rows == columns else sampled_rank_factor(rows, columns, hidden, rng)


def _budget(memory: Memory, targets: float) -> float:
    return memory.input_dim * min(memory.output_dim, targets - 1)


def _distance(memory: Memory, targets: int, samples: int, rng: np.random.Generator) -> tuple[Estimate, str]:
    if memory.margin > 0:
        found = finite_sq_distance(memory.output_dim, targets, memory.margin, min(samples, MARGIN_SAMPLES), rng)
        return found, "finite_dimension"
    if targets <= POOLING_LIMIT:
        return expected_sq_distance(targets, 0.0, samples, rng), "pooling_mc"
    return Estimate(mean_field_sq_distance(math.log(targets)), 0.0), "mean_field"


def _meeting_point(memory: Memory, share: float, correction: float) -> float:
    """p with p·E(p) = budget(p), where E is the mean-field form times a constant: its slope is right, its level not."""
    if not math.isfinite(correction):
        raise NoCapacity

    def excess(facts: float) -> float:
        distance = correction * mean_field_sq_distance(math.log(facts))
        return math.log(facts * distance / (share * _budget(memory, facts)))

    if excess(FEWEST) >= 0:
        raise NoCapacity
    root: Any = brentq(excess, FEWEST, 1e3 + 4.0 * memory.input_dim * memory.output_dim, xtol=1e-9)
    return float(root)
