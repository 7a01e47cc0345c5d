"""k-CNF, monotone DNF and finite classes: no false positives, the bounds' sizes, the sandwich VC / adaptive / none."""

import itertools
import json
from typing import Any

import numpy as np
import pytest

from service.analysis.frame import Context
from service.analysis.positive_query_learning import LEARNABILITY, POSITIVE_QUERY_LEARNING, boolean, learn, learnability
from service.analysis.positive_query_learning.finite import Finite
from service.analysis.positive_query_learning.schema import PositiveQueryReply


def analyse(body: dict[str, Any], seed: int = 0) -> PositiveQueryReply:
    request = POSITIVE_QUERY_LEARNING.request.model_validate_json(json.dumps(body))
    return learn.compute(request, Context(seed))


def all_vectors(variables: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.array(list(itertools.product([False, True], repeat=variables)))


def numbers(domain: int, concepts: list[list[int]]) -> tuple[int, int, int]:
    request = LEARNABILITY.request.model_validate({"domain_size": domain, "concepts": concepts})
    reply = learnability.compute(request, Context(None))
    return (
        reply.vc_dimension,
        reply.adaptive_query_compression_size,
        reply.no_query_compression_size,
    )


def co_singletons(size: int, address_bits: int = 0) -> list[list[int]]:
    """All points but one, and, if wished, the missing one's number spelled out on further points."""
    return [
        [x for x in range(size) if x != missing] + [size + bit for bit in range(address_bits) if missing >> bit & 1]
        for missing in range(size)
    ]


def conjunctions() -> list[list[int]]:
    """What conjunctions of literals on two bits hold of the four points."""
    found = set()
    for wanted in itertools.product([None, False, True], repeat=2):
        held = [all(b in (None, a) for a, b in zip(point, wanted, strict=True)) for point in all_vectors(2)]
        found.add(tuple(number for number, one in enumerate(held) if one))
    return [list(one) for one in sorted(found)]


@pytest.mark.parametrize(
    ("domain", "concepts", "expected"),
    [
        (6, [list(range(start, 6)) for start in range(7)], (1, 1, 1)),
        (6, [[], *(list(range(i, j)) for i in range(6) for j in range(i + 1, 7))], (2, 2, 2)),
        (4, conjunctions(), (2, 2, 2)),
        (4, co_singletons(4), (1, 2, 3)),
        (6, co_singletons(6), (1, 3, 5)),
        (8, co_singletons(8), (1, 4, 7)),
        (6, co_singletons(4, 2), (2, 2, 3)),
        (11, co_singletons(8, 3), (3, 3, 7)),
    ],
)
def test_the_finite_sandwich(domain: int, concepts: list[list[int]], expected: tuple[int, int, int]) -> None:
    assert numbers(domain, concepts) == expected


def test_the_witness_forces_the_adaptive_size() -> None:
    finite = Finite(4, [sum(1 << x for x in concept) for concept in co_singletons(4)])
    found = finite.numbers()
    assert finite.adaptive_size(found.witness, 0, 4) == found.aqc == 2


def brute_adaptive(finite: Finite, sample: int, consistent: int) -> int:
    """The minimax, without pruning or memory."""
    best = finite.kept_size(sample, consistent)
    holders = finite.members(sample)
    for holding in finite.holding:
        parts = [part for part in (consistent & holding, consistent & ~holding) if part & holders]
        if best > 1 and consistent not in parts:
            best = min(best, 1 + max(brute_adaptive(finite, sample, part) for part in parts))
    return best


def test_the_search_agrees_with_a_plain_minimax() -> None:
    rng = np.random.default_rng(2)
    for _ in range(12):
        masks = sorted({int(mask) for mask in rng.integers(32, size=7)})
        finite = Finite(5, masks)
        plain = max(brute_adaptive(finite, sample, finite.everything) for sample in finite.samples())
        assert finite.numbers().aqc == plain


def clause_target(rng: np.random.Generator, variables: int, count: int) -> list[list[int]]:
    found = []
    for _ in range(count):
        chosen = rng.choice(variables, 2, replace=False) + 1
        found.append([int(variable * sign) for variable, sign in zip(chosen, rng.choice([-1, 1], 2), strict=True)])
    return found


@pytest.mark.parametrize("trials", [3, pytest.param(20, marks=pytest.mark.long)])
def test_k_cnf(trials: int) -> None:
    """t = 8, k = 2: 128 clauses, n = 2607 for ε = δ = 0.1."""
    rng = np.random.default_rng(4)
    everything = all_vectors(8)
    for _ in range(trials):
        clauses = clause_target(rng, 8, 3)
        inside = boolean.satisfies([tuple(clause) for clause in clauses], everything)
        pool = everything[inside]
        sample = pool[rng.integers(len(pool), size=2607)].astype(int).tolist()
        body = {"concept_class": "k_cnf", "positive_examples": sample, "epsilon": 0.1, "delta": 0.1}
        reply = analyse(body | {"oracle": {"type": "target", "clauses": clauses}})
        assert reply.hypothesis is not None
        assert reply.hypothesis.clauses is not None
        accepted = boolean.satisfies([tuple(clause) for clause in reply.hypothesis.clauses], everything)
        assert not (accepted & ~inside).any()
        assert (inside & ~accepted).sum() <= 0.1 * inside.sum()
        assert reply.positives_needed is not None
        assert reply.positives_needed <= 2607
        assert reply.false_negative_upper_bound is not None
        assert reply.false_negative_upper_bound <= 0.1


def test_valiants_sample_size() -> None:
    assert boolean.samples_needed(128, 0.1, 0.1) < 2 * 10 * (128 + np.log(10)) < 2607
    for mistakes, epsilon, delta in ((1, 0.05, 0.05), (5, 0.1, 0.1), (128, 0.1, 0.1)):
        needed = boolean.samples_needed(mistakes, epsilon, delta)
        assert boolean.error_bound(mistakes, needed, delta) <= epsilon
        assert boolean.error_bound(mistakes, needed - 1, delta) > epsilon


@pytest.mark.parametrize("trials", [3, pytest.param(20, marks=pytest.mark.long)])
def test_monotone_dnf(trials: int) -> None:
    """t = 14 variables, 5 terms, n = 147 for ε = δ = 0.1; at most D·t queries."""
    rng = np.random.default_rng(5)
    everything = all_vectors(14)
    for _ in range(trials):
        terms = [sorted(int(one) + 1 for one in rng.choice(14, 3, replace=False)) for _ in range(5)]
        inside = boolean.covered(terms, everything)
        pool = everything[inside]
        sample = pool[rng.integers(len(pool), size=147)].astype(int).tolist()
        body = {"concept_class": "monotone_dnf", "positive_examples": sample, "epsilon": 0.1, "delta": 0.1}
        reply = analyse(body | {"num_terms": 5, "oracle": {"type": "target", "terms": terms}})
        assert reply.hypothesis is not None
        accepted = boolean.covered(reply.hypothesis.terms or [], everything)
        assert not (accepted & ~inside).any()
        assert (inside & ~accepted).sum() <= 0.1 * inside.sum()
        assert reply.queries_used <= 5 * 14
        assert reply.false_negative_upper_bound is not None
        assert reply.false_negative_upper_bound <= 0.1


def test_a_finite_class_is_asked_until_the_certificate_is_small() -> None:
    concepts = co_singletons(8, 3)
    sample = [x for x in range(8) if x != 5] * 20
    body = {"concept_class": "finite", "domain_size": 11, "concepts": concepts, "positive_examples": sample}
    asked = analyse(body | {"oracle": {"type": "target", "concept": 5}, "epsilon": 0.1, "classify": [5, 6]})
    assert asked.hypothesis is not None
    assert set(asked.hypothesis.elements or []) <= set(concepts[5])
    assert asked.classified == [False, True]
    assert asked.compression_size is not None
    assert asked.compression_size == 1, "the one question about the missing point stands for seven points"
    assert asked.false_negative_upper_bound is not None
    plenty = analyse(body | {"oracle": {"type": "target", "concept": 5}, "epsilon": 0.9})
    assert plenty.queries_used == 0, "a looser epsilon needs no question"
    few = body | {"positive_examples": [0, 8], "max_queries": 0, "epsilon": 0.01}
    none = analyse(few | {"oracle": {"type": "target", "concept": 5}})
    assert "budget_ended" in {one.code for one in none.warnings}
    assert none.hypothesis is not None
    assert 5 not in (none.hypothesis.elements or [])


def test_the_finite_learner_never_accepts_a_negative() -> None:
    rng = np.random.default_rng(6)
    for trial in range(30):
        masks = sorted({int(mask) for mask in rng.integers(1, 64, size=9)})
        concepts = [[x for x in range(6) if mask >> x & 1] for mask in masks]
        target = int(rng.integers(len(concepts)))
        sample = rng.choice(concepts[target], size=4).tolist()
        body = {"concept_class": "finite", "domain_size": 6, "concepts": concepts, "positive_examples": sample}
        reply = analyse(body | {"oracle": {"type": "target", "concept": target}}, trial)
        assert reply.hypothesis is not None
        assert set(sample) <= set(reply.hypothesis.elements or []) <= set(concepts[target])
