"""Mixed traffic for minutes: nothing grows, no row is lost, all counters add up, and SIGTERM ends it with 0."""

import asyncio
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.keys import new_key
from tests.service.serving import command_server, metric, wait_until
from tests.service.tables import letters_table
from tests.soak.batches import LOST_TOKENS, analysis_batch, cancelled_batch, whole_batch
from tests.soak.tally import UNLABELLED, Series, Tally, from_log, scraped
from tests.soak.traffic import LEAVERS, Client, call, numbered
from tests.soak.vitals import Vitals, growth_bytes, processor_s, vitals

CALLERS = 6
PAUSE_S = 0.4
"""Seconds between two calls of a caller, at the mean: the server stays under half a core, beside other tests."""
BATCH_EVERY_S = 6.0
START_S = 240.0
"""Far longer than starting, coming to rest or stopping takes; only a failing test waits so long."""
WARM_SHARE = 0.25
"""The part of the time after which nothing may grow: pools fill and allocators take what they will keep."""
GROWTH_BYTES = 24 << 20
POOLS = {"descriptors": 16, "threads": 8, "children": 1}
"""What pools may still take after the warm part, at their next peak: connections to the database (two descriptors
each), threads, the second analysis's process. A leak of one in a hundred requests would be more."""
UNTOLD = {UNLABELLED[0]: 2, UNLABELLED[1]: LOST_TOKENS, "vllm:request_queue_time_seconds_count": 1}
"""Counters without a method's name that a row counts in before it ends, and by how much at most."""
ANSWERED = ("powercut:answers_total", "vllm:request_success_total")
GAUGES = (
    *("vllm:num_requests_running", "vllm:num_requests_waiting", "powercut:running_tokens"),
    *("powercut:queued_tokens", "powercut:chains_in_flight", "powercut:batch_rows_now"),
)


Batch = Callable[[Client, random.Random], Awaitable[None]]


class Soak:
    """One server, its callers, and what they see."""

    def __init__(self, url: str, keys: list[str], pid: int, temporary: Path) -> None:
        self.url, self.keys, self.pid, self.temporary = url, keys, pid, temporary
        self.tally, self.seen, self._names = Tally(), list[Vitals](), numbered()

    async def run(self, seconds: float, seed: int, *kinds: Batch) -> None:
        """Traffic for so long, with batches of these kinds and scrapes beside it; what was begun is waited for."""
        until = time.monotonic() + seconds
        async with httpx.AsyncClient(base_url=self.url, timeout=300, verify=False) as http:
            clients = [Client(http, key, self.tally, self._names) for key in self.keys]
            work = [self._call(clients[i % len(clients)], random.Random(f"{seed} {i}"), until) for i in range(CALLERS)]
            work += [self._send_batches(clients, kinds, random.Random(seed), until), self._watch(clients[0], until)]
            await asyncio.gather(*work)

    async def _call(self, client: Client, rng: random.Random, until: float) -> None:
        while time.monotonic() < until:
            await call(client, rng)
            await asyncio.sleep(rng.expovariate(1 / PAUSE_S))

    async def _send_batches(
        self, clients: list[Client], kinds: tuple[Batch, ...], rng: random.Random, until: float
    ) -> None:
        for number, client in enumerate(clients * 10_000):
            if time.monotonic() > until:
                return
            began = time.monotonic()
            await kinds[number % len(kinds)](client, rng)
            await asyncio.sleep(max(0.0, began + BATCH_EVERY_S - time.monotonic()))

    async def _watch(self, client: Client, until: float) -> None:
        while time.monotonic() < until:
            await client.ask("GET", "/metrics")
            self.seen.append(vitals(self.pid, self.temporary))
            await asyncio.sleep(2.0)

    def quiet(self) -> Vitals:
        """What the server holds once nobody asks: every gauge is back at zero."""
        for gauge in GAUGES:
            wait_until(lambda gauge=gauge: self._gauge(gauge) == 0, gauge, START_S)
        time.sleep(1.0)
        return vitals(self.pid, self.temporary)

    def _gauge(self, name: str) -> float:
        value = metric(self.url, name)
        self.tally.reply("/metrics", 200)
        return value

    def metrics(self) -> Counter[Series]:
        """The counters now. The page does not count the request that brings it, but the next one does."""
        found = scraped(httpx.get(f"{self.url}/metrics", timeout=30, verify=False).text)
        self.tally.reply("/metrics", 200)
        return found


def logged(log: Path) -> list[Mapping[str, Any]]:
    """The log's lines on requests."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line["request"] for line in lines if line["message"] == "request"]


def differences(told: Counter[Series], counted: Counter[Series]) -> dict[Series, int]:
    """What the server counts beyond what its clients counted."""
    return {key: told[key] - counted[key] for key in told.keys() | counted.keys() if told[key] != counted[key]}


def check_counts(soak: Soak, before: Counter[Series], log: Path) -> None:
    """The server's counters are the clients' counts, and those of the log for clients that left.

    Of rows that a cancel cut off nobody is told what they cost: it is within what they could have cost at most, and
    nothing as long as no batch is cancelled. Work that ended before its client was seen to leave is counted by its
    method, which no other work has.
    """
    counted = before + soak.tally.counts + from_log(logged(log), soak.tally.left)
    over = differences(soak.metrics(), counted)
    lost = soak.tally.kinds["rows lost to a cancel"]
    for name, most in UNTOLD.items():
        extra = over.pop((name, ""), 0)
        assert 0 <= extra <= lost * most, (name, extra, lost)
    ended = {name: sum(extra for key, extra in over.items() if key[0] == name) for name in ANSWERED}
    assert len(set(ended.values())) == 1, ended
    rest = {key: extra for key, extra in over.items() if key[0] not in ANSWERED}
    assert not {key: extra for key, extra in rest.items() if f"method={LEAVERS}" not in key[1] or extra < 0}
    assert all(f"method={LEAVERS}" in key[1] for key in over if key[0] == ANSWERED[0])


def report(soak: Soak, warm: Vitals, cold: Vitals, elapsed_s: float, server_s: float, client_s: float) -> str:
    """What went on."""
    counts = soak.tally.counts
    peaks = {name: max(getattr(each, name) for each in soak.seen) for name in ("descriptors", "threads", "children")}
    grown, requests = (
        growth_bytes(soak.seen),
        sum(n for key, n in counts.items() if key[0].endswith("http_requests_total")),
    )
    return (
        f"\n{elapsed_s:.0f} s, {requests} requests, {dict(sorted(soak.tally.kinds.items()))}\n"
        f"tokens drawn {counts[UNLABELLED[1], '']}, clients that left {len(soak.tally.left)}\n"
        f"memory {warm.resident_bytes / 1e6:.1f} MB warm, {cold.resident_bytes / 1e6:.1f} MB at the end, by its slope "
        f"{grown / 1e6:+.2f} MB over {soak.seen[-1].at_s - soak.seen[0].at_s:.0f} s; at most {peaks}\n"
        f"warm {warm}\nend  {cold}\n"
        f"of one core: server {server_s / elapsed_s:.2f}, clients {client_s / elapsed_s:.2f}"
    )


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(120, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
        pytest.param(1800, marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_mixed_traffic_leaves_nothing_behind(seconds: int, tmp_path: Path) -> None:
    table, keys, temporary = tmp_path / "letters.json", tmp_path / "keys", tmp_path / "temporary"
    table.write_text(json.dumps(letters_table()))
    made = [new_key(name) for name in ("alice", "bob", "carol")]
    keys.write_text("\n".join(line for _, line in made))
    temporary.mkdir()
    settings = ["--data-dir", str(tmp_path / "data"), "--key-file", str(keys), "--open-metrics", "--batch-rows", "4"]
    options = ["--engine", "tabular", "--model", str(table), *settings, "--max-running-tokens", "4000000"]
    options += ["--analysis-time-limit-s", str(START_S)]
    log = tmp_path / "log.txt"
    with command_server(options, log, START_S, environment={"TMPDIR": str(temporary)}) as (process, url):
        soak = Soak(url, [key for key, _ in made], process.pid, temporary)
        before = soak.metrics()
        began, spent = time.monotonic(), time.process_time()
        asyncio.run(soak.run(seconds * WARM_SHARE, 1, whole_batch, analysis_batch))
        warm = soak.quiet()
        check_counts(soak, before, log)
        soak.seen.clear()
        kinds = whole_batch, cancelled_batch, whole_batch, analysis_batch
        asyncio.run(soak.run(seconds * (1 - WARM_SHARE), 2, *kinds))
        cold = soak.quiet()
        shares = processor_s(process.pid), time.process_time() - spent
        elapsed = time.monotonic() - began
        print(report(soak, warm, cold, elapsed, *shares))
        check_counts(soak, before, log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_S) == 0, log.read_text()[-2000:]
    assert {name: more for name, more in cold.over(warm).items() if more > POOLS.get(name, 0)} == {}
    assert growth_bytes(soak.seen) < GROWTH_BYTES
    assert cold.resident_bytes - warm.resident_bytes < 2 * GROWTH_BYTES
    assert "unexpected error" not in log.read_text()
