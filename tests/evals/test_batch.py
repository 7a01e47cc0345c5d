"""Runs through batches: the same records, a batch found again, and failures that say why."""

from pathlib import Path
from typing import Any

import pytest

from evals.batch import NOTE, Polling
from evals.errors import OptionError, ServerUnusable
from evals.records import RECORDS, Key
from evals.settings import Arm, answer_seed
from tests.evals.running import STANDARD, carry, lasting, plan
from tests.evals.servers import Scripted, WithBatches, answers, refuses, served

FAST = Polling(first_s=0.01, last_s=0.02)


def batched(url: str, output: Path, *arms: Arm, **more: Any) -> Any:
    return carry(plan(url, output, *arms, batch=True, polling=FAST, **more))


def without_time(records: Any) -> Any:
    return {key: {name: v for name, v in each.items() if name != "timings"} for key, each in lasting(records).items()}


def test_a_batch_gives_the_records_of_single_calls(tmp_path: Path) -> None:
    server = WithBatches(polls=3)
    with served(server.app) as url:
        found = batched(url, tmp_path / "a")
        assert len(found) == 12
        assert without_time(found) == without_time(carry(plan(url, tmp_path / "b")))
        assert found[Key("standard", "letters/0", 0)]["timings"]["server_s"] is None
    (batch,) = server.batches.values()
    assert (batch["endpoint"], batch["completion_window"]) == ("/v1/completions", "24h")
    assert not (tmp_path / "a" / NOTE).exists()


def test_chats_are_batched_to_the_chat_route(tmp_path: Path) -> None:
    server = WithBatches()
    with served(server.app) as url:
        assert len(batched(url, tmp_path, chat=True, problems=3)) == 3
    assert [batch["endpoint"] for batch in server.batches.values()] == ["/v1/chat/completions"]


def test_a_comparison_takes_two_batches_since_the_first_sets_the_budgets(tmp_path: Path) -> None:
    server = WithBatches()
    arms = Arm("power", {"method": "entropy_cut"}), STANDARD, Arm("cold", None, temperature=0.5)
    with served(server.app) as url:
        found = batched(url, tmp_path, *arms, problems=4, reference="power")
    assert len(found) == 12
    assert len(server.batches) == 2
    assert {each["budget_tokens"] for key, each in found.items() if key.arm != "power"} == {3}


def test_a_killed_harness_finds_its_batch_again(tmp_path: Path, monkeypatch: Any) -> None:
    server = WithBatches(polls=2)
    with served(server.app) as url:
        with monkeypatch.context() as patch:
            patch.setattr("evals.batch.BatchRun._wait", stop)
            with pytest.raises(KeyboardInterrupt):
                batched(url, tmp_path)
        assert (tmp_path / NOTE).exists()
        found = batched(url, tmp_path)
    assert len(server.batches) == 1, "it was paid for once"
    assert len(found) == len((tmp_path / RECORDS).read_bytes().splitlines()) == 12


async def stop(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_batch_that_the_server_forgot_is_sent_again(tmp_path: Path, monkeypatch: Any) -> None:
    server = WithBatches()
    with served(server.app) as url:
        with monkeypatch.context() as patch:
            patch.setattr("evals.batch.BatchRun._wait", stop)
            with pytest.raises(KeyboardInterrupt):
                batched(url, tmp_path)
        server.batches.clear()
        assert len(batched(url, tmp_path)) == 12


def test_lines_that_failed_or_are_missing_are_failures_and_asked_again(tmp_path: Path) -> None:
    refused, missing = (answer_seed(0, f"letters/{i}", 0) for i in (2, 5))

    def some_fail(body: dict[str, Any]) -> Any:
        if body["seed"] == missing:
            return None
        return refuses(422, "stop: too many")(body) if body["seed"] == refused else answers(body)

    server = WithBatches(otherwise=some_fail)
    with served(server.app) as url:
        found = batched(url, tmp_path)
        assert found[Key("standard", "letters/2", 0)]["failure"]["message"] == "422: stop: too many"
        assert found[Key("standard", "letters/5", 0)]["failure"]["kind"] == "failed"
        assert sum(each["status"] == "answered" for each in found.values()) == 10
        server.otherwise = answers
        found = batched(url, tmp_path)
    assert all(each["status"] == "answered" for each in found.values())
    assert [len(server.files[batch["input_file_id"]].splitlines()) for batch in server.batches.values()] == [12, 2]


def test_a_batch_refused_as_a_whole_says_why(tmp_path: Path) -> None:
    server = WithBatches()
    server.end = "failed"
    with served(server.app) as url:
        with pytest.raises(ServerUnusable, match="line 1: not a request"):
            batched(url, tmp_path)
        server.end = "completed"
        assert len(batched(url, tmp_path)) == 12


def test_a_server_without_batches_is_a_clear_error(tmp_path: Path) -> None:
    with served(Scripted().app) as url, pytest.raises(OptionError, match="has no /v1/files"):
        batched(url, tmp_path)


def test_batches_go_to_one_server(tmp_path: Path) -> None:
    other = Scripted()
    with (
        served(WithBatches().app) as url,
        served(other.app) as elsewhere,
        pytest.raises(OptionError, match="one server"),
    ):
        batched(url, tmp_path, STANDARD, Arm("rl", None, url=elsewhere))
