"""Batches in mixed traffic: some run to their end, some are cancelled half-way; no row is lost or doubled."""

import asyncio
import json
import random
from typing import Any

from tests.jobs.servers import ENDED, Rows, jsonl
from tests.soak.tally import Tally
from tests.soak.traffic import ANALYSES, COMPLETIONS, GOOD, LEAVERS, Client

ROWS = 24
LONG = {"max_tokens": 32, "power": {"method": LEAVERS, "blocks": 4, "steps_per_block": 30, "memo_tree": False}}
LOST_TOKENS = 32 + 30 * (8 + 16 + 24 + 32)
"""What a row of a cancelled batch draws at most: all steps from the first token to each of four horizons."""


def row(number: int, url: str, body: dict[str, Any]) -> dict[str, Any]:
    """A line of a batch's file."""
    return {"custom_id": f"row-{number}", "method": "POST", "url": url, "body": body}


async def start(client: Client, lines: Rows) -> dict[str, Any]:
    """The batch object of a new batch of these lines."""
    form = {"data": {"purpose": "batch"}, "files": {"file": ("in.jsonl", jsonl(lines))}}
    file = (await client.ask("POST", "/v1/files", **form)).json()
    asked = {"input_file_id": file["id"], "endpoint": lines[0]["url"], "completion_window": "1h"}
    return (await client.ask("POST", "/v1/batches", body=asked)).json()


async def ended(client: Client, batch: dict[str, Any], pause_s: float = 0.5) -> dict[str, Any]:
    """The batch object once the batch has ended."""
    while batch["status"] not in ENDED:
        await asyncio.sleep(pause_s)
        batch = (await client.ask("GET", f"/v1/batches/{batch['id']}")).json()
    return batch


async def taken(client: Client, batch: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What each row was answered, by its name; the batch's files are deleted."""
    found: dict[str, dict[str, Any]] = {}
    for name in ("output_file_id", "error_file_id"):
        if batch[name] is None:
            continue
        text = (await client.ask("GET", f"/v1/files/{batch[name]}/content")).text
        for line in parse(text):
            assert line["custom_id"] not in found, "a row has two results"
            found[line["custom_id"]] = line
        await client.ask("DELETE", f"/v1/files/{batch[name]}")
    await client.ask("DELETE", f"/v1/files/{batch['input_file_id']}")
    return found


def parse(text: str) -> Rows:
    """A file's lines."""
    return [json.loads(line) for line in text.splitlines()]


async def whole_batch(client: Client, rng: random.Random) -> None:
    """Rows of every kind and one bad one: each is answered once, with what its seed gives everywhere."""
    kinds = [fields for fields in COMPLETIONS.values() if "chain" not in str(fields)]
    bodies = [GOOD | {"seed": rng.randrange(5)} | rng.choice(kinds) for _ in range(ROWS - 1)]
    bodies.append(GOOD | {"model": "nobody"})
    batch = await ended(client, await start(client, [row(i, "/v1/completions", b) for i, b in enumerate(bodies)]))
    counts = batch["request_counts"]
    assert counts == {"total": ROWS, "completed": ROWS - 1, "failed": 1, "resumed": 0}, counts
    found = await taken(client, batch)
    assert found.keys() == {f"row-{number}" for number in range(ROWS)}
    for number, asked in enumerate(bodies[:-1]):
        reply = found[f"row-{number}"]["response"]["body"]
        client.tally.work(reply)
        client.tally.same(asked, reply["choices"])
    assert found[f"row-{ROWS - 1}"]["response"]["status_code"] == 404
    rows(client.tally, "whole", done=ROWS - 1, failed=1)


async def analysis_batch(client: Client, rng: random.Random) -> None:
    """An analysis as rows: the replies that its route gives."""
    name = rng.choice(ANALYSES)
    listed = (await client.ask("GET", "/v1/analysis")).json()["data"]
    about = next(each for each in listed if each["name"] == name)
    body = about["example"] | ({"seed": 1} if about["seeded"] else {})
    batch = await ended(client, await start(client, [row(i, f"/v1/analysis/{name}", body) for i in range(3)]))
    found = await taken(client, batch)
    assert [found[f"row-{i}"]["response"]["status_code"] for i in range(3)] == [200] * 3
    rows(client.tally, "analysis", done=3)


async def cancelled_batch(client: Client, rng: random.Random) -> None:
    """Long rows, cancelled a moment after the first is done: what has a result is in the files, once."""
    total = 400
    batch = await start(client, [row(i, "/v1/completions", GOOD | LONG | {"seed": i % 5}) for i in range(total)])
    while not batch["request_counts"]["completed"] and batch["status"] not in ENDED:
        await asyncio.sleep(0.1)
        batch = (await client.ask("GET", f"/v1/batches/{batch['id']}")).json()
    await asyncio.sleep(rng.random() * 0.2)
    batch = (await client.ask("POST", f"/v1/batches/{batch['id']}/cancel")).json()
    batch = await ended(client, batch)
    counts, found = batch["request_counts"], await taken(client, batch)
    assert batch["status"] == "cancelled"
    assert counts["failed"] == 0
    assert counts["total"] == total
    assert 0 < counts["completed"] < total, "it was cancelled half-way"
    assert len(found) == counts["completed"]
    for name, line in found.items():
        reply = line["response"]["body"]
        client.tally.work(reply)
        client.tally.same(GOOD | LONG | {"seed": int(name.removeprefix("row-")) % 5}, reply["choices"])
    rows(client.tally, "cancelled", done=len(found))
    client.tally.kinds["rows lost to a cancel"] += total - len(found)


def rows(tally: Tally, kind: str, done: int, failed: int = 0) -> None:
    """Count rows that ended."""
    tally.kinds[f"{kind} batches"] += 1
    tally.add("powercut:batch_rows_total", done, event="done")
    tally.add("powercut:batch_rows_total", failed, event="failed")
