"""Child processes: reused, replaced when dead, killed when nobody wants their work."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.analysis.analyst import Analyst, Busy
from service.api.analysis import until_cut
from service.call import Call
from service.errors import ApiError
from service.settings import Settings
from tests.analysis.conftest import PATIENCE_S
from tests.service.serving import wait_until

pytestmark = pytest.mark.slow  # each starts a worker process, which imports the libraries of its work

REGISTRY = "tests.analysis.probes:PROBES"


@pytest.fixture
async def analyst() -> AsyncIterator[Analyst]:
    made = Analyst(Settings(analysis_workers=1, analysis_time_limit_s=PATIENCE_S), REGISTRY)
    yield made
    await made.aclose()
    assert not made.pool.idle
    assert not made.pool.busy


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def refusal(analyst: Analyst, body: dict[str, Any], name: str = "probe") -> ApiError:
    with pytest.raises(ApiError) as caught:
        await analyst.analyse(name, body)
    return caught.value


async def test_a_process_is_used_again_and_a_seed_gives_the_same_number(analyst: Analyst) -> None:
    first = await analyst.analyse("probe", {"seed": 5})
    second = await analyst.analyse("probe", {"seed": 5})
    assert first == second
    assert first["pid"] != os.getpid()
    assert first["seed"] == 5
    drawn = await analyst.analyse("probe", {})
    assert drawn["seed"] != 5
    assert drawn["number"] == (await analyst.analyse("probe", {"seed": drawn["seed"]}))["number"]
    assert (await analyst.analyse("probe/unseeded", {}))["seed"] is None


async def test_an_analysis_with_a_process_of_its_own_leaves_it_to_nobody(analyst: Analyst) -> None:
    shared = await analyst.analyse("probe", {})
    own = await analyst.analyse("probe/own", {})
    assert own["pid"] != shared["pid"]
    wait_until(lambda: not is_running(own["pid"]), "the process to end")
    assert (await analyst.analyse("probe", {}))["pid"] == shared["pid"]


async def test_what_a_library_prints_does_not_spoil_the_channel(analyst: Analyst) -> None:
    assert (await analyst.analyse("probe", {"action": "print"}))["method"] == "print"


async def test_progress_arrives_in_order(analyst: Analyst) -> None:
    seen: list[tuple[float, str]] = []
    await analyst.analyse("probe", {"action": "report"}, progress=lambda fraction, note: seen.append((fraction, note)))
    assert seen == [(done / 4, f"part {done}") for done in range(5)]


async def test_refusals_name_the_field(analyst: Analyst) -> None:
    refused = await refusal(analyst, {"action": "refuse"})
    assert (refused.status, refused.param) == (422, "scale")
    assert "at most 10" in refused.message
    conflict = await refusal(analyst, {"action": "conflict"})
    assert (conflict.status, conflict.code) == (409, "inconsistent_oracle")
    schema = await refusal(analyst, {"scale": 11.0})
    assert (schema.status, schema.param) == (422, "scale")
    unknown = await refusal(analyst, {"colour": "red"})
    assert (unknown.param, unknown.code) == ("colour", "unknown_field")
    assert (await refusal(analyst, {}, "no-such")).status == 404


async def test_a_dead_process_is_told_and_replaced(analyst: Analyst) -> None:
    before = await analyst.analyse("probe", {})
    died = await refusal(analyst, {"action": "die"})
    assert (died.status, died.code) == (503, "worker_died")
    after = await analyst.analyse("probe", {})
    assert after["pid"] != before["pid"]


async def test_a_process_that_died_while_idle_costs_nobody_a_request(analyst: Analyst) -> None:
    before = await analyst.analyse("probe", {"seed": 1})
    os.kill(before["pid"], 9)  # at once: the pool cannot know of it yet
    after = await analyst.analyse("probe", {"seed": 1})
    assert after["pid"] != before["pid"]
    assert after["number"] == before["number"]


async def test_a_failure_says_nothing_of_its_insides_and_a_nan_never_leaves(analyst: Analyst) -> None:
    for action in ("raise", "not_a_number"):
        failed = await refusal(analyst, {"action": action})
        assert failed.status == 500
        assert "secret" not in failed.message
    assert (await analyst.analyse("probe", {}))["method"] == "draw_number"


async def test_memory_is_limited(analyst: Analyst) -> None:
    failed = await refusal(analyst, {"action": "much_memory"})
    assert (failed.status, failed.code) == (503, "out_of_memory")


async def test_the_time_limit_kills_the_process(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    analyst = Analyst(Settings(analysis_job_time_limit_s=2.0), REGISTRY)
    body = {"action": "hang", "pid_file": str(pid_file)}
    task = asyncio.ensure_future(refusal(analyst, body))
    failed = await task
    assert (failed.status, failed.code) == (504, "analysis_timeout")
    if pid_file.exists():  # on a very slow machine the limit may come before the work begins
        wait_until(lambda: not is_running(int(pid_file.read_text())), "the process to end")
    assert not analyst.pool.busy
    assert not analyst.pool.idle


async def test_cancelling_kills_the_process_and_frees_the_place(analyst: Analyst, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    body = {"action": "hang", "pid_file": str(pid_file)}
    task = asyncio.create_task(analyst.analyse("probe", body, job=False))
    while not pid_file.exists():
        assert not task.done()
        await asyncio.sleep(0.01)
    with pytest.raises(Busy):
        await analyst.analyse("probe", {}, job=False)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    wait_until(lambda: not is_running(int(pid_file.read_text())), "the process to end")
    assert (await analyst.analyse("probe", {}, job=False))["method"] == "draw_number"


async def test_a_server_that_stops_cuts_the_work_off(analyst: Analyst, tmp_path: Path) -> None:
    pid_file, call = tmp_path / "pid", Call()
    probe = analyst.analyses["probe"]
    request = probe.request.model_validate({"action": "hang", "pid_file": str(pid_file)})
    task = asyncio.create_task(until_cut(call, analyst.run(probe, request)))
    while not pid_file.exists():
        assert not task.done()
        await asyncio.sleep(0.01)
    call.cut()
    with pytest.raises(ApiError) as caught:
        await task
    assert (caught.value.status, caught.value.code) == (503, "shutting_down")
    wait_until(lambda: not is_running(int(pid_file.read_text())), "the process to end")
    assert analyst.running == 0


async def test_jobs_wait_their_turn(analyst: Analyst) -> None:
    replies = await asyncio.gather(*(analyst.analyse("probe", {"seed": seed}) for seed in range(4)))
    assert [reply["seed"] for reply in replies] == [0, 1, 2, 3]
    assert len({reply["pid"] for reply in replies}) == 1


async def test_rows_of_batches_have_a_seed_of_their_own_that_survives_a_second_run(analyst: Analyst) -> None:
    handlers = analyst.row_handlers(lambda context: context.number)

    def row(number: int) -> Any:
        return SimpleNamespace(number=number, owner="alice", key=SimpleNamespace(batch_id="batch_1", number=number))

    assert set(handlers) == {f"/v1/analysis/{name}" for name in analyst.analyses}
    answer = handlers["/v1/analysis/probe"]
    assert await answer({}, row(1 << 60)) == await answer({}, row(1 << 60))
    assert (await answer({}, row(7)))["seed"] == 7
    assert (await answer({"seed": 3}, row(7)))["seed"] == 3
    assert (await handlers["/v1/analysis/probe/unseeded"]({}, row(7)))["seed"] is None
    with pytest.raises(ApiError) as caught:
        await answer({"scale": -1.0}, row(7))
    assert (caught.value.status, caught.value.param) == (422, "scale")


async def test_long_analyses_are_for_jobs(analyst: Analyst) -> None:
    with pytest.raises(ApiError) as caught:
        await analyst.analyse("probe/long", {}, job=False)
    assert (caught.value.status, caught.value.code) == (422, "job_only")
    assert (await analyst.analyse("probe/long", {}))["method"] == "draw_number"


async def test_closing_ends_what_runs(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    analyst = Analyst(Settings(), REGISTRY)
    task = asyncio.create_task(refusal(analyst, {"action": "hang", "pid_file": str(pid_file)}))
    while not pid_file.exists():
        assert not task.done()
        await asyncio.sleep(0.01)
    await analyst.aclose()
    assert (await task).code == "worker_died"
    wait_until(lambda: not is_running(int(pid_file.read_text())), "the process to end")


def test_a_parent_that_is_killed_takes_its_processes_along(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = f"""
import asyncio
from service.analysis.analyst import Analyst
from service.settings import Settings
body = {{"action": "hang", "pid_file": {str(pid_file)!r}}}
asyncio.run(Analyst(Settings(), {REGISTRY!r}).analyse("probe", body))
"""
    with subprocess.Popen([sys.executable, "-c", program]) as parent:
        try:
            wait_until(pid_file.exists, "the work to begin", PATIENCE_S)
        finally:
            parent.kill()
    wait_until(lambda: not is_running(int(pid_file.read_text())), "the process to end")
