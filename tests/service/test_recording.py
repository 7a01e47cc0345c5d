"""`powercut sample --html` writes down a request that gives the same run again, and loses no answer over it."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from service.cli import app
from tests.service.checks import GOOD
from tests.service.faulty import FaultyEngine
from tests.service.serving import serving
from tests.service.tables import letters_table

LARGEST_SAFE = (1 << 53) - 1
"""The largest integer that JavaScript's numbers keep apart from its neighbours."""


def sample(table: Path, *options: str) -> Result:
    """`powercut sample` on a table."""
    given = ["--engine", "tabular", "--model", str(table), "--max-tokens", "4"]
    return CliRunner().invoke(app, ["sample", "hi", *given, *options])


def recorded(table: Path, folder: Path, *options: str) -> dict[str, Any]:
    """The recording in the page that the command writes."""
    path = folder / "run.html"
    result = sample(table, "--html", str(path), *options)
    assert result.exit_code == 0, result.output
    [data] = re.findall(r'<script type="application/json" id="recording">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(data)


RUNS: dict[str, dict[str, Any]] = {
    "": {},
    "--method uniform_cut --mode paper --chains 3": {"mode": "paper"},
    "--mode paper --no-early-rejection --no-memo-tree": {"mode": "paper"},
    "--max-generated-tokens 9": {"max_generated_tokens": 9},
    "--deadline-s 40": {"deadline_s": 40.0},
    "--stop-when-frozen 1 --alpha 100": {"stop_when_frozen": 1, "alpha": 100.0},
    "--no-memo-tree --no-prefetch --no-early-rejection": {
        "memo_tree": False,
        "prefetch": False,
        "early_rejection": False,
    },
    "--method multiple_try --tries 3 --top-k 2": {"tries": 3, "top_k": 2},
    "--effort high --top-k 0 --chains 2": {"blocks": 16, "steps_per_block": 40, "top_k": None},
    "--alpha 0.625": {},
    "--stop b --blocks 2 --cut-power 0": {"blocks": 2, "cut_power": 0.0},
}
"""Options of the command, and what the recorded `power` says of them."""


@pytest.mark.slow
@pytest.mark.parametrize("options", RUNS)
def test_the_recorded_request_gives_the_same_run(
    http: httpx.Client, table_file: Path, tmp_path: Path, options: str
) -> None:
    recording = recorded(table_file, tmp_path, "--seed", "3", *options.split())
    request, run = recording["request"], recording["lanes"][0]["final"]
    assert RUNS[options].items() <= request["power"].items()
    reply = http.post("/v1/completions", json=request)
    assert reply.status_code == 200, reply.text
    choices = [{name: each[name] for name in run["choices"][0]} for each in reply.json()["choices"]]
    assert choices == run["choices"]
    for name in ("steps", "accepted", "moved"):
        assert reply.json()["usage"]["power"][name] == run["usage"]["power"][name]


def test_an_exponent_below_one_is_recorded_as_the_service_takes_it(table_file: Path, tmp_path: Path) -> None:
    request = recorded(table_file, tmp_path, "--alpha", "0.5")["request"]
    assert request["temperature"] == 2.0
    assert "alpha" not in request["power"]


def test_a_page_that_cannot_be_written_does_not_lose_the_answer(table_file: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here: a device that is always full")
    for options in ((), ("--json",), ("--chains", "2")):
        told = sample(table_file, "--seed", "3", *options)
        result = sample(table_file, "--seed", "3", "--html", "/dev/full", *options)
        assert result.exit_code == 2
        assert result.stdout == told.stdout != ""
        assert result.stderr.splitlines()[-1] == "powercut: --html: cannot write /dev/full: No space left on device"


def test_a_drawn_seed_is_one_that_a_browser_keeps(
    table_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.randbits", lambda bits: (1 << bits) - 1)
    recording = recorded(table_file, tmp_path)
    assert recording["request"]["seed"] == LARGEST_SAFE
    assert recording["lanes"][0]["final"]["choices"][0]["power"]["seed"] == LARGEST_SAFE
    with serving(FaultyEngine(letters_table())) as url:
        unseeded = {name: value for name, value in GOOD.items() if name != "seed"}
        reply = httpx.post(f"{url}/v1/completions", json=unseeded, timeout=30).json()
    assert reply["choices"][0]["power"]["seed"] == LARGEST_SAFE


@pytest.mark.parametrize("seed", [(1 << 63) - 1, -(1 << 63), (1 << 53) + 1])
def test_a_seed_that_was_given_is_recorded_to_its_last_digit(table_file: Path, tmp_path: Path, seed: int) -> None:
    recording = recorded(table_file, tmp_path, "--seed", str(seed))
    assert recording["request"]["seed"] == seed
    assert recording["lanes"][0]["request"]["seed"] == seed
