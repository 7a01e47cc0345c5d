"""What tests of the store do with one: fill it, answer its rows, silence its servers, look."""

import json
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import update

from service.jobs.database import db_now
from service.jobs.outcome import response_outcome
from service.jobs.rows import Claimed
from service.jobs.store import Store
from service.jobs.tables import rows
from service.settings import Settings
from tests.jobs.servers import completion_row, jsonl

MODEL = "letters"


def settings(folder: Path, database_url: str | None, **given: Any) -> Settings:
    return Settings(data_dir=folder, database_url=SecretStr(database_url) if database_url else None, **given)


def batch(store: Store, count: int, owner: str = "alice", model: str | None = MODEL, window: str = "24h") -> str:
    """The id of a batch of so many rows."""
    upload = store.files.begin(owner)
    upload.write(jsonl([completion_row(number) for number in range(count)]))
    file = upload.finish("in.jsonl", "batch", None)
    return store.batches.create(owner, "/v1/completions", model, file["id"], window, {})["id"]


def silence(store: Store) -> None:
    """Everybody has been silent for longer than the lease."""
    with store.database.write() as connection:
        connection.execute(update(rows).values(leased_until=db_now() - 1.0))


def answered(row: Claimed, text: str = "hi") -> Any:
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "power": {"generated_tokens": 5, "steps": 3, "accepted": 1}}
    return response_outcome(row.key, row.custom_id, 200, {"text": text, "usage": usage})


def tend_all(store: Store) -> None:
    while store.tending.tend("tender", MODEL):
        pass


def look(store: Store, batch_id: str, owner: str = "alice") -> dict[str, Any]:
    return store.batches.get(owner, batch_id)


def output(store: Store, batch_id: str, kind: str = "output_file_id") -> list[dict[str, Any]]:
    file_id = look(store, batch_id)[kind]
    data = b"".join(store.files.content.read(file_id))
    return [json.loads(line) for line in data.splitlines()]
