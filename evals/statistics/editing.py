"""Edit distances of many pairs of token sequences at once."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

PADDING = -1
"""Fills short sequences; no token id is negative, and nothing behind a sequence's end is looked at."""


def edit_distances(sequences: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Levenshtein distances of all pairs, in the order of `itertools.combinations`; shape (pairs,).

    The table of each pair is walked along its anti-diagonals, on which no entry depends on another, for all pairs
    together: cell (i, j) on diagonal k = i + j is one more than its neighbours on k − 1, or that on k − 2 plus whether
    the tokens differ.
    """
    pairs = list(combinations(range(len(sequences)), 2))
    if not pairs:
        return np.zeros(0, np.int64)
    lengths = np.array([len(each) for each in sequences])
    longest = int(lengths.max())
    padded = np.full((len(sequences), longest), PADDING, np.int64)
    for row, each in zip(padded, sequences, strict=True):
        row[: len(each)] = each
    first, second = np.array(pairs).T
    a, b = padded[first], padded[second]
    ends, diagonals = lengths[first], lengths[first] + lengths[second]
    found = np.where(diagonals == 0, 0, PADDING)
    before, last = np.zeros((2, len(pairs), longest + 1), np.int64)
    for k in range(1, int(diagonals.max()) + 1):
        here = np.full_like(last, k)  # the borders: i = 0 or j = 0
        i = np.arange(max(1, k - longest), min(longest, k - 1) + 1)
        if len(i):
            differ = a[:, i - 1] != b[:, k - i - 1]
            here[:, i] = np.minimum(np.minimum(last[:, i - 1], last[:, i]) + 1, before[:, i - 1] + differ)
        done = diagonals == k
        found[done] = here[done, ends[done]]
        before, last = last, here
    return found


def mean_normalised_distance(sequences: Sequence[Sequence[int]]) -> float | None:
    """Mean over pairs of distance ÷ the longer length: 0 for equal sequences, 1 for nothing in common; None for one."""
    if len(sequences) < 2:
        return None
    longer = np.array([max(len(a), len(b), 1) for a, b in combinations(sequences, 2)])
    return float((edit_distances(sequences) / longer).mean())
