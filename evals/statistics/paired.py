"""Two arms on the same problems: clustered McNemar test, exact sign test and exact sign-flip test.

With a_i = (answers to problem i that only the first arm got right) − (those that only the second did), no difference
means that a_i and −a_i are equally likely.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest, norm


class Paired(NamedTuple):
    """What the tests say. p-values are two-sided; `wins`, `losses` and `ties` count problems."""

    wins: int
    losses: int
    ties: int
    mcnemar_z: float
    mcnemar_p: float
    sign_p: float
    sign_p_one_sided: float
    flip_p: float


def compare(differences: Sequence[int]) -> Paired:
    """All tests on the problems' a_i. Without a discordant problem every p is 1."""
    wins = sum(each > 0 for each in differences)
    losses = sum(each < 0 for each in differences)
    z, p = clustered_mcnemar(differences)
    two_sided, one_sided = sign_test(wins, losses)
    return Paired(wins, losses, len(differences) - wins - losses, z, p, two_sided, one_sided, sign_flip(differences))


def clustered_mcnemar(differences: Sequence[int]) -> tuple[float, float]:
    """z = Σ a_i / √Σ a_i² and its two-sided normal p-value (Durkalski et al. 2003). Needs a few dozen a_i ≠ 0."""
    squares = sum(each * each for each in differences)
    if not squares:
        return 0.0, 1.0
    z = sum(differences) / math.sqrt(squares)
    return z, float(2 * norm.sf(abs(z)))


def sign_test(wins: int, losses: int) -> tuple[float, float]:
    """Exact p-values, two-sided and for "the first arm is better", from the problems on which the arms differ."""
    if not wins + losses:
        return 1.0, 1.0
    tests = [binomtest(wins, wins + losses, alternative=side) for side in ("two-sided", "greater")]
    return float(tests[0].pvalue), float(tests[1].pvalue)


def sign_flip(differences: Sequence[int]) -> float:
    """Exact two-sided p-value of |Σ a_i| when each a_i's sign is tossed: the clustered test for few problems.

    The distribution of the sum is the convolution of the two-point laws at ±a_i. For a_i in {−1, 0, 1} it is the sign
    test.
    """
    sizes = [abs(each) for each in differences if each]
    reach = sum(sizes)
    mass = np.zeros(2 * reach + 1)
    mass[reach] = 1.0
    for size in sizes:
        mass = (np.roll(mass, size) + np.roll(mass, -size)) / 2  # nothing wraps: `reach` is their sum
    sums = np.arange(-reach, reach + 1)
    return min(1.0, float(mass[np.abs(sums) >= abs(sum(differences))].sum()))
