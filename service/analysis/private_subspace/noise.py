"""What OpenDP does well: exact discrete noise, with its privacy map as the accountant. Part of the extra `analysis`.

Two mechanisms: Gaussian noise on the matrix of second moments (Dwork, Talwar, Thakurta and Zhang, "Analyze Gauss",
2014), which always answers, and the stable histogram, which names a cell that most votes are for, or none.
"""

import math
from collections import Counter
from hashlib import sha256
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

UNIT = 1 << 15
"""Rows become integers in units of bound / 2^15, so that noise and sum are exact."""
MOVED_VOTE = (2, 2, 1)
"""One vote moved changes two counts, by 2 in all and by 1 at most: OpenDP's l01inf distance."""
SEARCH_STEPS = 60


class Spent(NamedTuple):
    """What a mechanism costs, by OpenDP's privacy map."""

    epsilon: float
    delta: float


def is_installed() -> bool:
    """Whether OpenDP is there."""
    return find_spec("opendp") is not None


def prelude() -> Any:
    """OpenDP, with the parts that it has not vetted itself."""
    import opendp.prelude as dp
    from opendp.mod import enable_features

    enable_features("contrib")
    return dp


def integer_rows(rows: NDArray[np.float64], bound: float) -> NDArray[np.int64]:
    """Rows in units of bound / 2^15, shortened to a norm of at most 2^15 by rounding towards zero."""
    norms = np.linalg.norm(rows / bound, axis=1, keepdims=True)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.trunc(rows / bound / np.maximum(1.0, norms) * (UNIT * (1 - 1e-12)))
    whole = np.where(np.isfinite(scaled), scaled, 0.0).astype(np.int64)
    whole[(whole * whole).sum(axis=1) > UNIT * UNIT] = 0  # cannot be, and must not be
    return whole


def noisy_moments(rows: NDArray[np.int64], epsilon: float, delta: float) -> tuple[NDArray[np.float64], Spent]:
    """XᵀX with discrete Gaussian noise, in units of 2^−30 bound², [d, d].

    Replacing a row of norm at most 2^15 moves the matrix by at most √2 · 2^30 in Frobenius norm.
    """
    dp = prelude()
    size = rows.shape[1]
    upper = np.triu_indices(size)
    sensitivity = math.nextafter(math.sqrt(2) * UNIT * UNIT, math.inf)

    def mechanism(scale: float, length: int) -> Any:
        space = dp.vector_domain(dp.atom_domain(T="i64"), size=length), dp.l2_distance(T="f64")
        zcdp = dp.m.make_gaussian(*space, scale=scale)
        return dp.c.make_fix_delta(dp.c.make_zCDP_to_approxDP(zcdp), delta=delta)

    scale = smallest(lambda candidate: mechanism(candidate, 1).check(sensitivity, (epsilon, delta)), sensitivity / 4)
    chosen = mechanism(scale, len(upper[0]))
    noisy = np.array(chosen((rows.T @ rows)[upper].tolist()), dtype=np.float64)
    full = np.zeros((size, size))
    full[upper] = noisy
    return np.triu(full) + np.triu(full, 1).T, Spent(*chosen.map(sensitivity))


def smallest(holds: Any, start: float) -> float:
    """A number above `start` for which a monotone condition holds, at most a millionth too large."""
    above = start
    while not holds(above):
        above *= 2
    below = above / 2
    for _ in range(SEARCH_STEPS):
        if above - below <= 1e-6 * below or above == start:
            break
        middle = (below + above) / 2
        below, above = (below, middle) if holds(middle) else (middle, above)
    return above


def stable_cell(votes: Counter[bytes], epsilon: float, delta: float) -> tuple[bytes | None, Spent]:
    """The cell that the stable histogram says is most voted for, if it says any."""
    dp = prelude()
    space = (
        dp.map_domain(dp.atom_domain(T=str), dp.atom_domain(T="i32")),
        dp.l01inf_distance(dp.absolute_distance(T="i32")),
    )

    def mechanism(limit: int) -> Any:
        return dp.m.make_laplace_threshold(*space, scale=2 / epsilon * (1 + 1e-12), threshold=limit)

    def spent(limit: int) -> Spent:
        return Spent(*mechanism(limit).map(MOVED_VOTE))

    limit = lowest_threshold(lambda candidate: spent(candidate).delta <= delta)
    names = {sha256(key).hexdigest(): key for key in votes}
    seen = mechanism(limit)({name: votes[key] for name, key in names.items()})
    best = max(seen, key=lambda name: (seen[name], name), default=None)
    return (None if best is None else names[best]), spent(limit)


def lowest_threshold(holds: Any) -> int:
    """The least positive integer for which a monotone condition holds."""
    above = 1
    while not holds(above):
        above *= 2
    below = above // 2
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if holds(middle) else (middle, above)
    return above
