"""The exact case: most rows lie in one k-dimensional subspace of Q^d, and that subspace is released as it is.

The score of a subspace s is u(s) = |rows in s| − max |rows in t| over (k−1)-dimensional t inside s. One row moves it by
at most 1, and at most one s has u > n/2 (analysis of "Privately Learning Subspaces", arXiv 2106.00001; derived anew).

Both statements need linear algebra without rounding. Rows are projected by a random matrix to k+1 columns over the
field of 2^255 − 19 elements: ranks of up to k+1 rows stay what they are over Q, but for a chance below 2^−130, since
a (k+1)-minor of entries below 2^30 is smaller than the prime. So the cost hardly depends on d. The basis itself comes
from the rows by fractions: no rational number is guessed from a residue.
"""

import random
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from math import ceil, log
from typing import NamedTuple

PRIME = (1 << 255) - 19
ENTRY_LIMIT = 1 << 30
"""Entries are smaller in magnitude than this; a row with a larger one counts as a zero row."""
LARGEST_DIM = 7
"""Up to here Hadamard's bound on a (k+1)-minor, (k+1)^((k+1)/2) · 2^(30(k+1)), is below the prime."""
MISS = Decimal("1e-9")
"""Probability with which the search may overlook the subspace; the ranks' own chance, 2^−130, is far below."""

Vector = Sequence[int]


class Found(NamedTuple):
    """The best subspace: rows that span it, and its score."""

    spanning: tuple[int, ...]
    score: int


def num_draws(k: int) -> int:
    """Random k-subsets of rows to try: each spans a subspace with u > n/2 with probability above 2^−k."""
    return ceil(2**k * log(1 / MISS))


def project(rows: Sequence[Vector], width: int, source: random.Random) -> list[list[int]]:
    """The rows times a random matrix with `width` columns, over the field."""
    columns = [[source.getrandbits(254) for _ in rows[0]] for _ in range(width)]
    return [[dot(row, column) for column in columns] for row in rows]


def dot(first: Vector, second: Vector) -> int:
    """The inner product over the field."""
    return sum(a * b for a, b in zip(first, second, strict=True) if a) % PRIME


def normal(rows: Sequence[Vector]) -> list[int] | None:
    """The vector orthogonal to k independent rows of k+1 entries, up to a factor; None if they are dependent."""
    width = len(rows[0])
    work = [list(row) for row in rows]
    pivots: list[int] = []
    for step in range(len(rows)):
        place = next(((i, j) for j in range(width) for i in range(step, len(rows)) if work[i][j]), None)
        if place is None:
            return None
        row, column = place
        work[step], work[row] = work[row], work[step]
        inverse = pow(work[step][column], -1, PRIME)
        work[step] = [entry * inverse % PRIME for entry in work[step]]
        for i, other in enumerate(work):
            if i != step and other[column]:
                factor = other[column]
                work[i] = [(a - factor * b) % PRIME for a, b in zip(other, work[step], strict=True)]
        pivots.append(column)
    free = next(j for j in range(width) if j not in pivots)
    found = [0] * width
    found[free] = 1
    for row, column in zip(work, pivots, strict=True):
        found[column] = -row[free] % PRIME
    return found


def largest_hyperplane(points: Sequence[Vector], enough: int) -> int:
    """Most of the points (vectors of k entries) in one (k−1)-dimensional subspace, or any count of `enough` or more.

    A subspace that holds a point corresponds to one of dimension k−2 of the space seen from that point, so the points
    are projected from each of them in turn, down to a plane, where lines are counted. About n^(k−1) operations.
    """
    if len(points[0]) == 1:
        return sum(not point[0] for point in points)
    if len(points[0]) == 2:
        return most_on_a_line(points)
    seen: set[int] = set()
    best = sum(not any(point) for point in points)
    for index, point in enumerate(points):
        if index in seen or not any(point):
            continue
        if best >= enough:
            break
        projected = seen_from(point, points)
        seen.update(i for i, other in enumerate(projected) if not any(other))  # the same line: the same answer
        best = max(best, largest_hyperplane(projected, enough))
    return best


def most_on_a_line(points: Sequence[Vector]) -> int:
    """Most points of a plane on one line through 0."""
    zeros = sum(not any(point) for point in points)
    upright = sum(x == 0 != y for x, y in points)
    sloped = [point for point in points if point[0]]
    reciprocals = inverses([x for x, _ in sloped])
    slopes = Counter(y * inverse % PRIME for (_, y), inverse in zip(sloped, reciprocals, strict=True))
    return zeros + max(upright, *slopes.values(), 0)


def inverses(numbers: Vector) -> list[int]:
    """The reciprocals of numbers that are not 0, for the price of one and three products each."""
    partial = [1]
    for number in numbers:
        partial.append(partial[-1] * number % PRIME)
    rest = pow(partial.pop(), -1, PRIME)
    found: list[int] = []
    for number in reversed(numbers):
        found.append(rest * partial.pop() % PRIME)
        rest = rest * number % PRIME
    return found[::-1]


def seen_from(point: Vector, points: Sequence[Vector]) -> list[list[int]]:
    """The points modulo the line of one of them, with one entry fewer."""
    lead = next(j for j, entry in enumerate(point) if entry)
    inverse = pow(point[lead], -1, PRIME)
    slope = [entry * inverse % PRIME for entry in point]
    kept = [j for j in range(len(point)) if j != lead]
    return [[(other[j] - other[lead] * slope[j]) % PRIME for j in kept] for other in points]


def search(rows: Sequence[Vector], k: int, source: random.Random) -> Found | None:
    """The subspace with u > n/2, if there is one; otherwise None, or one whose score is no more than n/2.

    A score that cannot exceed n/2 is not worked out to the end: its margin is 0 either way.
    """
    points = project(rows, k + 1, source)
    candidates: dict[tuple[int, ...], tuple[tuple[int, ...], int]] = {}
    for _ in range(num_draws(k)):
        drawn = tuple(source.sample(range(len(rows)), k))
        across = normal([points[i] for i in drawn])
        if across is None:
            continue
        members = tuple(i for i, point in enumerate(points) if dot(across, point) == 0)
        if 2 * len(members) > len(rows):
            dropped = next(j for j, entry in enumerate(across) if entry)
            candidates.setdefault(members, (drawn, dropped))
    found: list[Found] = []
    for members, (drawn, dropped) in candidates.items():
        inside = [without(points[i], dropped) for i in members]
        enough = len(members) - len(rows) // 2  # so many rows in one hyperplane leave u ≤ n/2
        found.append(Found(drawn, len(members) - largest_hyperplane(inside, enough)))
    return max(found, key=lambda one: one.score, default=None)


def without(point: Vector, dropped: int) -> list[int]:
    """A point of the hyperplane in k coordinates: one of the k+1 follows from the others."""
    return [entry for j, entry in enumerate(point) if j != dropped]


def margin(found: Found | None, num_rows: int) -> Fraction:
    """g = u − n/2, 0 if nothing was found."""
    return Fraction(0) if found is None else max(Fraction(0), found.score - Fraction(num_rows, 2))


def echelon(rows: Sequence[Vector]) -> list[list[Fraction]]:
    """The reduced row echelon form over Q: the one basis that depends on the subspace alone."""
    work = [[Fraction(entry) for entry in row] for row in rows]
    step = 0
    for column in range(len(work[0])):
        lead = next((i for i in range(step, len(work)) if work[i][column]), None)
        if lead is None:
            continue
        work[step], work[lead] = work[lead], work[step]
        pivot = work[step][column]
        work[step] = [entry / pivot for entry in work[step]]
        for i, other in enumerate(work):
            if i != step and other[column]:
                factor = other[column]
                work[i] = [a - factor * b if b else a for a, b in zip(other, work[step], strict=True)]
        step += 1
        if step == len(work):
            break
    return work
