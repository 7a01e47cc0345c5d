"""The command as people use it: a clear line for a mistake, an interrupt that can be taken up, a report in the end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from evals import options
from evals.cli import app
from evals.records import RECORDS, read_records, read_settings
from tests.evals.made_up import Letters
from tests.evals.servers import Scripted, served
from tests.interrupts import hear_interrupts
from tests.service.serving import ROOT, free_port, wait_until


@pytest.fixture(autouse=True)
def _letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "BENCHMARKS", {**options.BENCHMARKS, "letters": Letters(6)})
    monkeypatch.setenv("COLUMNS", "200")


def call(*arguments: Any, **environment: str) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], env=environment)


def test_run_then_report(powercut: str, tmp_path: Path) -> None:
    done = call("run", "letters", "--url", f"{powercut}/v1", "--output", tmp_path, "--power", '{"blocks": 2}')
    assert done.exit_code == 0, done.output
    assert read_settings(tmp_path)["identity"]["arms"][0]["power"] == {
        "method": "entropy_cut",
        "alpha": 4.0,
        "blocks": 2,
    }
    reported = call("report", tmp_path)
    assert reported.exit_code == 0, reported.output
    assert "| entropy_cut | 6 |" in reported.output
    assert {"report.md", "report.json", "report.html"} <= {path.name for path in tmp_path.iterdir()}


def test_a_comparison_without_arms_compares_the_five(powercut: str, tmp_path: Path) -> None:
    power = '{"blocks": 2, "steps_per_block": 2}'
    done = call("compare", "letters", "--url", powercut, "--output", tmp_path, "--power", power, "--limit", 2)
    assert done.exit_code == 0, done.output
    assert len(read_records(tmp_path)) == 10
    assert read_settings(tmp_path)["identity"]["reference"] == "entropy_cut"


def test_divergence_writes_its_table(powercut: str, tmp_path: Path) -> None:
    done = call("divergence", "letters", "--url", powercut, "--output", tmp_path, "--limit", 2, "--max-tokens", 8)
    assert done.exit_code == 0, done.output
    assert "# Divergence at entropy jumps" in done.output
    assert (tmp_path / "divergence.json").exists()


def test_the_published_preset(powercut: str, tmp_path: Path) -> None:
    power = '{"steps_per_block": 1}'
    done = call("run", "letters", "--url", powercut, "--output", tmp_path, "--preset", "paper", "--power", power)
    assert done.exit_code == 0, done.output
    identity = read_settings(tmp_path)["identity"]
    assert identity["max_tokens"] == Letters.defaults.paper_max_tokens
    assert identity["arms"][0]["power"] == {
        "method": "entropy_cut",
        "alpha": 4.0,
        "blocks": 16,
        "steps_per_block": 1,
        "cut_power": 4,
        "top_k": 50,
        "mode": "paper",
    }


def test_a_template_of_ones_own_is_recorded_by_its_hash(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("Solve: {question} Answer:")
    server = Scripted()
    with served(server.app) as url:
        done = call(
            "run", "letters", "--url", url, "--output", tmp_path / "r", "--prompt-template", tmp_path / "mine.txt"
        )
    assert done.exit_code == 0, done.output
    assert server.bodies[0]["prompt"].startswith("Solve: Question ")
    assert read_settings(tmp_path / "r")["identity"]["template_sha256"]


def test_keys_come_from_the_environment_and_stay_out_of_the_folder(tmp_path: Path) -> None:
    ours, theirs = Scripted(), Scripted()
    with served(ours.app) as url, served(theirs.app) as other:
        arms = ["--arm", "standard", "--arm", f"rl-7b={other}#other"]
        keys = {"POWERCUT_EVAL_API_KEY": "our-key", "POWERCUT_EVAL_API_KEY_RL_7B": "their-key"}
        done = call("compare", "letters", "--url", url, "--output", tmp_path, *arms, **keys)
    assert done.exit_code == 0, done.output
    assert {headers["authorization"] for headers in ours.headers} == {"Bearer our-key"}
    assert {headers["authorization"] for headers in theirs.headers} == {"Bearer their-key"}
    for path in tmp_path.iterdir():
        assert b"-key" not in path.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nosuch"], "unknown benchmark 'nosuch'"),
        (["run", "letters", "--power", "{"], "--power: not JSON"),
        (["run", "letters", "--power", "[]"], "--power: a JSON object is wanted"),
        (["run", "letters", "--power", "{}", "--temperature", "1"], "plain sampling's"),
        (["run", "letters", "--prompt-style", "odd"], "unknown style 'odd'"),
        (["run", "letters", "--prompt-template", "/nosuch/file"], "cannot be read"),
        (["compare", "letters", "--power", '{"method": "smc"}'], "leave out method"),
        (["compare", "letters", "--power", '{"block": 4}'], "no arm uses 'block'"),
        (["compare", "letters", "--power", '{"tries": 4}'], "no arm uses 'tries'"),
        (["compare", "letters", "--arm", "standard", "--arm", "standard"], "given twice"),
        (["compare", "letters", "--reference", "x"], "no arm 'x'"),
        (["run", "letters", "--model", "wrong"], "has no 'wrong'"),
    ],
)
def test_mistakes_are_one_clear_line(arguments: list[str], message: str, powercut: str, tmp_path: Path) -> None:
    done = call(*arguments, "--url", powercut, "--output", tmp_path / "r")
    assert done.exit_code == 1
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_calls_that_failed_show_in_the_exit_code(powercut: str, tmp_path: Path) -> None:
    done = call("run", "letters", "--url", powercut, "--output", tmp_path, "--power", '{"nosuch": 1}')
    assert done.exit_code == 2
    assert "6 calls failed and are recorded as such" in done.output
    assert {each["failure"]["status"] for each in read_records(tmp_path).values()} == {422}


def test_a_server_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    done = call("run", "letters", "--url", url, "--output", tmp_path, "--retries", 1)
    assert done.exit_code == 1
    assert "cannot be used" in done.output


def test_other_settings_in_the_same_folder_are_refused(powercut: str, tmp_path: Path) -> None:
    common = ["run", "letters", "--url", powercut, "--output", tmp_path]
    assert call(*common).exit_code == 0
    before = (tmp_path / RECORDS).read_bytes()
    done = call(*common, "--seed", 3)
    assert done.exit_code == 1
    assert "seed: 0 → 3" in done.output
    assert (tmp_path / RECORDS).read_bytes() == before


def test_a_report_on_no_run_is_one_clear_line(tmp_path: Path) -> None:
    done = call("report", tmp_path)
    assert done.exit_code == 1
    assert "holds no run" in " ".join(done.output.split())


@pytest.mark.slow
def test_an_interrupt_ends_the_command_and_the_same_command_goes_on(tmp_path: Path) -> None:
    server = Scripted()
    server.hold = 30
    with served(server.app) as url:
        arguments = ["run", "letters", "--url", url, "--output", str(tmp_path / "r")]
        command = [sys.executable, "-m", "tests.evals.made_up", *arguments]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts
        )
        wait_until(lambda: len(server.bodies) == 8, "calls under way")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130, said
        assert "the same command goes on" in said
        wait_until(lambda: server.cancelled == 8, "the server to hear of it")
        server.hold = 0
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stderr=subprocess.DEVNULL)
    assert len(read_records(tmp_path / "r")) == 120


def test_versions_and_settings_are_json(powercut: str, tmp_path: Path) -> None:
    assert call("run", "letters", "--url", powercut, "--output", tmp_path).exit_code == 0
    for line in (tmp_path / RECORDS).read_text().splitlines():
        assert json.loads(line)["settings"] == read_settings(tmp_path)["digest"]
