"""Mode paper over HTTP and from the shell: it says so, and refuses what it has not."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from service.cli import app

BODY: dict[str, Any] = {"model": "letters", "prompt": "hi", "max_tokens": 4, "seed": 5}


def ask(http: httpx.Client, **power: Any) -> dict[str, Any]:
    reply = http.post("/v1/completions", json=BODY | {"power": power})
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.mark.parametrize("method", ["entropy_cut", "uniform_cut"])
def test_results_say_mode_paper(http: httpx.Client, method: str) -> None:
    reply = ask(http, method=method, mode="paper", blocks=2, include=["chain"])
    power = reply["choices"][0]["power"]
    assert (power["method"], power["mode"]) == (method, "paper")
    assert reply["usage"]["power"]["free_tokens"] == 0
    assert reply["usage"]["power"]["rejected_early"] == 0
    assert all(step["log_ratio"] is not None or not step["accepted"] for step in power["chain"])
    assert ask(http, method=method)["choices"][0]["power"]["mode"] == "exact"


def test_an_ended_trace_is_final_after_its_stage(http: httpx.Client) -> None:
    replies = [
        http.post("/v1/completions", json=BODY | {"seed": seed, "power": {"mode": "paper", "blocks": 4}}).json()
        for seed in range(12)
    ]
    stages = [reply["choices"][0]["power"]["stage"] for reply in replies]
    assert min(stages) < 4
    for reply, stage in zip(replies, stages, strict=True):
        assert reply["choices"][0]["power"]["steps"] == 10 * stage
        assert reply["choices"][0]["power"]["ended_by"] == "completed"


@pytest.mark.parametrize("field", ["early_rejection", "memo_tree"])
def test_a_saving_asked_for_is_refused_by_name_and_one_switched_off_is_fine(http: httpx.Client, field: str) -> None:
    reply = http.post("/v1/completions", json=BODY | {"power": {"mode": "paper", field: True}})
    assert reply.status_code == 422
    assert reply.json()["error"]["param"] == f"power.{field}"
    assert ask(http, mode="paper", **{field: False})["choices"][0]["power"]["mode"] == "paper"


@pytest.mark.parametrize("method", ["multiple_try", "smc"])
def test_other_methods_have_no_mode(http: httpx.Client, method: str) -> None:
    reply = http.post("/v1/completions", json=BODY | {"power": {"method": method, "mode": "paper"}})
    assert reply.status_code == 422
    assert reply.json()["error"]["param"] == "power.mode"


def sample(table: Path, *options: str) -> Any:
    words = ["sample", "hi", "--engine", "tabular", "--model", str(table), "--max-tokens", "4", "--seed", "3"]
    return CliRunner().invoke(app, [*words, *options])


def test_the_shell_has_the_mode_too(table_file: Path) -> None:
    report = json.loads(sample(table_file, "--mode", "paper", "--json").stdout)
    assert report["power"]["mode"] == "paper"
    assert json.loads(sample(table_file, "--json").stdout)["power"]["mode"] == "exact"
    for options, name in (
        (("--mode", "paper", "--memo-tree"), "--memo-tree"),
        (("--mode", "quick"), "mode must be"),
        (("--mode", "paper", "--method", "multiple_try"), "--mode"),
    ):
        result = sample(table_file, *options)
        assert result.exit_code == 2
        assert name in result.stderr
    assert sample(table_file, "--mode", "paper", "--no-memo-tree").exit_code == 0
