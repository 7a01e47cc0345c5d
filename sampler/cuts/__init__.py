"""Cut laws: where a step cuts the trace.

A law gives each position a weight w_t ≥ 0; the cut is drawn as c(m|x) = w_m / Z(x), Z(x) = Σ_{t<n} w_t.
Two conditions hold for every law in this registry, and the acceptance ratio relies on both:

1. w_t is a function of rows 0..t alone, never of token t or of anything later. Then w_m is common to
   a trace and to every proposal cut from it at m, and the cut term of the ratio is log Z(x) − log Z(x').
2. Weights are never negative, so Z grows with the trace and c(m|·) at a fixed m can only fall.
   Then the running bound of early rejection is a bound.

A law is an incremental function: `advance` takes the state after t positions and row t.
"""

import math
from typing import NamedTuple, Protocol

import numpy as np

from sampler.cuts.entropy import EntropyCut
from sampler.cuts.uniform import UniformCut
from sampler.errors import InvalidParams
from sampler.row import Floats


class CutState(NamedTuple):
    """A law's running values after `length` rows: the last row's entropy, log w and log Z (nats)."""

    length: int = 0
    entropy: float = 0.0
    log_weight: float = -np.inf
    log_norm: float = -np.inf


class CutLaw(Protocol):
    """A cut law with its parameters bound."""

    def advance(self, length: int, entropy_before: float, log_norm: float, entropy: float) -> tuple[float, float]:
        """(log w_t, log Z_t) at t = `length`, from log Z_{t−1}, H_{t−1} (0 before the first) and H_t."""
        ...


CUTS = {
    "entropy": EntropyCut,
    "uniform": UniformCut,
}


def cut_law(name: str, cut_power: float) -> CutLaw:
    """The law `name` with exponent β = `cut_power`."""
    if name not in CUTS:
        raise InvalidParams("cut", f"unknown cut law {name!r}; choose one of {', '.join(sorted(CUTS))}")
    return CUTS[name](cut_power)


def advance(law: CutLaw, state: CutState, entropy: float) -> CutState:
    """The state after one more row."""
    log_weight, log_norm = law.advance(state.length, state.entropy, state.log_norm, entropy)
    return CutState(state.length + 1, entropy, log_weight, log_norm)


def draw_cut(log_norm: Floats, u: float) -> int:
    """The position that u ∈ (0, 1] picks under c(·|x), from the running log Z_t, shape [tokens]."""
    return int(np.searchsorted(log_norm, math.log(u) + float(log_norm[-1]), side="left"))
