"""`include: ["diagnostics"]`, effort and the frozen stop over HTTP."""

import json
from typing import Any

import httpx
import pytest

from service.settings import Settings
from tests.service.checks import GOOD, assert_error
from tests.service.faulty import FaultyEngine
from tests.service.serving import serving
from tests.service.tables import gap_table
from tests.service.test_reply import answers, ask
from tests.service.test_streaming import STREAM, lines

ASKED: dict[str, Any] = {"include": ["diagnostics"], "steps_per_block": 40}


def test_each_chain_is_diagnosed(http: httpx.Client) -> None:
    reply = ask(http, ASKED | {"include": ["diagnostics", "chain"]}, n=2)
    for choice in reply["choices"]:
        power = choice["power"]
        found, steps = power["diagnostics"], power["chain"]
        assert found.keys() == {"stages", "cuts", "log_p", "log_pi", "length"}
        assert [stage["steps"] for stage in found["stages"]] == [40, 40]
        assert sum(stage["accepted"] for stage in found["stages"]) == sum(step["accepted"] for step in steps)
        assert found["log_p"] == [step["log_p"] for step in steps]
        assert found["log_pi"] == [3.0 * step["log_p"] for step in steps]
        assert found["length"] == [step["length"] for step in steps]
        assert sum(found["cuts"]["counts"]) == len(steps)
        known = [step for step in steps if not step["rejected_early"]]
        assert known
        assert all(step["power_term"] + step["cut_term"] == step["log_ratio"] for step in known)


def test_without_asking_there_are_none(http: httpx.Client) -> None:
    reply = ask(http, {"include": ["chain"]})
    assert "power_diagnostics" not in reply
    assert "diagnostics" not in reply["choices"][0]["power"]
    assert "chain" not in ask(http, ASKED)["choices"][0]["power"]


def test_diagnostics_change_no_token(http: httpx.Client) -> None:
    assert answers(ask(http, ASKED, n=8)) == answers(ask(http, {"steps_per_block": 40}, n=8))


@pytest.mark.slow
def test_the_chains_of_each_prompt_are_summed_up(http: httpx.Client) -> None:
    reply = ask(http, ASKED | {"alpha": 1.0, "blocks": 1, "steps_per_block": 1000}, n=4, prompt=["a", "b"])
    summaries = reply["power_diagnostics"]

    assert [summary["prompt_index"] for summary in summaries] == [0, 1]
    for i, summary in enumerate(summaries):
        assert (summary["chains"], summary["steps"]) == (4, 1000)
        assert summary["distinct_answers"] == len({tuple(ids) for ids in answers(reply)[4 * i : 4 * i + 4]})
        assert summary["log_pi"]["r_hat"] < 1.02
        assert 100 < summary["length"]["ess_bulk"] <= 4 * 1000 * 4
        assert summary["converged"] in {True, "unknown"}
        assert summary["reason"]


def test_fewer_than_four_chains_are_unknown(http: httpx.Client) -> None:
    (summary,) = ask(http, ASKED, n=3)["power_diagnostics"]
    assert summary["converged"] == "unknown"
    assert "at least 4 chains, and there are 3" in summary["reason"]
    assert summary["log_pi"].keys() == {"r_hat", "ess_bulk"}


def test_a_stream_carries_each_chain_and_the_summary_last(http: httpx.Client) -> None:
    power = GOOD["power"] | ASKED
    request = STREAM | {"n": 4, "power": power, "stream_options": {"include_usage": True}}
    *chunks, done = lines(http, request)
    parsed = [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]

    assert done == "data: [DONE]"
    *texts, summary, usage = parsed
    assert all("diagnostics" in chunk["choices"][0]["power"] for chunk in texts)
    assert not any("power_diagnostics" in chunk for chunk in texts)
    assert (summary["choices"], summary["usage"]) == ([], None)
    whole = http.post("/v1/completions", json=GOOD | {"n": 4, "power": power}).json()
    assert summary["power_diagnostics"] == whole["power_diagnostics"]
    assert "power_diagnostics" not in usage


@pytest.mark.slow
def test_nothing_in_them_is_not_a_number() -> None:
    """Forced rows: no R-hat, −∞ cut weights, steps with nothing to redraw."""
    table = {"vocab": ["a", "b"], "eos": [], "logits": {}, "default": [0.0, None]}
    for served in (table, gap_table()):
        with serving(FaultyEngine(served), Settings()) as url, httpx.Client(base_url=url, timeout=30) as http:
            power = {"include": ["diagnostics", "chain"], "blocks": 2, "steps_per_block": 20, "top_k": None}
            reply = http.post("/v1/completions", json=GOOD | {"n": 4, "power": power})
            body = json.loads(reply.text, parse_constant=lambda name: pytest.fail(f"{name} in a reply"))
            assert body["power_diagnostics"][0]["steps"] == 20
            if served is table:
                assert body["power_diagnostics"][0]["converged"] == "unknown"
                assert "undefined" in body["power_diagnostics"][0]["reason"]
                assert body["power_diagnostics"][0]["log_pi"] == {"r_hat": None, "ess_bulk": None}


@pytest.mark.parametrize("method", ["smc", "tmc", "best_of_n", "low_temperature"])
@pytest.mark.parametrize("field", [{"include": ["diagnostics"]}, {"stop_when_frozen": 3}])
def test_a_method_without_a_chain_refuses_what_is_of_chains(
    http: httpx.Client, method: str, field: dict[str, Any]
) -> None:
    reply = http.post("/v1/completions", json=GOOD | {"power": {"method": method} | field})
    assert assert_error(reply, 422)["param"] == f"power.{next(iter(field))}"


@pytest.mark.parametrize(("effort", "steps"), [("low", 16), ("medium", 40), ("high", 160)])
def test_an_effort_sets_the_steps(http: httpx.Client, effort: str, steps: int) -> None:
    """With 4 tokens there are 4 horizons at most, whatever the number of blocks."""
    reply = http.post("/v1/completions", json=GOOD | {"power": {"effort": effort}})
    assert reply.json()["choices"][0]["power"]["steps_planned"] == steps


def test_a_field_beside_an_effort_wins(http: httpx.Client) -> None:
    reply = http.post("/v1/completions", json=GOOD | {"power": {"effort": "high", "steps_per_block": 3}})
    assert reply.json()["choices"][0]["power"]["steps_planned"] == 4 * 3


def test_a_medium_effort_is_the_default(http: httpx.Client) -> None:
    plain, medium = (
        answers(http.post("/v1/completions", json=GOOD | {"n": 8, "power": power}).json())
        for power in ({}, {"effort": "medium"})
    )
    assert plain == medium


def test_an_effort_that_does_nothing_or_is_unknown_is_refused(http: httpx.Client) -> None:
    idle = http.post("/v1/completions", json=GOOD | {"power": {"method": "low_temperature", "effort": "high"}})
    assert assert_error(idle, 422)["param"] == "power.effort"
    unknown = http.post("/v1/completions", json=GOOD | {"power": {"effort": "huge"}})
    assert assert_error(unknown, 422)["param"] == "power.effort"


def test_a_frozen_chain_says_so(http: httpx.Client) -> None:
    reply = ask(http, {"alpha": 100.0, "steps_per_block": 100, "stop_when_frozen": 2}, n=16)
    frozen = [choice["power"] for choice in reply["choices"] if choice["power"]["ended_by"] == "frozen"]
    assert frozen
    assert all(power["steps"] < power["steps_planned"] == 200 for power in frozen)


@pytest.mark.parametrize("value", [0, 1001, 2.5, "3"])
def test_a_frozen_stop_out_of_range_is_refused(http: httpx.Client, value: Any) -> None:
    reply = http.post("/v1/completions", json=GOOD | {"power": {"stop_when_frozen": value}})
    assert assert_error(reply, 422)["param"] == "power.stop_when_frozen"
