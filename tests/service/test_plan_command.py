"""`powercut plan`: a table, JSON, exit codes, and every wrong call refused by its option's name."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.capacity.report import number
from service.cli import app as cli

GOOD = ["plan", "--model-params", "7e9", "--gpus", "1000", "--rps", "50"]


def run(*words: str, code: int = 0) -> Any:
    """The command's outcome, which must have this exit code."""
    found = CliRunner().invoke(cli, [*words], env={"COLUMNS": "200"})
    assert found.exit_code == code, found.output + repr(found.exception)
    return found


def test_a_plan_is_a_table_that_begins_with_the_verdict() -> None:
    text = run(*GOOD).output
    assert text.startswith("1000 × H100 carry 50 requests/s")
    for words in ("tokens drawn per request", "88,064", "what binds", "cost ÷ plain sampling", "transactions/s"):
        assert words in text


def test_the_same_as_json_in_plain_units() -> None:
    found = json.loads(run(*GOOD, "--json", "--batch-share", "0.5").output)

    assert found["suffices"]
    assert found["request"]["worst_case_tokens"] == 88_064
    assert found["request"]["plain_tokens"] < found["request"]["drawn_tokens"] < 88_064
    assert found["model"]["weight_bytes"] == 14e9
    assert found["cluster"]["gpus_needed"] <= 1000
    assert found["database"]["batch_rows_per_s"] == 25.0


def test_what_servers_must_let_run_is_told_where_their_defaults_would_bind() -> None:
    words = (*GOOD, "--tensor-parallel", "2")
    rows = json.loads(run(*words, "--json").output)["replica"]["rows"]
    assert f"max_rows {rows} (default 128), max_running_requests {rows} (default 256)" in run(*words).output
    assert json.loads(run(*words, "--json").output)["server_limits"]["max_running_requests_per_key"] == rows
    assert "its server needs" not in run(*GOOD, "--max-rows", "100").output


def test_what_computed_positions_cost_is_heard_with_a_measured_step() -> None:
    def step_s(*words: str) -> float:
        measured = ("--fixed-step-s", "0.01", "--row-step-s", "0.0001", "--json", *words)
        return json.loads(run(*GOOD, *measured).output)["replica"]["step_s"]

    position = ("--position-step-s", "0.0001")
    assert step_s() < step_s(*position) < step_s(*position, "--prefix-hits", "0.5")
    assert step_s(*position, "--overlap", "0") < step_s(*position)


def test_three_gpus_that_suffice_one_by_one_suffice() -> None:
    words = ("plan", "--model-params", "7e9", "--answer-tokens", "700", "--gpus", "3", "--rps", "1.8")
    assert json.loads(run(*words, "--json").output)["replica"]["gpus"] == 1


def test_too_few_gpus_is_exit_code_1_with_how_many_are_needed() -> None:
    words = [*GOOD[:4], "8", "--rps", "5000"]
    assert "do not carry 5000 requests/s" in run(*words, code=1).output
    found = json.loads(run(*words, "--json", code=1).output)
    assert not found["suffices"]
    assert found["cluster"]["gpus_needed"] > 8
    assert found["cluster"]["wait_s"] is None, "what grows without end is null"


def test_a_model_that_fits_nowhere_is_said_plainly() -> None:
    words = ["plan", "--model-params", "1e12", "--gpus", "2", "--rps", "1"]
    assert "does not fit" in run(*words, code=1).output
    found = json.loads(run(*words, "--json", code=1).output)
    assert found["suffices"] is False
    assert "weights" in found["reason"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--gpus", "0"], "--gpus"),
        (["--rps", "nan"], "--rps"),
        (["--rps", "-1"], "--rps"),
        (["--model-params", "inf"], "--model-params"),
        (["--acceptance", "1.1"], "--acceptance"),
        (["--gpu", "abacus"], "--gpu"),
        (["--dtype", "int3"], "dtype"),
        (["--method", "magic"], "method"),
        (["--method", "smc", "--tries", "3"], "--tries"),
        (["--method", "smc", "--acceptance", "0.3"], "--acceptance"),
        (["--no-early-rejection", "--lost-after", "3"], "--lost-after"),
        (["--no-memo-tree", "--free-share", "0.3"], "--free-share"),
        (["--fixed-step-s", "0.1"], "--row-step-s"),
        (["--fixed-step-s", "0", "--row-step-s", "0"], "some time"),
        (["--fixed-step-s", "0.1", "--row-step-s", "0.1", "--step-overhead-s", "1"], "--step-overhead-s"),
        (["--fixed-step-s", "0.1", "--row-step-s", "0.1", "--prefix-hits", "0.5"], "--prefix-hits"),
        (["--fixed-step-s", "0.1", "--row-step-s", "0.1", "--overlap", "0"], "--overlap"),
        (["--fixed-step-s", "0.1", "--row-step-s", "0.1", "--active-params", "1e9"], "--active-params"),
        (["--position-step-s", "0.1"], "--fixed-step-s"),
        (["--no-early-rejection", "--acceptance", "0.3"], "--acceptance"),
        (["--alpha", "0.5", "--acceptance", "0.3"], "--acceptance"),
        (["--tensor-parallel", "16"], "--tensor-parallel"),
        (["--checkpoint-s", "1"], "--checkpoint-s"),
        (["--method", "smc", "--batch-share", "0.5", "--checkpoint-s", "1"], "--checkpoint-s"),
        (["--active-params", "8e9"], "--active-params"),
        (["--answer-tokens", "2000"], "--answer-tokens"),
        (["--max-tokens", "0"], "max_tokens"),
        (["--effort", "huge"], "effort"),
        (["--model-config", "/nowhere/config.json"], "--model-config"),
    ],
    ids=" ".join,
)
def test_a_wrong_call_names_its_option(words: list[str], says: str) -> None:
    assert says in run(*GOOD, *words, code=2).output


def test_a_model_must_be_given() -> None:
    assert "--model-params" in run("plan", "--gpus", "1", "--rps", "1", code=2).output


def test_effort_and_a_config_are_heard(tmp_path: Path) -> None:
    def drawn(*words: str) -> float:
        return json.loads(run(*GOOD, "--json", *words).output)["request"]["drawn_tokens"]

    assert drawn("--effort", "low") < drawn() < drawn("--steps", "20")
    assert drawn("--effort", "low", "--steps", "20") > drawn("--effort", "low")
    shape = {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
    (tmp_path / "config.json").write_text(json.dumps(shape))
    found = json.loads(run(*GOOD, "--json", "--model-config", str(tmp_path)).output)
    assert found["model"]["kv_heads"] == 3
    assert found["model"]["params"] == 7e9
    assert not found["model"]["shape_is_estimated"]


def test_numbers_are_read_easily() -> None:
    assert [number(value) for value in (0.01234, 12.3456, 88064.2, float("inf"))] == ["0.0123", "12.3", "88,064", "∞"]
