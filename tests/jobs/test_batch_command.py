"""`powercut batch run` does the whole round trip, survives a stop on either side, and says what is wrong."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from sampler.engines.tabular import from_table
from service.batch_client import read_state, state_path
from service.cli import app
from service.keys import new_key
from service.settings import Settings
from tests.interrupts import hear_interrupts
from tests.jobs.servers import ServerProcess, answers, completion_row, jsonl, look, tabular
from tests.service.serving import ROOT, command, serving
from tests.service.tables import letters_table


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address and the key of a server."""
    key, line = new_key("alice")
    settings = Settings(data_dir=tmp_path_factory.mktemp("data"), batch_poll_s=0.05, keys=line)  # type: ignore[arg-type]
    with serving(from_table(letters_table(), "letters"), settings) as url:
        yield url, key


def powercut(*words: str, key: str | None = None) -> Result:
    return CliRunner().invoke(app, ["batch", *words], env={"POWERCUT_API_KEY": key})


def written(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "in.jsonl"
    path.write_bytes(jsonl(rows))
    return str(path)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_file_of_requests_becomes_a_file_of_answers(server: tuple[str, str], tmp_path: Path) -> None:
    url, key = server
    source, output = written(tmp_path, [completion_row(number) for number in range(6)]), tmp_path / "out.jsonl"
    result = powercut("run", source, "-o", str(output), "--url", f"{url}/v1", "--poll-s", "0.05", key=key)
    assert result.exit_code == 0, result.output
    assert len(answers(read(output))) == 6
    assert "completed: " in result.stderr
    assert "accepted" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"], "nothing is left beside it"


def test_rows_that_failed_are_in_a_file_beside_it_and_the_exit_code_says_so(
    server: tuple[str, str], tmp_path: Path
) -> None:
    url, key = server
    source = written(tmp_path, [completion_row(0), completion_row(1, model="another")])
    result = powercut("run", source, "-o", str(tmp_path / "out.jsonl"), "--url", url, "--poll-s", "0.05", key=key)
    assert result.exit_code == 1
    assert [line["custom_id"] for line in read(tmp_path / "out.jsonl")] == ["row-0"]
    assert [line["custom_id"] for line in read(tmp_path / "out.errors.jsonl")] == ["row-1"]


def test_wrong_lines_are_named(server: tuple[str, str], tmp_path: Path) -> None:
    url, key = server
    source = tmp_path / "in.jsonl"
    source.write_bytes(jsonl([completion_row(0)]) + b"{broken\n")
    result = powercut("run", str(source), "-o", str(tmp_path / "out.jsonl"), "--url", url, key=key)
    assert result.exit_code == 1
    assert "line 2: the line is not JSON" in result.stderr
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "key", "says"),
    [
        (["--url", "nonsense"], None, "is no address"),
        (["--url", "{url}"], None, "a key is needed"),
        (["--url", "{url}"], "wrong", "the key is not valid"),
        (["--url", "{url}", "--window", "soon"], "{key}", "completion_window"),
    ],
)
def test_what_cannot_work_is_one_clear_line(
    server: tuple[str, str], tmp_path: Path, words: list[str], key: str | None, says: str
) -> None:
    url, right = server
    words = [word.replace("{url}", url) for word in words]
    source = written(tmp_path, [completion_row(0)])
    given = right if key == "{key}" else key
    result = powercut("run", source, "-o", str(tmp_path / "out.jsonl"), *words, key=given)
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_file_that_is_not_there_is_said(server: tuple[str, str], tmp_path: Path) -> None:
    result = powercut("run", str(tmp_path / "none.jsonl"), "-o", str(tmp_path / "out.jsonl"), "--url", server[0])
    assert result.exit_code == 2
    assert "No such file" in result.stderr


@pytest.mark.slow
def test_status_and_cancel_find_a_batch_by_its_output(server: tuple[str, str], tmp_path: Path) -> None:
    url, key = server
    slow = {"power": {"blocks": 256, "steps_per_block": 1000, "memo_tree": False}, "max_tokens": 256}
    source, output = written(tmp_path, [completion_row(number, **slow) for number in range(40)]), tmp_path / "out.jsonl"
    words = [*command("batch", "run", source), "-o", str(output), "--url", url, "--api-key", key]
    process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, preexec_fn=hear_interrupts)
    while (state := read_state(output)) is None or not state.batch_id:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130, said
    assert "the server works on" in said
    found = powercut("status", str(output), "--url", url, key=key)
    assert json.loads(found.stdout)["id"] == state.batch_id
    assert json.loads(found.stdout)["status"] in {"validating", "in_progress"}
    assert json.loads(powercut("cancel", state.batch_id, "--url", url, key=key).stdout)["status"] == "cancelling"
    again = powercut("run", source, "-o", str(output), "--url", url, "--poll-s", "0.05", key=key)
    assert again.exit_code == 1
    assert f"batch {state.batch_id}, begun before" in again.stderr
    assert "cancelled: " in again.stderr
    assert not state_path(output).exists()
    unknown = powercut("status", "batch_" + "0" * 32, "--url", url, key=key)
    assert unknown.exit_code == 2
    assert "there is no batch" in unknown.stderr


@pytest.mark.slow
def test_it_goes_on_after_a_kill_of_the_command_and_of_the_server(table_file: Path, tmp_path: Path) -> None:
    source = written(tmp_path, [completion_row(number) for number in range(150)])
    output = tmp_path / "out.jsonl"
    server = ServerProcess(tabular(table_file, tmp_path / "data", None), tmp_path / "log.txt")
    words = [*command("batch", "run", source), "-o", str(output), "--url", server.url, "--poll-s", "0.05"]
    with server.running() as url:
        first = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
        while (
            (state := read_state(output)) is None
            or not state.batch_id
            or not look(url, state.batch_id)["request_counts"]["completed"]
        ):
            time.sleep(0.02)
        first.kill()
        first.wait()
        second = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE)
        server.kill()
        time.sleep(1.0)
        server.start()
        said = second.communicate(timeout=120)[1].decode()
    assert second.returncode == 0, said
    assert f"batch {state.batch_id}, begun before" in said.replace("\n", " ")
    assert len(answers(read(output))) == 150
