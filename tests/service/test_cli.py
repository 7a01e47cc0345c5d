"""The `powercut` command: an answer on standard output, its cost beside it, and one clear line for each mistake."""

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sampler.engine import Engine
from sampler.events import Extended, Stepped
from sampler.self_check import CHECKS, Finding
from service.cli import app, describe
from tests.service.serving import ROOT, command
from tests.service.tables import gap_table

TABULAR = ["--engine", "tabular", "--max-tokens", "4", "--seed", "3"]


def sample(table: Path, *options: str) -> Result:
    """`powercut sample` on a table."""
    return CliRunner().invoke(app, ["sample", "hi", "--model", str(table), *TABULAR, *options])


def one_line(result: Result) -> str:
    """The only line of a mistake, with exit code 2 and nothing on standard output."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_self_check_prints_a_table_and_fails_with_its_exit_code(
    table_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ["self-check", "--engine", "tabular", "--model", str(table_file)]
    sound = CliRunner().invoke(app, call)
    assert sound.exit_code == 0, sound.output
    assert sound.stdout.count("holds") == len(CHECKS)

    async def broken(engine: Engine) -> list[Finding]:
        return [Finding("statistics", False, "0.5 nats"), Finding("prefixes", None, "not told")]

    monkeypatch.setattr("service.check_command.self_check", broken)
    failing = CliRunner().invoke(app, call)
    assert failing.exit_code == 1
    assert "FAILS" in failing.stdout


def test_the_text_is_on_stdout_and_the_cost_on_stderr(table_file: Path) -> None:
    result = sample(table_file)

    assert result.exit_code == 0, result.output
    assert set(result.stdout.strip()) <= {"a", "b"}
    assert result.stdout.count("\n") == 1
    for word in ("entropy_cut", "seed 3", "log p", "completed", "40 steps", "accepted", "times one sample"):
        assert word in " ".join(result.stderr.split())


def test_json_is_one_object_and_nothing_else(table_file: Path) -> None:
    result = sample(table_file, "--json")
    report: dict[str, Any] = json.loads(result.stdout)

    assert report.keys() == {"text", "finish_reason", "power", "usage"}
    assert report["text"] == sample(table_file).stdout.rstrip("\n")
    assert report["power"]["seed"] == 3
    assert report["power"]["steps"] == 40
    assert report["usage"]["generated_tokens"] > 0
    assert result.stderr == ""


def test_json_knows_no_infinity(tmp_path: Path) -> None:
    table = tmp_path / "gaps.json"
    table.write_text(json.dumps(gap_table()))
    result = sample(table, "--json")

    json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} in the report"))


def test_the_same_seed_gives_the_same_answer_and_none_draws_one(table_file: Path) -> None:
    def report(*options: str) -> dict[str, Any]:
        return json.loads(sample(table_file, "--json", *options).stdout)

    assert report() == report()
    unseeded = CliRunner().invoke(app, ["sample", "hi", "--engine", "tabular", "--model", str(table_file), "--json"])
    assert json.loads(unseeded.stdout)["power"]["seed"] >= 0


def test_it_agrees_with_the_server(table_file: Path, http: Any) -> None:
    power = {"alpha": 2, "blocks": 2, "steps_per_block": 5, "method": "uniform_cut"}
    request = {"model": "letters", "prompt": "hi", "max_tokens": 4, "seed": 3, "power": power}
    served = http.post("/v1/completions", json=request).json()["choices"][0]
    options = ["--method", "uniform_cut", "--alpha", "2", "--blocks", "2", "--steps", "5"]
    report = json.loads(sample(table_file, "--json", *options).stdout)

    assert report["power"] == served["power"]
    assert report["text"] == served["text"]


@pytest.mark.parametrize(
    "options",
    [
        ["--method", "standard", "--temperature", "0.5"],
        ["--method", "uniform_cut"],
        ["--top-k", "0"],
        ["--no-early-rejection"],
        ["--stop", "ab", "--stop", "b"],
        ["--deadline-s", "5"],
        ["--cut-power", "0", "--alpha", "1"],
    ],
    ids=" ".join,
)
def test_each_option_is_taken(table_file: Path, options: list[str]) -> None:
    result = sample(table_file, "--json", *options)

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["power"]["ended_by"] == "completed"


def test_several_chains_are_compared(table_file: Path) -> None:
    options = ["--chains", "4", "--blocks", "1", "--steps", "20", "--alpha", "1"]
    report: dict[str, Any] = json.loads(sample(table_file, "--json", *options).stdout)

    assert report.keys() == {"choices", "usage", "power_diagnostics"}
    assert [choice["power"]["chain_index"] for choice in report["choices"]] == [0, 1, 2, 3]
    (summary,) = report["power_diagnostics"]
    assert (summary["chains"], summary["steps"]) == (4, 20)
    assert report["usage"]["steps"] == 80
    shown = sample(table_file, *options)
    assert shown.stdout == "\n\n".join(choice["text"] for choice in report["choices"]) + "\n"
    said = " ".join(shown.stderr.split())
    assert f"R-hat of log p {summary['log_pi']['r_hat']:.3f}" in said
    assert f"{summary['distinct_answers']} distinct answers of 4" in said


def test_a_method_without_steps_has_several_answers_and_nothing_to_compare(table_file: Path) -> None:
    report = json.loads(sample(table_file, "--json", "--chains", "3", "--method", "low_temperature").stdout)
    assert report.keys() == {"choices", "usage"}
    assert len(report["choices"]) == 3


@pytest.mark.parametrize(("options", "steps"), [(["low"], 16), (["high"], 160), (["high", "--steps", "3"], 12)])
def test_an_effort_sets_what_is_not_set(table_file: Path, options: list[str], steps: int) -> None:
    report = json.loads(sample(table_file, "--json", "--effort", *options).stdout)
    assert report["power"]["steps_planned"] == steps


def test_a_frozen_chain_says_so(table_file: Path) -> None:
    options = ["--json", "--stop-when-frozen", "1", "--alpha", "100", "--steps", "100"]
    assert json.loads(sample(table_file, *options).stdout)["power"]["ended_by"] == "frozen"


def test_a_stop_string_is_trimmed(table_file: Path) -> None:
    assert "b" not in json.loads(sample(table_file, "--json", "--stop", "b").stdout)["text"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--alpha", "0"], "alpha must be between 0.5 and 100"),
        (["--alpha", "-1"], "alpha"),
        (["--alpha", "nan"], "alpha"),
        (["--alpha", "1e9"], "alpha"),
        (["--steps", "1000000000"], "steps_per_block must be between 0 and 1000"),
        (["--max-tokens", "0"], "max_tokens"),
        (["--blocks", "0"], "blocks"),
        (["--top-k", "-1"], "top_k"),
        (["--cut-power", "-1"], "cut_power"),
        (["--deadline-s", "0"], "deadline_s"),
        (["--stop", ""], "stop"),
        (["--effort", "huge"], "effort must be one of low, medium, high"),
        (["--effort", "high", "--method", "low_temperature"], "effort: the method low_temperature has nothing"),
        (["--stop-when-frozen", "0"], "stop_when_frozen must be between 1 and 1000"),
        (["--stop-when-frozen", "5", "--method", "smc"], "the method smc does not use it"),
        (["--method", "magic"], "unknown method 'magic'; choose one of entropy_cut, uniform_cut"),
        (["--method", "standard", "--temperature", "-1"], "temperature"),
        (["--seed", "9223372036854775808"], "seed"),
        (["--engine", "abacus"], "unknown engine 'abacus'; choose one of"),
        (["--dtype", "fp32"], "the tabular engine has no option dtype"),
        (["--device", "cuda"], "the tabular engine has no option device"),
        (["--model", "/nowhere/table.json"], "cannot read the table /nowhere/table.json"),
        (["--max-tokens", "1048576"], "context"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(table_file: Path, options: list[str], says: str) -> None:
    assert says in one_line(sample(table_file, *options))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is not JSON"),
        ("[]", "JSON object"),
        ("{}", "vocab"),
        ('{"vocab": ["a"], "default": [null]}', "at least one finite logit"),
        ('{"vocab": ["a"], "default": [0, 0]}', "must list 1 logits"),
        ('{"vocab": ["a"], "logits": {"9": [0]}}', "outside"),
        ('{"vocab": ["a"], "eos": [1]}', "eos"),
        ('{"vocab": ["a"], "default": [NaN]}', "NaN"),
        ('{"vocab": ["a"], "more": 1}', "unknown table field"),
        ('{"vocab": ["a"], "eos": 0}', "eos"),
        ('{"vocab": ["a"], "logits": []}', "logits"),
        ('{"vocab": ["a"], "default": [1' + "0" * 400 + "]}", "default"),
        ('{"vocab": ["\\ud800"]}', "vocab"),
    ],
)
def test_a_bad_table_is_one_clear_line(tmp_path: Path, content: str, says: str) -> None:
    table = tmp_path / "bad.json"
    table.write_text(content)

    assert says in one_line(sample(table))


def test_an_empty_prompt_is_one_clear_line(table_file: Path) -> None:
    result = CliRunner().invoke(app, ["sample", "", "--model", str(table_file), *TABULAR])
    assert "prompt" in one_line(result)


def test_serve_without_its_model_is_one_clear_line() -> None:
    result = CliRunner().invoke(app, ["serve", "--engine", "tabular", "--model", "/nowhere/table.json"])
    assert "cannot read the table /nowhere/table.json" in one_line(result)

    result = CliRunner().invoke(app, ["serve", "--engine", "tabular"])
    assert "needs --model" in one_line(result)


def test_serve_with_a_bad_setting_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, table_file: Path) -> None:
    monkeypatch.setenv("POWERCUT_MAX_BODY_BYTES", "much")
    result = CliRunner().invoke(app, ["serve", "--engine", "tabular", "--model", str(table_file)])

    assert "POWERCUT_MAX_BODY_BYTES" in one_line(result)


@pytest.mark.slow
def test_serve_on_a_port_that_is_taken_says_so(table_file: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        line = command("serve", "--engine", "tabular", "--model", str(table_file), "--port", port)
        ended = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode != 0
    assert "address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_progress_line_tells_stage_step_and_acceptance() -> None:
    stepped = Stepped(0, 2, 4, 7, 3, (1,), -0.1, -0.5, True, True, False, -3.0, 9, 120)

    assert describe(stepped, 5, 16) == "stage 2/4, step 7, accepted 5/16, 120 tokens drawn"
    assert describe(Extended(0, 1, 4, (1,), False, 16), 0, 0) == "stage 1/4, extended, 16 tokens drawn"


@pytest.mark.slow
def test_the_command_itself_answers_and_fails_with_its_exit_code(table_file: Path) -> None:
    def run(model: str) -> subprocess.CompletedProcess[str]:
        line = command("sample", "hi", "--model", model, *TABULAR)
        return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, env=dict(os.environ))

    good = run(str(table_file))
    assert good.returncode == 0, good.stderr
    assert good.stdout == sample(table_file).stdout
    assert "times one sample" in " ".join(good.stderr.split())
    bad = run("/nowhere.json")
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert bad.stderr.strip() == "powercut: cannot read the table /nowhere.json: No such file or directory"
