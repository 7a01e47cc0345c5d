"""Certificates for halfspaces in rational numbers: why a point must be positive, checked without any rounding.

A point x is positive under every halfspace {x : w·x ≥ b} (closed or open) that holds the positives p_i and not the
negatives q_j if and only if (x, 1) = Σ α_i (p_i, 1) − Σ β_j (q_j, 1) with α, β ≥ 0 (Farkas). A linear programme in
float64 proposes the few points with weights; the weights are then solved for in rationals, and a certificate is given
only if they solve the equations exactly and none is negative. So a float's rounding can lose a certificate, never make
one.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

Points = NDArray[np.float64]
SPREAD = 0.6180339887498949
"""Costs are spread by multiples of it, so that the programme's solution is unique."""
WEIGHTLESS = 1e-11
PROPOSALS = 30


class Certificate(NamedTuple):
    """Rational weights that prove a point positive.

    Attributes:
        positive: (index of a positive, α).
        negative: (index of a negative, β).
    """

    positive: list[tuple[int, Fraction]]
    negative: list[tuple[int, Fraction]]


def certify(positives: Points, negatives: Points, point: NDArray[np.float64]) -> Certificate | None:
    """A proof that `point` is positive, or None.

    Args:
        positives: P × d.
        negatives: N × d.
        point: d.
    """
    generators = np.vstack([lift(positives), -lift(negatives)])
    wanted = np.append(point, 1.0)
    equal = np.flatnonzero((generators[: len(positives)] == wanted).all(axis=1))
    if len(equal):
        return Certificate([(int(equal[0]), Fraction(1))], [])
    solved = _combine(generators, wanted)
    return None if solved is None else _split(solved, len(positives))


def contradiction(positives: Points, negatives: Points) -> Certificate | None:
    """A proof that no halfspace holds all positives and no negative: Σ α_i (p_i, 1) = Σ β_j (q_j, 1), Σβ = 1."""
    if not len(negatives):
        return None
    above = np.hstack([lift(positives), np.zeros((len(positives), 1))])
    below = np.hstack([-lift(negatives), np.ones((len(negatives), 1))])
    generators = np.vstack([above, below])
    solved = _combine(generators, np.append(np.zeros(generators.shape[1] - 1), 1.0))
    return None if solved is None else _split(solved, len(positives))


def lift(points: Points) -> Points:
    """Each point with a last coordinate of 1."""
    return np.hstack([points, np.ones((len(points), 1))])


def _split(solved: list[tuple[int, Fraction]], positives: int) -> Certificate:
    return Certificate(
        [(index, weight) for index, weight in solved if index < positives],
        [(index - positives, weight) for index, weight in solved if index >= positives],
    )


def _combine(generators: Points, wanted: NDArray[np.float64]) -> list[tuple[int, Fraction]] | None:
    """Non-negative rational weights with Σ weight · generator = wanted, or None.

    On a face, float64 proposes generators that are an ulp off it. Those whose exact weight is negative are left out of
    the next proposal; where the equations have no exact solution, the last one proposed is, as queries come after
    sample points and are the ones that were rounded.
    """
    allowed = np.arange(len(generators))
    for _ in range(PROPOSALS):
        chosen = _propose(generators[allowed], wanted)
        if chosen is None or not len(chosen):
            return None
        weights = solve_exactly(generators[allowed[chosen]], wanted)
        if weights is None:
            wrong = [int(chosen.max())]
        else:
            wrong = [int(index) for index, weight in zip(chosen, weights, strict=True) if weight < 0]
        if weights is not None and not wrong:
            found = zip(allowed[chosen].tolist(), weights, strict=True)
            return [(index, weight) for index, weight in found if weight > 0]
        allowed = np.delete(allowed, wrong)
    return None


def _propose(generators: Points, wanted: NDArray[np.float64]) -> NDArray[np.intp] | None:
    """At most as many independent generators as equations, by a linear programme in scaled numbers."""
    rows = np.abs(generators).max(axis=0)
    rows[rows == 0] = 1.0
    scaled, target = generators / rows, wanted / rows
    lengths = np.linalg.norm(scaled, axis=1)
    scaled = scaled / lengths[:, None]
    length = float(np.linalg.norm(target))
    costs = 1 + np.modf(SPREAD * np.arange(1, len(scaled) + 1))[0]
    found: Any = linprog(costs, A_eq=scaled.T, b_eq=target / length, bounds=(0, None), method="highs-ds")
    if found.status != 0:
        return None
    basic = np.flatnonzero(found.x > WEIGHTLESS)
    basic = basic[np.argsort(-found.x[basic])]
    reduced = np.abs(costs - scaled @ found.eqlin.marginals)
    reduced[basic] = -1.0
    return _independent(scaled, np.argsort(reduced, kind="stable")[: len(basic) + 2 * len(wanted)], len(basic))


def _independent(scaled: Points, order: NDArray[np.intp], sure: int) -> NDArray[np.intp]:
    """The first of `order` that are linearly independent, to fill a basis: degenerate ones get weight 0 or fail."""
    kept: list[int] = []
    basis = np.zeros((0, scaled.shape[1]))
    for position, index in enumerate(order.tolist()):
        rest = scaled[index] - basis.T @ (basis @ scaled[index])
        size = float(np.linalg.norm(rest))
        if size > (1e-12 if position < sure else 1e-6):
            rest = rest - basis.T @ (basis @ rest)
            basis = np.vstack([basis, rest / np.linalg.norm(rest)])
            kept.append(index)
        if len(kept) == scaled.shape[1]:
            break
    return np.array(kept, dtype=np.intp)


def solve_exactly(columns: Points, wanted: Sequence[float] | NDArray[np.float64]) -> list[Fraction] | None:
    """The one rational solution of Σ weight · column = wanted, or None if there is none or more than one.

    Args:
        columns: m × D: m columns of D numbers, taken as the exact rationals that their floats are.
        wanted: D numbers.
    """
    rows = [
        _integers([*column_row, value])
        for column_row, value in zip(np.asarray(columns).T.tolist(), np.asarray(wanted).tolist(), strict=True)
    ]
    unknowns = len(columns)
    previous = 1
    for pivot in range(unknowns):
        best = next((row for row in range(pivot, len(rows)) if rows[row][pivot]), None)
        if best is None:
            return None
        rows[pivot], rows[best] = rows[best], rows[pivot]
        head = rows[pivot]
        for row in range(pivot + 1, len(rows)):
            first = rows[row][pivot]
            rows[row] = [
                (head[pivot] * mine - first * theirs) // previous for mine, theirs in zip(rows[row], head, strict=True)
            ]  # Bareiss: the division has no remainder
        previous = head[pivot]
    if any(row[unknowns] for row in rows[unknowns:]):
        return None
    return _back_substitute(rows[:unknowns])


def _back_substitute(rows: list[list[int]]) -> list[Fraction]:
    unknowns = len(rows)
    solution = [Fraction(0)] * unknowns
    for index in range(unknowns - 1, -1, -1):
        known = sum((solution[later] * rows[index][later] for later in range(index + 1, unknowns)), start=Fraction(0))
        solution[index] = (rows[index][unknowns] - known) / rows[index][index]
    return solution


def _integers(row: list[float]) -> list[int]:
    """A row times the power of two that makes all its numbers whole."""
    ratios = [number.as_integer_ratio() for number in row]
    scale = max(denominator for _, denominator in ratios)
    return [numerator * (scale // denominator) for numerator, denominator in ratios]


DIGITS = 4000
"""Python turns no longer number into decimals in one piece."""


def decimal(number: int) -> str:
    """All digits of a whole number of any length."""
    if number < 0:
        return "-" + decimal(-number)
    if number < 10**DIGITS:
        return str(number)
    high, low = divmod(number, 10**DIGITS)
    return decimal(high) + str(low).zfill(DIGITS)


def write(weight: Fraction) -> str:
    """As p/q."""
    return f"{decimal(weight.numerator)}/{decimal(weight.denominator)}"
