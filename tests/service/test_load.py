"""A server under load: nothing lost, nothing answered twice, room and memory as before, and the probes answer."""

import asyncio
import json
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.checks import GOOD
from tests.service.serving import command_server, metric, wait_until

AT_ONCE = 64
CANCELLED = 0.3
KINDS: list[dict[str, Any]] = [
    {"power": None},
    {"power": {"blocks": 2, "steps_per_block": 5}},
    {"power": {"blocks": 2, "steps_per_block": 5}, "stream": True},
    {"power": {"method": "smc", "particles": 8, "blocks": 2}},
    {"power": {"alpha": 1.5, "blocks": 4, "steps_per_block": 20}, "n": 3},
]
GROWTH_BYTES = 48 << 20
"""Memory that may be taken between the first and the last part of the load: well under a tenth of a leak per reply."""


@dataclass
class Seen:
    """What the callers of one run saw."""

    answered: Counter[str] = field(default_factory=Counter[str])
    left: set[str] = field(default_factory=set[str])
    answers: dict[str, str] = field(default_factory=dict[str, str])
    probes_s: list[float] = field(default_factory=list[float])


async def load(url: str, count: int, seen: Seen, seed: int) -> None:
    """Send so many requests, a share of which is given up at a random moment, and poll the probe meanwhile."""
    rng = random.Random(seed)
    limits = httpx.Limits(max_connections=AT_ONCE + 8)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as http:
        places = asyncio.Semaphore(AT_ONCE)
        polling = asyncio.ensure_future(poll(http, seen))
        await asyncio.gather(
            *(
                one(http, places, f"{seed}-{i}", rng.choice(KINDS), rng.random() < CANCELLED, rng.random(), seen)
                for i in range(count)
            )
        )
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)


async def one(
    http: httpx.AsyncClient,
    places: asyncio.Semaphore,
    name: str,
    kind: dict[str, Any],
    leaves: bool,
    patience: float,
    seen: Seen,
) -> None:
    """One request, perhaps given up."""
    number = int(name.partition("-")[2])
    fields = GOOD | kind | {"seed": number % 7}
    async with places:
        asking = http.post("/v1/completions", json=fields, headers={"X-Request-Id": name})
        try:
            reply = await (asyncio.wait_for(asking, patience * 0.2) if leaves else asking)
        except TimeoutError:
            seen.left.add(name)
            return
    assert reply.status_code == 200, reply.text[:300]
    assert reply.headers["x-request-id"] == name, "somebody else's reply"
    seen.answered[name] += 1
    kept = f"{json.dumps(kind, sort_keys=True)} {number % 7}"
    text = answers_of(reply)
    assert seen.answers.setdefault(kept, text) == text, "the seed fixes the answer, whoever else is there"


def answers_of(reply: httpx.Response) -> str:
    """The texts of a reply, in order."""
    if not reply.headers["content-type"].startswith("text/event-stream"):
        return json.dumps([choice["text"] for choice in reply.json()["choices"]])
    lines = [line for line in reply.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line[6:]) for line in lines[:-1]]
    return json.dumps(["".join(choice["text"] for chunk in chunks for choice in chunk["choices"])])


async def poll(http: httpx.AsyncClient, seen: Seen) -> None:
    """Ask whether the server is alive, again and again."""
    while True:
        seen.probes_s.append(await probe(http))
        await asyncio.sleep(0.02)


async def probe(http: httpx.AsyncClient) -> float:
    """Seconds that a probe takes."""
    start = time.perf_counter()
    assert (await http.get("/livez")).status_code == 200
    return time.perf_counter() - start


async def idle_probes(url: str, count: int) -> list[float]:
    """The same with nobody else there."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        return [await probe(http) for _ in range(count)]


def memory_bytes(pid: int) -> int:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) * 1024


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


@pytest.mark.slow
@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.long)])
def test_under_load_nothing_is_lost_and_nothing_answered_twice(count: int, table_file: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    options = ["--engine", "tabular", "--model", str(table_file), "--max-running-requests", "16"]
    with command_server(options, log) as (process, url):
        warm, seen = Seen(), Seen()
        asyncio.run(load(url, count // 2, warm, seed=1))
        idle = asyncio.run(idle_probes(url, 100))
        before = memory_bytes(process.pid)
        asyncio.run(load(url, count, seen, seed=2))
        assert_all_accounted_for(url, log, count, seen)
        grown = memory_bytes(process.pid) - before
    assert grown < GROWTH_BYTES
    ratio, middle = p99(seen.probes_s) / p99(idle), statistics.median(seen.probes_s) / statistics.median(idle)
    print(
        f"\n{count} requests, {AT_ONCE} at a time, {len(seen.left)} given up: /livez under load ÷ idle: p99 "
        f"{ratio:.1f} ({p99(seen.probes_s) * 1e3:.1f} ms ÷ {p99(idle) * 1e3:.1f} ms), median {middle:.1f}, "
        f"{len(seen.probes_s)} probes; memory {grown / 1e6:+.1f} MB on {before / 1e6:.0f} MB"
    )


def assert_all_accounted_for(url: str, log: Path, count: int, seen: Seen) -> None:
    """Every request was answered once or given up, the log has one line for each, and all room is free."""
    names = {f"2-{i}" for i in range(count)}
    assert set(seen.answered) | seen.left == names
    assert not set(seen.answered) & seen.left
    assert set(seen.answered.values()) == {1}
    assert len(seen.left) < count / 2
    for gauge in ("vllm:num_requests_running", "vllm:num_requests_waiting", "powercut:running_tokens"):
        wait_until(lambda gauge=gauge: metric(url, gauge) == 0, gauge)
    wait_until(lambda: metric(url, "powercut:chains_in_flight") == 0, "chains to end")
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    logged = [line["request"] for line in lines if line["message"] == "request"]
    told = Counter(line["id"] for line in logged if line["id"].startswith("2-"))
    assert set(told.values()) == {1}, "no request was handled twice"
    assert told.keys() >= set(seen.answered)
    statuses = {line["id"]: (line["status"], line["whole"]) for line in logged}
    assert all(statuses[name] == (200, True) for name in seen.answered)
    assert {statuses[name][0] for name in seen.left & told.keys()} <= {200, 499}
