"""Every method over HTTP by field and by alias, and from the shell: the same answers, and no field ignored."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from sampler.methods import METHODS, POWER_METHODS
from sampler.params import LIMITS
from service.api.power import PowerOptions
from service.cli import app
from tests.service.checks import GOOD, assert_error, assert_still_answers
from tests.service.test_cli import one_line

SMALL: dict[str, dict[str, Any]] = {
    "entropy_cut": {"blocks": 2, "steps_per_block": 2, "cut_power": 2.0},
    "uniform_cut": {"blocks": 2, "steps_per_block": 2},
    "multiple_try": {"blocks": 2, "steps_per_block": 2, "tries": 3},
    "low_temperature": {},
    "best_of_n": {"samples": 3},
    "smc": {"blocks": 2, "particles": 4, "ess_threshold": 0.9},
    "tmc": {"blocks": 2, "candidates": 3, "rollouts": 2, "rollout_tokens": 2},
}
VALUES: dict[str, Any] = {
    "stream_events": True,
    "mode": "exact",
    "include": [],
    "early_rejection": True,
    "memo_tree": True,
    "prefetch": True,
    "effort": "low",
    "alpha": 2,
}
FIELDS = sorted(set(PowerOptions.model_fields) - {"method"})


def post(http: httpx.Client, method: str, power: dict[str, Any] | None = None, **more: Any) -> httpx.Response:
    options = {"method": method} | (SMALL[method] if power is None else power)
    return http.post("/v1/completions", json=GOOD | {"power": options} | more)


def choice(http: httpx.Client, method: str, **more: Any) -> dict[str, Any]:
    reply = post(http, method, **more)
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]


def test_the_table_of_this_file_has_every_method() -> None:
    assert set(SMALL) == set(POWER_METHODS)


@pytest.mark.parametrize("method", SMALL)
def test_a_method_answers_by_field_and_replays(http: httpx.Client, method: str) -> None:
    first = choice(http, method, n=3, logprobs=2)
    assert first == choice(http, method, n=3, logprobs=2)
    power = first["power"]
    assert power["method"] == method
    assert power["ended_by"] == "completed"
    assert 1 <= len(power["token_ids"]) <= 4
    uses = METHODS[method].fields
    for name, parameter in (("mode", "mode"), ("stage", "blocks"), ("stages", "blocks"), ("steps", "steps_per_block")):
        assert (name in power) == (parameter in uses), name
    assert ("log_evidence" in power) == (method == "smc")
    if "stages" in power:
        assert power["stage"] == power["stages"] == 2


@pytest.mark.parametrize("method", SMALL)
def test_usage_counts_every_token(http: httpx.Client, method: str) -> None:
    reply = post(http, method, SMALL[method] | {"memo_tree": False}, n=4).json()
    power, drawn = reply["usage"]["power"], reply["usage"]["completion_tokens"]
    assert power["generated_tokens"] >= drawn
    assert power["free_tokens"] == 0
    assert power["discarded_tokens"] == power["generated_tokens"] - drawn
    with_tree = post(http, method, n=4).json()
    assert [c["text"] for c in with_tree["choices"]] == [c["text"] for c in reply["choices"]]
    assert with_tree["usage"]["power"]["generated_tokens"] <= power["generated_tokens"]


@pytest.mark.parametrize("method", METHODS)
def test_an_alias_asks_for_each_method_and_is_listed(http: httpx.Client, method: str) -> None:
    alias = f"letters:{method}"
    assert alias in [model["id"] for model in http.get("/v1/models").json()["data"]]
    power = {"power": SMALL[method]} if method in SMALL else {"power": None}
    reply = http.post("/v1/completions", json=GOOD | {"model": alias} | power)
    assert reply.status_code == 200, reply.text
    if method in SMALL:
        assert reply.json()["choices"][0] == choice(http, method)


@pytest.mark.parametrize("method", SMALL)
def test_a_method_streams(http: httpx.Client, method: str) -> None:
    reply = post(http, method, stream=True)
    lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    assert json.loads(lines[0])["choices"][0]["power"]["method"] == method


@pytest.mark.parametrize(
    ("method", "name"), [(m, f) for m in SMALL for f in FIELDS if f != "effort" and f not in METHODS[m].fields]
)
def test_a_field_that_a_method_does_not_use_is_refused_by_name(http: httpx.Client, method: str, name: str) -> None:
    value = VALUES.get(name, int(LIMITS[name][1]) if name in LIMITS else None)
    error = assert_error(post(http, method, {name: value}), 422)
    assert error["param"] == f"power.{name}"
    assert error["message"].startswith(f"power.{name}: the method {method} does not use it")


@pytest.mark.parametrize("name", ["particles", "candidates", "rollouts", "rollout_tokens", "tries", "samples"])
def test_a_method_field_has_its_limits(http: httpx.Client, name: str) -> None:
    method = next(each for each in SMALL if name in METHODS[each].fields)
    low, high = LIMITS[name]
    for value in (low - 1, high + 1, "4", 1.5, True):
        error = assert_error(post(http, method, SMALL[method] | {name: value}), 422)
        assert error["param"] == f"power.{name}"
    assert_still_answers(http)


@pytest.mark.parametrize("value", [-0.01, 1.01, "0.5", True])
def test_an_ess_threshold_has_its_limits(http: httpx.Client, value: Any) -> None:
    assert assert_error(post(http, "smc", {"ess_threshold": value}), 422)["param"] == "power.ess_threshold"


@pytest.mark.parametrize("method", SMALL)
@pytest.mark.parametrize("budget", [1, 3, 7])
def test_a_token_budget_is_kept_by_every_method(http: httpx.Client, method: str, budget: int) -> None:
    power = {name: value for name, value in SMALL[method].items() if name != "samples"}
    reply = post(http, method, power | {"max_generated_tokens": budget, "memo_tree": False})
    assert reply.status_code == 200, reply.text
    one, drawn = reply.json()["choices"][0]["power"], reply.json()["usage"]["power"]["generated_tokens"]
    assert one["ended_by"] in {"token_budget", "completed"}
    assert len(one["token_ids"]) >= 1
    crossing = 4 if method == "best_of_n" else 0  # the draw that crosses the budget is kept: it is matched to it
    assert drawn < budget + crossing if crossing else drawn <= budget


@pytest.mark.slow
@pytest.mark.parametrize("method", ["low_temperature", "best_of_n", "smc", "tmc"])
def test_a_deadline_that_has_passed_still_leaves_an_answer(http: httpx.Client, method: str) -> None:
    power = {"deadline_s": 0.001} | ({"particles": 4096} if method == "smc" else {})
    power |= {"candidates": 1024, "rollouts": 8} if method == "tmc" else {}
    power |= {"samples": 256} if method == "best_of_n" else {}
    reply = post(http, method, power | {"memo_tree": False}, n=4)
    assert reply.status_code == 200, reply.text
    ends = {each["power"]["ended_by"] for each in reply.json()["choices"]}
    assert ends <= {"deadline", "completed"}
    assert method == "low_temperature" or "deadline" in ends


def shell(table: Path, *options: str) -> Any:
    base = ["sample", "hi", "--engine", "tabular", "--model", str(table), "--max-tokens", "4", "--seed", "1"]
    return CliRunner().invoke(app, [*base, *options])


def options_of(power: dict[str, Any]) -> list[str]:
    renamed = {"steps_per_block": "steps"}
    return [
        word for name, value in power.items() for word in (f"--{renamed.get(name, name).replace('_', '-')}", str(value))
    ]


@pytest.mark.parametrize("method", SMALL)
def test_the_shell_gives_the_same_answer(table_file: Path, http: httpx.Client, method: str) -> None:
    served = choice(http, method)
    result = shell(table_file, "--json", "--method", method, *options_of(SMALL[method]))
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["power"] == served["power"]
    plain = shell(table_file, "--method", method, *options_of(SMALL[method]))
    assert ("steps" in plain.stderr) == ("steps_per_block" in METHODS[method].fields)


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("smc", ["--steps", "3"], "--steps: the method smc does not use it"),
        ("smc", ["--cut-power", "4.0"], "--cut-power"),
        ("tmc", ["--particles", "64"], "--particles"),
        ("best_of_n", ["--blocks", "4"], "--blocks"),
        ("low_temperature", ["--temperature", "0.5"], "--temperature"),
        ("low_temperature", ["--no-prefetch"], "--prefetch"),
        ("uniform_cut", ["--cut-power", "4.0"], "--cut-power"),
        ("entropy_cut", ["--tries", "4"], "--tries"),
        ("standard", ["--alpha", "4"], "--alpha"),
        ("standard", ["--deadline-s", "4"], "--deadline-s"),
        ("smc", ["--particles", "0"], "particles must be between 1 and 4096"),
        ("tmc", ["--rollout-tokens", "0"], "rollout_tokens must be between"),
        ("smc", ["--ess-threshold", "1.5"], "ess_threshold must be between"),
    ],
)
def test_an_option_that_a_method_does_not_use_is_one_clear_line(
    table_file: Path, method: str, options: list[str], says: str
) -> None:
    assert says in one_line(shell(table_file, "--method", method, *options))


def test_standard_takes_a_support_from_the_shell_if_one_is_given(table_file: Path) -> None:
    def text(*options: str) -> set[str]:
        seeds = ("--seed", "1"), ("--seed", "2"), ("--seed", "3"), ("--seed", "4")
        return {shell(table_file, "--method", "standard", *seed, *options).stdout for seed in seeds}

    assert len(text("--top-k", "1")) == 1
    assert len(text()) > 1
