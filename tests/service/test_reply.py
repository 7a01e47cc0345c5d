"""What a reply says of its chains and of their cost, and that it is the same each time."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.service.checks import GOOD

POWER: dict[str, Any] = {"alpha": 3.0, "blocks": 2, "steps_per_block": 4}


def ask(http: httpx.Client, power: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """The reply to a good request."""
    reply = http.post("/v1/completions", json=GOOD | {"power": POWER | (power or {})} | fields)
    assert reply.status_code == 200, reply.text[:500]
    return json.loads(reply.text, parse_constant=lambda name: pytest.fail(f"{name} in a reply"))


def answers(reply: dict[str, Any]) -> list[list[int]]:
    """Each answer's tokens."""
    return [choice["power"]["token_ids"] for choice in reply["choices"]]


def test_a_choice_reports_its_chain(http: httpx.Client) -> None:
    choice = ask(http, n=2)["choices"][1]

    assert choice.keys() == {"index", "text", "logprobs", "finish_reason", "power"}
    power = choice["power"]
    assert power["method"] == "entropy_cut"
    assert power["mode"] == "exact"
    assert power["seed"] == GOOD["seed"]
    assert power["chain_index"] == choice["index"] == 1
    assert power["ended_by"] == "completed"
    assert power["stage"] == power["stages"] == 2
    assert power["steps"] == power["steps_planned"] == 8
    assert power["finished"] == (choice["finish_reason"] == "stop")
    assert power["log_p"] < 0
    assert "chain" not in power


@pytest.mark.table
def test_usage_counts_every_token(http: httpx.Client) -> None:
    usage = ask(http, n=32, prompt=["a", "bb"])["usage"]

    power = usage["power"]
    assert usage["prompt_tokens"] == 3
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert power.keys() >= {
        *("generated_tokens", "discarded_tokens", "free_tokens", "prefetched_tokens"),
        *("steps", "accepted", "moved", "rejected_early", "cost_ratio"),
    }
    assert power["generated_tokens"] + power["free_tokens"] == usage["completion_tokens"] + power["discarded_tokens"]
    assert power["cost_ratio"] == pytest.approx(power["generated_tokens"] / usage["completion_tokens"], abs=1e-4)
    assert power["steps"] == 64 * 8
    assert 0 < power["moved"] <= power["accepted"] <= power["steps"] - power["rejected_early"]
    assert power["rejected_early"] > 0


def test_usage_of_many_answers_is_the_sum_of_their_chains(http: httpx.Client) -> None:
    reply = ask(http, {"include": ["chain"]}, n=16)
    steps = [step for choice in reply["choices"] for step in choice["power"]["chain"]]

    usage = reply["usage"]
    assert usage["completion_tokens"] == sum(len(ids) for ids in answers(reply))
    assert usage["power"]["accepted"] == sum(step["accepted"] for step in steps)
    assert usage["power"]["moved"] == sum(step["moved"] for step in steps)
    assert usage["power"]["rejected_early"] == sum(step["rejected_early"] for step in steps)


@pytest.mark.table
def test_without_a_seed_one_is_returned_that_gives_the_answer_again(http: httpx.Client) -> None:
    first = ask(http, seed=None, n=16)
    seed = first["choices"][0]["power"]["seed"]

    assert answers(ask(http, seed=seed, n=16)) == answers(first)
    assert ask(http, seed=None)["choices"][0]["power"]["seed"] != seed


def test_without_a_seed_equal_prompts_get_their_own(http: httpx.Client) -> None:
    first, second = ask(http, seed=None, prompt=["a", "a"])["choices"]

    assert first["power"]["seed"] != second["power"]["seed"]


def test_the_same_seed_twice_at_once_gives_the_same_answers(http: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: answers(ask(http, n=8)), range(8)))

    assert all(reply == replies[0] for reply in replies)


def test_an_answer_does_not_depend_on_its_neighbours(http: httpx.Client) -> None:
    assert answers(ask(http, n=8))[:2] == answers(ask(http, n=2))


@pytest.mark.slow
@pytest.mark.table
@pytest.mark.parametrize(
    "option",
    [
        {"alpha": 1.0},
        {"cut_power": 0.0},
        {"blocks": 1},
        {"steps_per_block": 1},
        {"top_k": 2},
        {"method": "uniform_cut"},
    ],
    ids=str,
)
def test_each_option_reaches_the_chain(http: httpx.Client, option: dict[str, Any]) -> None:
    assert answers(ask(http, option, n=64)) != answers(ask(http, n=64))


@pytest.mark.table
def test_a_support_of_one_token_has_one_answer(http: httpx.Client) -> None:
    assert len({tuple(ids) for ids in answers(ask(http, {"top_k": 1}, n=16))}) == 1


def test_early_rejection_changes_the_cost_and_nothing_else(http: httpx.Client) -> None:
    with_it, without = ask(http, n=32), ask(http, {"early_rejection": False}, n=32)

    assert answers(with_it) == answers(without)
    assert with_it["usage"]["power"]["generated_tokens"] < without["usage"]["power"]["generated_tokens"]


@pytest.mark.table
def test_the_finish_reason_tells_an_end_from_the_horizon(http: httpx.Client) -> None:
    for choice in ask(http, n=64, power={"alpha": 1.0})["choices"]:
        ids = choice["power"]["token_ids"]
        assert choice["finish_reason"] == ("stop" if ids[-1] == 2 else "length")
        assert choice["finish_reason"] == "stop" or len(ids) == 4
        assert choice["text"] == "".join("ab"[token] for token in ids if token != 2)


@pytest.mark.table
def test_a_stop_string_is_an_end_and_is_trimmed_from_the_text(http: httpx.Client) -> None:
    reply = ask(http, n=64, stop=["ab", "bb"], power={"alpha": 1.0})

    stopped = [c for c in reply["choices"] if c["finish_reason"] == "stop" and c["power"]["token_ids"][-1] != 2]
    assert stopped
    for choice in stopped:
        written = "".join("ab"[token] for token in choice["power"]["token_ids"])
        assert written.endswith(("ab", "bb"))
        assert choice["text"] == written[:-2]
    assert not any("ab" in choice["text"] or "bb" in choice["text"] for choice in reply["choices"])


def test_the_chain_is_told_step_by_step_when_asked_for(http: httpx.Client) -> None:
    power = ask(http, {"include": ["chain"]}, n=8)["choices"][3]["power"]

    chain = power["chain"]
    assert [(step["stage"], step["step"]) for step in chain] == [(s, i) for s in (1, 2) for i in (1, 2, 3, 4)]
    for step in chain:
        assert step["chain"] == 3
        assert step["rejected_early"] == (step["log_ratio"] is None)
        assert step["accepted"] == (step["log_ratio"] is not None and step["log_u"] <= step["log_ratio"])
        assert step["moved"] <= step["accepted"]
        assert 0 <= step["cut"] < 4
    assert chain[-1]["log_p"] == power["log_p"]
    assert chain[-1]["length"] == len(power["token_ids"])


def test_a_token_budget_ends_each_chain_with_a_valid_answer(http: httpx.Client) -> None:
    reply = ask(http, {"max_generated_tokens": 5, "steps_per_block": 50, "alpha": 1.0}, n=16)

    spent = [choice for choice in reply["choices"] if choice["power"]["ended_by"] == "token_budget"]
    assert spent
    for choice in spent:
        assert choice["power"]["steps"] < choice["power"]["steps_planned"] == 100
        assert choice["power"]["token_ids"]
        assert choice["finish_reason"] in {"stop", "length"}
    assert reply["usage"]["power"]["generated_tokens"] <= 16 * 5


def test_a_deadline_ends_the_chain_with_a_valid_answer(http: httpx.Client) -> None:
    power = {"blocks": 1, "steps_per_block": 1000, "deadline_s": 0.001, "alpha": 1.0}
    reply = ask(http, power, n=8, max_tokens=4)

    late = [choice["power"] for choice in reply["choices"] if choice["power"]["ended_by"] == "deadline"]
    assert late
    for power in late:
        assert power["steps"] < power["steps_planned"] == 1000
        assert power["stage"] == power["stages"] == 1


@pytest.mark.table
def test_an_answer_may_be_empty(http: httpx.Client) -> None:
    empty = [c for c in ask(http, {"alpha": 1.0}, n=64, logprobs=2)["choices"] if c["text"] == ""]

    assert empty
    assert all(choice["logprobs"]["tokens"] == ["<eos>"] for choice in empty)
    assert all(choice["finish_reason"] == "stop" for choice in empty)
