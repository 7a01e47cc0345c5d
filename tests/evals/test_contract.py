"""The report's bounds and the analysis endpoint's are the same numbers, computed apart and compared over HTTP."""

from typing import Any

import httpx
import numpy as np
import pytest

from evals.statistics.bounds import (
    Bounds,
    Side,
    binomial_tail,
    binomial_tail_fixed,
    chernoff_kl,
    hoeffding_means,
    union_delta,
)
from evals.statistics.paired import sign_test

ROUTE = "/v1/analysis/benchmark-bounds"
CASES = [
    (0, 30, Side.TWO_SIDED, 1),
    (12, 30, Side.LOWER, 1),
    (12, 30, Side.TWO_SIDED, 8),
    (29, 30, Side.LOWER, 8),
    (30, 30, Side.UPPER, 1),
    (1, 1, Side.TWO_SIDED, 1),
    (120, 164, Side.TWO_SIDED, 1),
]
"""Few, since the server computes each in a process of its own."""


@pytest.fixture(scope="module")
def endpoint(powercut: str) -> Any:
    """Bounds by method, as the server computes them."""
    if httpx.post(f"{powercut}{ROUTE}", json={}).status_code == 404:
        pytest.skip("this server has no analysis endpoints")

    def ask(results: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        reply = httpx.post(f"{powercut}{ROUTE}", json={"results": results, "seed": 0, **more}, timeout=30)
        assert reply.status_code == 200, reply.text
        return reply.json()

    return ask


def single(correct: int, total: int) -> list[dict[str, Any]]:
    return [{"problem_id": str(i), "num_correct": int(i < correct), "num_samples": 1} for i in range(total)]


def several(corrects: list[int], totals: list[int]) -> list[dict[str, Any]]:
    pairs = enumerate(zip(corrects, totals, strict=True))
    return [{"problem_id": str(i), "num_correct": c, "num_samples": n} for i, (c, n) in pairs]


def same(reply: dict[str, Any], method: str, ours: Bounds) -> None:
    (found,) = [each for each in reply["bounds"] if each["method"] == method]
    assert (found["lower"], found["upper"]) == pytest.approx(tuple(ours), abs=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(("correct", "total", "side", "tried"), CASES)
def test_one_answer_a_problem(endpoint: Any, correct: int, total: int, side: Side, tried: int) -> None:
    reply = endpoint(single(correct, total), side=side, delta=0.1, num_configurations_tried=tried)
    spent = union_delta(0.1, tried)
    same(reply, "binomial_tail", binomial_tail(correct, total, spent, side))
    same(reply, "chernoff_kl", chernoff_kl(correct / total, total, spent, side))


@pytest.mark.slow
@pytest.mark.parametrize("edge", [1, 4, 8])
def test_several_answers_to_these_very_problems(endpoint: Any, edge: int) -> None:
    corrects = [int(c) for c in np.random.default_rng(edge).integers(0, edge, 30)]
    reply = endpoint(several(corrects, [8] * 30), side="two_sided", estimand="fixed_benchmark")
    same(reply, "binomial_tail", binomial_tail_fixed(sum(corrects), 240, 0.05))


@pytest.mark.slow
def test_unequally_many_answers_to_these_very_problems(endpoint: Any) -> None:
    rng = np.random.default_rng(1)
    corrects, totals = ([int(n) for n in rng.integers(*ends, 30)] for ends in ((0, 9), (8, 17)))
    reply = endpoint(several(corrects, totals), side="two_sided", estimand="fixed_benchmark")
    means = [c / n for c, n in zip(corrects, totals, strict=True)]
    same(reply, "hoeffding", hoeffding_means(means, totals))


def test_several_answers_to_problems_like_these(endpoint: Any) -> None:
    corrects = [int(c) for c in np.random.default_rng(2).integers(0, 17, 30)]
    reply = endpoint(several(corrects, [16] * 30), side="two_sided")
    same(reply, "chernoff_kl", chernoff_kl(sum(corrects) / 480, 30))


def test_the_sign_test(endpoint: Any) -> None:
    reply = endpoint(single(8, 30), baseline_results=single(3, 30))
    wins, losses = reply["paired_test"]["wins"], reply["paired_test"]["losses"]
    assert (wins, losses) == (5, 0)
    assert reply["paired_test"]["p_value_one_sided"] == pytest.approx(sign_test(wins, losses)[1])
