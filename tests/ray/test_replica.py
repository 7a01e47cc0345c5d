"""One replica without Ray: what Serve asks of it besides requests. And the counters of several on one page."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.parser import text_string_to_metric_families

from service.keys import new_key, read_keys
from service.replicas.deployment import carried
from service.replicas.metrics import labelled, page
from service.replicas.replica import Replica
from service.replicas.scaling import QUEUED, ROWS, SHARE
from service.settings import Settings, revealed
from tests.service.faulty import FaultyEngine
from tests.service.tables import endless_table

BODY = {"model": "letters", "prompt": "hi", "max_tokens": 4, "temperature": 1}


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logging of pytest is left alone."""
    monkeypatch.setattr("service.replicas.replica.configure", lambda level: None)


@asynccontextmanager
async def serving(engine: FaultyEngine, **given: Any) -> AsyncIterator[tuple[Replica, httpx.AsyncClient]]:
    """A replica as Serve runs one, and a client of it."""
    replica = Replica(lambda: engine, Settings(batch_rows=0, **given))
    application = await replica.__serve_build_asgi_app__()
    async with (
        application.router.lifespan_context(application),
        httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://here", timeout=60) as client,
    ):
        yield replica, client


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.005)


@pytest.mark.slow
async def test_a_stop_waits_for_what_runs_and_cuts_off_what_takes_longer() -> None:
    for delay_s, drain_s, cut, status in ((0.2, 60.0, 0, 200), (60.0, 0.1, 1, 503)):
        engine = FaultyEngine(endless_table(), delay_s)
        async with serving(engine, drain_s=drain_s) as (replica, client):
            asked = asyncio.create_task(client.post("/v1/completions", json=BODY))
            await until(lambda engine=engine: engine.in_flight)
            stopping = asyncio.create_task(replica.drain())
            await asyncio.sleep(0)
            assert (await client.get("/readyz")).status_code == 503
            late = await client.post("/v1/completions", json=BODY)
            assert (late.status_code, late.json()["error"]["code"]) == (503, "shutting_down")
            assert await stopping == cut
            assert (await asked).status_code == status
        assert engine.closed


async def test_a_replica_tells_how_much_waits_and_how_full_it_is() -> None:
    engine = FaultyEngine(endless_table(), 60.0)
    async with serving(engine, max_running_requests=2, drain_s=0) as (replica, client):
        assert await replica.record_autoscaling_stats() == {QUEUED: 0, SHARE: 0, ROWS: 0}
        asked = [asyncio.create_task(client.post("/v1/completions", json=BODY)) for _ in range(3)]
        await until(lambda: engine.in_flight == 2)
        stats = await replica.record_autoscaling_stats()
        assert stats[SHARE] == 1.0
        assert stats[QUEUED] >= BODY["max_tokens"]
        assert await replica.drain() == 3
        await asyncio.gather(*asked)


@pytest.mark.slow
async def test_a_replica_fails_its_health_check_once_its_engine_is_dead() -> None:
    engine = FaultyEngine(endless_table())
    async with serving(engine) as (replica, _):
        await replica.check_health()
        assert (await replica.about())["model"] == "letters"
        engine.is_alive = False
        with pytest.raises(RuntimeError, match="dead"):
            await replica.check_health()


def counters(count: int, seconds: float) -> CollectorRegistry:
    """What one replica counts."""
    registry = CollectorRegistry()
    Counter("powercut:things", "things", ["kind"], registry=registry).labels("a").inc(count)
    Histogram("powercut:wait_seconds", "waits", buckets=(1, 2), registry=registry).observe(seconds)
    return registry


def test_the_counters_of_all_replicas_are_one_page() -> None:
    told = [labelled(counters(count, count).collect(), f"r{count}") for count in (1, 2)]
    text = page(told, silent=1).decode()
    assert text.count("# TYPE powercut:things_total counter") == 1
    samples = {
        (sample.name, sample.labels.get("replica"), sample.labels.get("le", sample.labels.get("state"))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["powercut:things_total", "r1", None] == 1
    assert samples["powercut:things_total", "r2", None] == 2
    assert samples["powercut:wait_seconds_bucket", "r1", "1.0"] == 1
    assert samples["powercut:wait_seconds_bucket", "r2", "1.0"] == 0
    assert samples["powercut:replicas", None, "told"] == 2
    assert samples["powercut:replicas", None, "silent"] == 1


def test_keys_travel_by_what_they_are_and_not_by_a_files_name(tmp_path: Path) -> None:
    (key, first), (_, second) = new_key("alice"), new_key("bob")
    file = tmp_path / "keys"
    file.write_text(first)
    there = carried(Settings(key_file=file, keys=second))  # type: ignore[arg-type]
    assert there.key_file is None
    assert read_keys(revealed(there.keys), None).name_of(key.encode()) == "alice"
    assert len(read_keys(revealed(there.keys), None)) == 2
    assert first.partition(":")[2] not in repr(there)
