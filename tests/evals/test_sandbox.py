"""Model-written code in the sandbox: what is right passes, nothing else does, and nothing gets out or stays behind."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evals.errors import SandboxMissing
from evals.grading import Grading
from evals.sandbox import Limits, Program, Sandbox, command, judge
from tests.evals.programs import BOMBS, CHEATS, REACHES, RIGHT, SEARCH, SEARCH_TESTS, TESTS, WANTED, asked, contained

pytestmark = pytest.mark.usefixtures("bubblewrap")
ROOT = Path(__file__).parents[2]


async def test_a_right_program_passes_and_a_wrong_one_does_not(grading: Grading) -> None:
    assert (await grading.check(asked(RIGHT))).status == "passed"
    wrong = await grading.check(asked("def f(x):\n    return 0\n"))
    assert (wrong.status, wrong.detail) == ("rejected", "an assertion of the tests does not hold (line 3 of the tests)")


@pytest.mark.slow
@pytest.mark.parametrize("name", CHEATS)
async def test_a_cheat_is_rejected_for_what_it_is(grading: Grading, name: str) -> None:
    solution, reason = CHEATS[name]
    outcome = await grading.check(asked(solution))
    assert outcome.status == "rejected"
    assert re.search(reason, outcome.detail), outcome.detail


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_ends_within_its_limits_and_the_run_goes_on(short: Grading, name: str) -> None:
    solution, reason = BOMBS[name]
    outcome = await short.check(asked(solution))
    assert outcome.status == "rejected"
    assert re.search(reason, outcome.detail), outcome.detail
    assert (await short.check(asked(RIGHT))).status == "passed"


@pytest.mark.slow
async def test_sleeping_is_ended_by_the_wall_clock(bubblewrap: None) -> None:
    async with Grading(limits=Limits(wall_s=2.0)) as grading:
        outcome = await grading.check(asked("import time\ndef f(x):\n    time.sleep(1000)\n"))
    assert (outcome.status, outcome.detail) == ("rejected", "not done within 2 s")


@pytest.mark.slow
@pytest.mark.parametrize("name", REACHES)
async def test_what_is_outside_is_out_of_reach(grading: Grading, name: str) -> None:
    outcome = await grading.check(contained(REACHES[name]))
    assert outcome.status == "passed", outcome.detail


async def test_the_tests_and_the_secret_cannot_be_found(grading: Grading) -> None:
    planted = f"held = ['the-wanted-number-is-{WANTED}']\n"
    assert (await grading.check(asked(planted + SEARCH, SEARCH_TESTS))).status == "passed", (
        "the search finds nothing at all"
    )
    outcome = await grading.check(asked(SEARCH, SEARCH_TESTS))
    assert (outcome.status, outcome.detail.split(" (")[0]) == ("rejected", "an assertion of the tests does not hold")


async def test_a_patched_interpreter_leaves_the_tests_alone(grading: Grading) -> None:
    patched = (
        "import builtins, operator, sys\nbuiltins.all = lambda *_: True\nbuiltins.abs = lambda *_: 0\n"
        "builtins.len = lambda *_: 2\nsys.modules['math'] = builtins\ndef f(x):\n    return [1, 2, 3]\n"
    )
    tests = "import math\nassert len(f(0)) == 2 or all([False]) or abs(3) == 0 or math.fabs(-1) == 0"
    assert (await grading.check(asked(patched, tests))).status == "rejected"


async def test_every_kind_of_plain_data_goes_both_ways(grading: Grading) -> None:
    tests = """
values = [None, True, False, 0, -7, 10 ** 5000, 1.5, -0.0, float("inf"), 2 + 3j, "", "é\\ud800", b"\\0\\xff", [], (1,),
          {1, 2}, frozenset({3}), {"a": [1, (2, {3: None})]}, [[[]]], range(3, 9, 2)]
for value in values:
    back = f(value)
    assert back == value and type(back) is type(value), value
assert f(float("nan")) != f(float("nan"))
assert list(f(iter([1, 2]))) == [1, 2]
assert f(x=1) == 1
"""
    assert (await grading.check(asked("def f(x):\n    return x\n", tests))).status == "passed"


async def test_tests_see_builtin_exceptions_of_the_program(grading: Grading) -> None:
    tests = (
        "try:\n    f(0)\nexcept ZeroDivisionError as error:\n    assert 'zero' in str(error)\nelse:\n    assert False"
    )
    assert (await grading.check(asked("def f(x):\n    return 1 / x\n", tests))).status == "passed"


async def test_tests_that_do_not_run_are_our_fault_and_not_the_programs(grading: Grading) -> None:
    assert (await grading.check(asked(RIGHT, "def check(:"))).status == "broken"
    assert (await grading.check(asked(RIGHT, TESTS, "raise SystemExit"))).status == "broken"
    assert (await grading.check(asked(RIGHT, "f(object())"))).status == "broken"


async def test_helpers_of_the_stub_are_there_for_the_tests(grading: Grading) -> None:
    prelude = "def double(x):\n    return 2 * x\ndef f(x):\n    pass\n"
    assert (
        await grading.check(Program(RIGHT, "f", prelude, f"assert f(double(1)) == {WANTED + 1}"))
    ).status == "passed"


def alive(marker: str) -> list[int]:
    """Processes that hold a marker in their command line."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def sleeper(marker: str) -> str:
    return (
        "import subprocess, threading, time\n"
        f"kept = [subprocess.Popen(['/usr/bin/sleep', '{marker}'], start_new_session=s) for s in (True, False)]\n"
        "threading.Thread(target=time.sleep, args=(1000,)).start()\n"
        f"def f(x):\n    assert [p.poll() for p in kept] == [None, None]\n    return {WANTED - 1} + x\n"
    )


async def test_threads_and_processes_left_running_end_with_the_check(grading: Grading) -> None:
    marker = f"9{os.getpid()}.25"
    assert (await grading.check(asked(sleeper(marker)))).status == "passed"
    while alive(marker):  # the kernel ends them when the sandbox's first process is gone
        await asyncio.sleep(0.01)


async def test_a_cancelled_check_leaves_nothing(grading: Grading) -> None:
    marker = f"8{os.getpid()}.25"
    task = asyncio.create_task(grading.check(asked(sleeper(marker) + "time.sleep(1000)\n")))
    while not alive(marker):
        await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while alive(marker):
        await asyncio.sleep(0.05)


def test_a_killed_harness_leaves_nothing() -> None:
    marker = f"7{os.getpid()}.25"
    harness = (
        "import asyncio\nfrom evals.grading import Grading\nfrom tests.evals.programs import asked\n"
        f"asyncio.run(Grading().check(asked({sleeper(marker) + 'time.sleep(1000)'!r})))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", harness], cwd=ROOT)
    while not alive(f"sleep\0{marker}"):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while alive(f"sleep\0{marker}"):
        time.sleep(0.05)


@pytest.mark.parametrize(
    "told",
    [
        *("passed wrong \n", "passed  \n", "passed\n", "", "passed right ", "right\n", "passed right \nmore\n"),
        *("broken wrong it is\n", "broken right it is\npassed right \n", "done right \n", "passed\n right \n"),
        "\udcff\n",
    ],
)
def test_a_line_without_the_secret_counts_for_nothing(told: str) -> None:
    outcome = judge(f"ready  \n{told}".encode("utf-8", "surrogateescape"), b"", "right")
    assert (outcome.status, outcome.detail) == ("rejected", "the check ended without a result")


def test_a_line_with_the_secret_is_the_checkers() -> None:
    assert judge(b"ready  \npassed right \n", b"", "right").status == "passed"
    assert judge(b"ready  \nrejected right it is wrong\n", b"", "right").detail == "it is wrong"
    assert judge(b"ready  \nbroken right our fault\n", b"", "right").status == "broken"
    refused = judge(b"", b"bwrap: No permissions to create new namespace\n", "right")
    assert (refused.status, "No permissions" in refused.detail) == ("broken", True)


async def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxMissing, match=r"bubblewrap is not installed.*apt-get install bubblewrap.*--unsafe"):
        await Grading().prepare(runs_code=True)
    await Grading().prepare(runs_code=False)


@pytest.fixture
def broken_bubblewrap() -> Iterator[Path]:
    """A folder with a bwrap that is refused its namespaces, as in a locked-down container.

    Every user can read it: the check has given up root's rights when it starts the program.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        program = folder / "bwrap"
        program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
        program.chmod(0o755)
        yield folder


async def test_a_sandbox_that_does_not_work_is_refused_with_its_own_words(
    monkeypatch: pytest.MonkeyPatch, broken_bubblewrap: Path
) -> None:
    monkeypatch.setattr(command, "PATH", f"{broken_bubblewrap}:/usr/bin:/bin")
    with pytest.raises(SandboxMissing, match="No permissions to create new namespace"):
        await Sandbox().check(asked(RIGHT))


# Each wall taken away lets through what it is there for: the tests above can fail.
WALLS = {
    "--remount-ro /dev": ("writing outside", 2),
    "--remount-ro /": ("writing outside", 2),
    "--size": ("filling the disk", 2),
    "--seccomp": ("refused system calls", 2),
}


@pytest.mark.parametrize("option", WALLS)
async def test_each_wall_is_needed(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    reach, words = WALLS[option]

    def without(tools: command.Tools, inner: list[str], scratch_bytes: int) -> list[str]:
        whole = command.sandboxed_command(tools, inner, scratch_bytes)
        named = option.split()
        place = next(i for i in range(len(whole)) if whole[i : i + len(named)] == named)
        return whole[:place] + whole[place + words :]

    sandbox = Sandbox()
    await sandbox.prepare()
    monkeypatch.setattr("evals.sandbox.sandboxed_command", without)
    outcome = await sandbox.check(contained(REACHES[reach]))
    assert outcome.status == "rejected"
    assert "does not hold" in outcome.detail


@pytest.mark.slow
async def test_unsafe_runs_with_limits_and_says_what_it_is() -> None:
    async with Grading(unsafe=True, limits=Limits(wall_s=20, cpu_s=1)) as grading:
        await grading.prepare(runs_code=True)
        assert (await grading.check(asked(RIGHT))).status == "passed"
        assert (await grading.check(asked("import os\nos._exit(0)\n"))).status == "rejected"
        assert (await grading.check(asked("while True:\n    pass\n"))).status == "rejected"
        assert grading.describe()["sandbox"]["kind"] == "none (unsafe)"


async def test_what_was_used_is_told(grading: Grading) -> None:
    await grading.prepare(runs_code=True)
    told = grading.describe()["sandbox"]
    assert told["kind"] == "bubblewrap"
    assert re.fullmatch(r"[\d.]+", told["bubblewrap"])
    assert told["system_call_filter"] is True


async def test_a_sandbox_too_slow_to_start_is_not_the_programs_fault() -> None:
    sandbox = Sandbox()
    await sandbox.prepare()
    sandbox.limits = Limits(wall_s=0.001)
    outcome = await sandbox.check(asked(RIGHT))
    assert (outcome.status, outcome.detail) == ("broken", "not done within 0.001 s")
