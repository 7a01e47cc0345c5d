"""Valiant's 1984 classes: k-CNF from positives alone, monotone DNF from positives and queries.

A clause is a disjunction of literals, a literal +i or −i for variable i counted from 1. Both hypotheses are subsets of
every target that fits, so neither ever passes a negative.
"""

from collections.abc import Callable, Sequence
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr
from scipy.stats import beta

from service.analysis.positive_query_learning.dialogue import Dialogue, OutOfQueries

Vectors = NDArray[np.bool_]
Clause = tuple[int, ...]


def clauses_of(variables: int, width: int) -> list[Clause]:
    """All clauses of at most `width` literals, none with a variable and its negation."""
    return [
        tuple(sign * (index + 1) for sign, index in zip(signs, chosen, strict=True))
        for size in range(1, width + 1)
        for chosen in combinations(range(variables), size)
        for signs in product((1, -1), repeat=size)
    ]


def falsified(clauses: Sequence[Clause], vectors: Vectors) -> NDArray[np.bool_]:
    """Whether some vector makes all literals of a clause false, for each clause."""
    found = np.zeros(len(clauses), bool)
    for number, clause in enumerate(clauses):
        columns = [abs(literal) - 1 for literal in clause]
        values = np.array([literal > 0 for literal in clause])
        found[number] = bool((vectors[:, columns] != values).all(axis=1).any())
    return found


def learn_cnf(positives: Vectors, width: int) -> list[Clause]:
    """The conjunction of all clauses that no positive falsifies."""
    clauses = clauses_of(positives.shape[1], width)
    wrong = falsified(clauses, positives)
    return [clause for clause, gone in zip(clauses, wrong, strict=True) if not gone]


def satisfies(clauses: Sequence[Clause], vectors: Vectors) -> NDArray[np.bool_]:
    """Whether each vector satisfies all clauses."""
    found = np.ones(len(vectors), bool)
    for clause in clauses:
        columns = [abs(literal) - 1 for literal in clause]
        found &= (vectors[:, columns] == np.array([literal > 0 for literal in clause])).any(axis=1)
    return found


def covered(terms: Sequence[Sequence[int]], vectors: Vectors) -> NDArray[np.bool_]:
    """Whether each vector satisfies some term: all variables of it, counted from 1, are true."""
    found = np.zeros(len(vectors), bool)
    for term in terms:
        found |= vectors[:, [variable - 1 for variable in term]].all(axis=1)
    return found


def learn_dnf(positives: Vectors, dialogue: Dialogue, terms: list[list[int]], report: Callable[[float], None]) -> bool:
    """For each positive that no term covers: drop ones as long as the answer stays yes; what is left is a term.

    Args:
        positives: n × t.
        dialogue: Answers queries.
        terms: Filled, so that it survives a missing answer.
        report: Told the share of positives done.

    Returns:
        Whether every positive was covered within the budget.
    """
    for number, vector in enumerate(positives):
        if covered(terms, vector[None])[0]:
            continue
        report(number / len(positives))
        shrunk = vector.copy()
        for index in np.flatnonzero(vector):
            shrunk[index] = False
            try:
                answer = dialogue.ask([shrunk.astype(float).tolist()])[0]
            except OutOfQueries:
                return False
            shrunk[index] = not answer.label
        terms.append([int(index) + 1 for index in np.flatnonzero(shrunk)])
    return True


def samples_needed(mistakes: int, epsilon: float, delta: float) -> int:
    """L: trials of probability ε that give `mistakes` successes but with probability δ. At most 2/ε (S + ln(1/δ))."""
    low, high = mistakes - 1, mistakes
    while bdtr(mistakes - 1, high, epsilon) > delta:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if bdtr(mistakes - 1, middle, epsilon) <= delta else (middle, high)
    return high


def error_bound(mistakes: int, samples: int, delta: float) -> float:
    """The ε at which `samples` are just enough: Pr[positive refused] ≤ it, except with probability δ."""
    if mistakes > samples:
        return 1.0
    return float(beta.ppf(1 - delta, mistakes, samples - mistakes + 1))
