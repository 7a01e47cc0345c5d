"""What goes wrong with one file, row, batch or save must not harm another, nor go unnoticed."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from sampler.state import ChainState
from service.jobs.handlers import RowContext
from service.jobs.rows import pack
from service.jobs.saved import SavedAnswer
from service.jobs.store import Store
from service.jobs.tables import rows
from service.jobs.worker import Worker
from service.settings import Settings
from tests.jobs.servers import completion_row, jsonl

MODEL = "letters"
STAGE = ChainState(1, [], [], [], [], [], "length", {})


class Uncounted:
    def row(self, event: str) -> None:
        """Nobody looks."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(Settings(data_dir=tmp_path, lease_s=5, batch_poll_s=0.05, checkpoint_s=0.05))
    yield store
    store.close()


def batch(store: Store, count: int, owner: str = "alice", model: str = MODEL) -> tuple[str, str]:
    """The ids of a file and of its batch."""
    upload = store.files.begin(owner)
    upload.write(jsonl([completion_row(number) for number in range(count)]))
    file_id = upload.finish("in.jsonl", "batch", None)["id"]
    return file_id, store.batches.create(owner, "/v1/completions", model, file_id, "24h", {})["id"]


async def until_ended(store: Store, batch_id: str, handler: Any) -> dict[str, Any]:
    """Run a worker until a batch has ended."""
    worker = Worker(store, {"/v1/completions": handler}, MODEL, Uncounted(), lambda: True)
    worker.start()
    try:
        async with asyncio.timeout(60):
            while (seen := store.batches.get("alice", batch_id))["status"] not in {"completed", "failed"}:
                await asyncio.sleep(0.05)
    finally:
        await worker.stop()
    return seen


async def test_stages_that_end_during_a_save_are_saved_by_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves: list[int] = []
    save = store.rows.save

    def slow(worker: str, outcomes: Any, again: Any, plain: Any) -> Any:
        time.sleep(0.02)
        if plain:
            saves.append(len(saves))
        return save(worker, outcomes, again, plain)

    monkeypatch.setattr(store.rows, "save", slow)

    async def handler(body: dict[str, Any], context: RowContext) -> dict[str, Any]:
        for _ in range(2_000):
            await asyncio.sleep(0.005)
            context.checkpoint(0, SavedAnswer(STAGE, ()))
            if len(saves) >= 4:
                break
        return {}

    await until_ended(store, batch(store, 1)[1], handler)
    assert len(saves) >= 4


async def test_a_row_whose_saved_stages_cannot_be_read_begins_again_and_holds_up_no_other(store: Store) -> None:
    _, batch_id = batch(store, 6)
    assert store.tending.tend("tender", MODEL)
    unknown = {"0": {"state": asdict(STAGE) | {"gone_field": 1}, "events": []}}
    with store.database.write() as connection:
        connection.execute(update(rows).where(rows.c.number == 2).values(checkpoint=pack(unknown)))
        connection.execute(update(rows).where(rows.c.number == 4).values(checkpoint=b"no zlib"))

    async def handler(body: dict[str, Any], context: RowContext) -> dict[str, Any]:
        return {}

    seen = await until_ended(store, batch_id, handler)
    assert (seen["request_counts"]["completed"], seen["request_counts"]["failed"]) == (6, 0)


def test_a_file_that_cannot_be_read_holds_up_its_own_batch_alone(store: Store, tmp_path: Path) -> None:
    lost, of_alice = batch(store, 1, "alice")
    _, of_bob = batch(store, 1, "bob")
    (tmp_path / "files" / lost).unlink()
    store.tending.tend("tender", MODEL)
    assert store.batches.get("alice", of_alice)["status"] == "validating"
    assert store.batches.get("bob", of_bob)["status"] == "in_progress"


def test_a_sweep_leaves_a_file_that_is_being_uploaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(Settings(data_dir=tmp_path, file_store="database"))
    data = jsonl([completion_row(number) for number in range(5_000)])
    sweep = store.files.content.sweep
    begun: list[Any] = []

    def after_a_client_began(known: frozenset[str], abandoned_s: float) -> None:
        begun.append(store.files.begin("alice"))
        begun[0].write(data[:-100])
        sweep(known, abandoned_s)

    monkeypatch.setattr(store.files.content, "sweep", after_a_client_began)
    store.files.sweep()
    begun[0].write(data[-100:])
    file_id = begun[0].finish("in.jsonl", "batch", None)["id"]
    assert b"".join(store.files.content.read(file_id)) == data
    store.close()


def test_a_cancelled_batch_of_another_model_ends(store: Store) -> None:
    _, batch_id = batch(store, 3, model="another")
    store.batches.cancel("alice", batch_id)
    while store.tending.tend("tender", MODEL):
        pass
    assert store.batches.get("alice", batch_id)["status"] == "cancelled"
