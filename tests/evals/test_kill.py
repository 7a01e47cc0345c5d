"""`kill -9` at random moments over one run: the records in the end are those of an undisturbed run."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evals.records import RECORDS, read_records
from tests.evals.running import lasting
from tests.service.serving import ROOT

POWER = '{"blocks": 4, "steps_per_block": 4, "prefetch": false}'
LIMIT_S = 600.0
"""For one undisturbed run: minutes on a machine that does ten other things."""


def command(url: str, output: Path, kind: str, repeats: int) -> list[str]:
    """The run, as its own process."""
    options = ["--max-tokens", "8", "--power", POWER, "--concurrency", "4", "--repeats", str(repeats)]
    arms = ["--arm", "entropy_cut", "--arm", "best_of_n"] if kind == "compare" else []
    base = [sys.executable, "-m", "tests.evals.made_up", kind, "letters", "--url", url, "--output", str(output)]
    return [*base, *options, *arms]


def lines(output: Path) -> int:
    """Whole lines of the records so far."""
    path = output / RECORDS
    return path.read_bytes().count(b"\n") if path.exists() else 0


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    """The process, importing this checkout."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(arguments: list[str]) -> None:
    """Run to the end."""
    process = start(arguments)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors.decode()


def kill_over_and_over(arguments: list[str], output: Path, kills: int, total: int, rng: random.Random) -> None:
    """Kill the run so many times, each time after some more records or within its start."""
    for number in range(kills):
        process = start(arguments)
        share = (total - lines(output)) // (kills - number + 1)
        goal = lines(output) + rng.randint(1, max(1, share))
        # one in five while it starts, reads its records or truncates a torn one
        early = rng.random() < 0.2
        until = time.monotonic() + (rng.uniform(0, 1.0) if early else LIMIT_S)
        while lines(output) < goal and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)  # seldom looked at, a quick run would be over
        assert early or time.monotonic() < until, f"waited {LIMIT_S} s for records"
        time.sleep(rng.uniform(0, 0.02))
        ended = process.poll()
        process.kill()
        _, errors = process.communicate()
        assert ended is None, f"it ended before it was killed: {errors.decode()}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "compare"])
def test_killed_a_few_times(kind: str, tmp_path: Path, powercut: str) -> None:
    check(kind, tmp_path, powercut, kills=5 if kind == "run" else 2, repeats=2 if kind == "run" else 1)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["run", "compare"])
def test_killed_fifty_times(kind: str, tmp_path: Path, powercut: str) -> None:
    check(kind, tmp_path, powercut, kills=50, repeats=10 if kind == "run" else 5)


def check(kind: str, folder: Path, url: str, kills: int, repeats: int) -> None:
    """The same records, none twice and none missing."""
    undisturbed, disturbed = folder / "undisturbed", folder / "disturbed"
    finish(command(url, undisturbed, kind, repeats))
    total = 120 * repeats * (2 if kind == "compare" else 1)
    assert lines(undisturbed) == total
    arguments = command(url, disturbed, kind, repeats)
    kill_over_and_over(arguments, disturbed, kills, total, random.Random(f"{kind} {kills}"))
    assert lines(disturbed) < total
    finish(arguments)
    assert lines(disturbed) == total, "no answer was asked twice once it was written"
    assert lasting(read_records(disturbed)) == lasting(read_records(undisturbed))
