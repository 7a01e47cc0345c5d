"""Runs against a scripted server: nothing repeated, nothing lost, nothing scored that was not answered."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from starlette.responses import JSONResponse

from evals.errors import OptionError, ServerUnusable
from evals.records import RECORDS, Key
from evals.session import carry_out
from evals.settings import Arm, answer_seed
from tests.evals.running import STANDARD, carry, lasting, plan
from tests.evals.servers import Scripted, completion, refuses, served
from tests.service.serving import free_port


def test_every_answer_is_asked_once_with_its_own_seed_and_recorded(tmp_path: Path) -> None:
    server = Scripted()
    with served(server.app) as url:
        found = carry(plan(url, tmp_path, repeats=2, seed=5))
        assert len(found) == 24
        assert len(server.bodies) == 24
        assert carry(plan(url, tmp_path, repeats=2, seed=5)) == found
        assert len(server.bodies) == 24, "a second run has nothing to ask"
    assert {body["seed"] for body in server.bodies} == {
        answer_seed(5, f"letters/{i}", r) for i in range(12) for r in range(2)
    }
    one = found[Key("standard", "letters/3", 1)]
    assert one["status"] == "answered"
    assert one["tokens"] == {"prompt": 2, "completion": 3, "generated": 3}
    assert one["verdict"]["status"] == ("correct" if one["seed"] % 2 else "incorrect")
    assert one["request"] == {"max_tokens": 8, "logprobs": 0}
    assert one["data_sha256"]
    assert one["versions"]["powercut"] != "unknown"
    assert one["model"] == "base"
    assert one["timings"]["server_s"] > 0
    body = server.bodies[0]
    assert (body["stop"], body["logprobs"], "power" in body, "temperature" in body) == (["bb"], 0, False, False)


def test_chat_prompts_go_to_the_chat_route(tmp_path: Path) -> None:
    server = Scripted()
    with served(server.app) as url:
        found = carry(plan(url, tmp_path, chat=True, problems=2, max_stops=0))
    assert all(each["status"] == "answered" for each in found.values())
    assert server.bodies[0]["messages"][0]["content"].startswith("Question")
    assert server.bodies[0]["logprobs"] is True
    assert "stop" not in server.bodies[0]


def test_failures_are_recorded_as_failures_and_asked_again_by_a_rerun(tmp_path: Path) -> None:
    odd = answer_seed(0, "letters/3", 0)

    def fails_one(body: dict[str, Any]) -> Any:
        return refuses(422, "stop: too long")(body) if body["seed"] == odd else JSONResponse(completion())

    server = Scripted(otherwise=fails_one)
    with served(server.app) as url:
        found = carry(plan(url, tmp_path))
        failed = found[Key("standard", "letters/3", 0)]
        assert failed["status"] == "failed"
        assert failed["failure"] == {"kind": "refused", "status": 422, "message": "422: stop: too long"}
        assert "verdict" not in failed
        assert sum(each["status"] == "answered" for each in found.values()) == 11
        server.otherwise = lambda body: JSONResponse(completion())
        before = len(server.bodies)
        assert carry(plan(url, tmp_path))[Key("standard", "letters/3", 0)]["status"] == "answered"
        assert len(server.bodies) == before + 1
    assert len((tmp_path / RECORDS).read_bytes().splitlines()) == 13


def test_a_server_that_refuses_everything_stops_the_run_early(tmp_path: Path) -> None:
    server = Scripted(otherwise=refuses(422, "power: unknown field"))
    with served(server.app) as url:
        with pytest.raises(ExceptionGroup) as caught:
            carry(plan(url, tmp_path, problems=100, concurrency=2))
        assert caught.group_contains(ServerUnusable, match="10 calls in a row failed.*power: unknown field")
    assert len(server.bodies) < 20


def test_an_ungradable_answer_is_not_called_wrong(tmp_path: Path) -> None:
    server = Scripted(otherwise=lambda body: JSONResponse(completion("ungradable")))
    with served(server.app) as url:
        found = carry(plan(url, tmp_path, problems=2))
    assert [each["verdict"]["status"] for each in found.values()] == ["failed", "failed"]


def test_a_server_without_model_list_needs_a_model_and_a_wrong_model_is_refused(tmp_path: Path) -> None:
    server = Scripted()
    with served(server.app) as url:
        with pytest.raises(OptionError, match="has no 'mine'; it lists base, other"):
            carry(replace(plan(url, tmp_path / "a"), model="mine"))
        server.models = []
        with pytest.raises(OptionError, match="say which one"):
            carry(plan(url, tmp_path / "b"))
        assert carry(replace(plan(url, tmp_path / "c", problems=1), model="mine"))
    assert server.bodies[0]["model"] == "mine"
    with pytest.raises(ServerUnusable, match="cannot be used"):
        carry(plan(f"http://127.0.0.1:{free_port()}", tmp_path / "d"))


def test_two_servers_and_their_keys(tmp_path: Path) -> None:
    ours, theirs = Scripted(), Scripted()
    with served(ours.app) as url, served(theirs.app) as other:
        arms = STANDARD, Arm("rl", None, model="other", url=other)
        keys = {url: "ours", other: "theirs"}
        found = carry(plan(url, tmp_path, *arms, problems=3, keys=keys))
    assert len(found) == 6
    assert {body["model"] for body in theirs.bodies} == {"other"}
    assert {headers["authorization"] for headers in ours.headers} == {"Bearer ours"}
    assert {headers["authorization"] for headers in theirs.headers} == {"Bearer theirs"}


def test_as_many_calls_at_once_as_asked_for_and_an_interrupt_frees_them(tmp_path: Path) -> None:
    server = Scripted()
    server.hold = 20

    async def interrupted(url: str) -> None:
        task = asyncio.create_task(carry_out(plan(url, tmp_path, concurrency=3), Console(quiet=True)))
        while len(server.bodies) < 3:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert len(server.bodies) == 3
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while server.cancelled < 3:
            await asyncio.sleep(0.01)

    with served(server.app) as url:
        asyncio.run(asyncio.wait_for(interrupted(url), 20))
        server.hold = 0
        assert len(carry(plan(url, tmp_path, concurrency=3))) == 12


def test_a_run_on_powercut_keeps_what_the_chain_reports(tmp_path: Path, powercut: str) -> None:
    arm = Arm("entropy_cut", {"method": "entropy_cut", "blocks": 4, "steps_per_block": 4, "prefetch": False})
    found = carry(plan(powercut, tmp_path / "a", arm, problems=6))
    for each in found.values():
        assert each["power"]["steps"] == 16
        assert each["tokens"]["generated"] == each["power"]["generated_tokens"] >= each["tokens"]["completion"]
        assert each["chain"]["ended_by"] == "completed"
        assert "token_ids" not in each["chain"]
        assert each["log_p"] <= 0
    assert lasting(carry(plan(powercut, tmp_path / "b", arm, problems=6, concurrency=1))) == lasting(found)
