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
COUNTS = [(0, 30), (1, 30), (12, 30), (29, 30), (30, 30), (1, 1), (120, 164), (497, 500)]


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


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize(("correct", "total"), COUNTS)
def test_one_answer_a_problem(endpoint: Any, correct: int, total: int, side: Side) -> None:
    for tried, delta in ((1, 0.05), (8, 0.1)):
        reply = endpoint(single(correct, total), side=side, delta=delta, num_configurations_tried=tried)
        spent = union_delta(delta, tried)
        same(reply, "binomial_tail", binomial_tail(correct, total, spent, side))
        same(reply, "chernoff_kl", chernoff_kl(correct / total, total, spent, side))


@pytest.mark.parametrize("side", list(Side))
def test_several_answers_to_these_very_problems(endpoint: Any, side: Side) -> None:
    rng = np.random.default_rng(1)
    corrects = [int(c) for c in rng.integers(0, 9, 30)]
    reply = endpoint(several(corrects, [8] * 30), side=side, estimand="fixed_benchmark")
    same(reply, "binomial_tail", binomial_tail_fixed(sum(corrects), 240, 0.05, side))
    totals = [int(n) for n in rng.integers(8, 17, 30)]
    reply = endpoint(several(corrects, totals), side=side, estimand="fixed_benchmark")
    means = [c / n for c, n in zip(corrects, totals, strict=True)]
    same(reply, "hoeffding", hoeffding_means(means, totals, 0.05, side))


@pytest.mark.parametrize("side", list(Side))
def test_several_answers_to_problems_like_these(endpoint: Any, side: Side) -> None:
    corrects = [int(c) for c in np.random.default_rng(2).integers(0, 17, 30)]
    reply = endpoint(several(corrects, [16] * 30), side=side)
    same(reply, "chernoff_kl", chernoff_kl(sum(corrects) / 480, 30, 0.05, side))


def test_the_sign_test(endpoint: Any) -> None:
    reply = endpoint(single(8, 30), baseline_results=single(3, 30))
    wins, losses = reply["paired_test"]["wins"], reply["paired_test"]["losses"]
    assert (wins, losses) == (5, 0)
    assert reply["paired_test"]["p_value_one_sided"] == pytest.approx(sign_test(wins, losses)[1])
