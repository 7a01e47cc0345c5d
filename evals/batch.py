"""A run through the server's durable batches: `/v1/files` and `/v1/batches`, in OpenAI's shapes.

The server works on while the harness is away. What was submitted is noted in the run's folder, so that a harness that
was killed finds its batch again and does not pay for it twice.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evals.client import CallFailed, Client, clip, json_object, read_reply
from evals.errors import OptionError, ServerUnusable
from evals.records import Key, write_atomically
from evals.run import Asked, Context, Item, prepare, ready, settle, units

NOTE = "batch.json"
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
SETTLING = 16
"""Answers being graded at one time."""


@dataclass(frozen=True, slots=True)
class Polling:
    """Seconds between looks at a batch: doubling from the first to the last."""

    first_s: float = 0.5
    last_s: float = 30.0


class BatchRun:
    """Sends every answer that is wanting as one batch; with a reference arm as two, since its cost is the budget."""

    def __init__(
        self, context: Context, polling: Polling | None = None, tell: Callable[[str], None] = lambda text: None
    ) -> None:
        self.context, self.polling, self.tell = context, polling or Polling(), tell
        servers = {id(client) for client, _ in context.servers.values()}
        if len(servers) != 1:
            raise OptionError("--batch sends a run to one server; arms at other servers need a run without it")
        self.client: Client = next(iter(context.servers.values()))[0]

    async def __call__(self) -> None:
        """Until each answer is there or was tried once.

        Raises:
            ServerUnusable: The server refused the batch as a whole.
        """
        await self._take_up()
        tried: set[Key] = set()
        while items := [item for item in self._wanting() if item.key not in tried]:
            tried |= {item.key for item in items}
            for path, asked in by_path([prepare(self.context, item) for item in items]).items():
                await self._collect(await self._submit(path, asked), asked)

    def _wanting(self) -> list[Item]:
        return [item for unit in units(self.context) for item in ready(self.context, *unit)]

    async def _take_up(self) -> None:
        """Collect the batch that an earlier harness submitted, if the server still knows it."""
        try:
            note = json.loads((self.context.folder.path / NOTE).read_bytes())
        except (FileNotFoundError, ValueError):
            return
        names = set(note["names"])
        wanting = by_path([prepare(self.context, item) for item in self._wanting() if name_of(item) in names])
        try:
            batch = await self.client.get(f"/v1/batches/{note['id']}")
        except CallFailed as failed:
            if failed.status != 404:
                raise
            self._note(None)
            return
        await self._collect(batch, wanting.get(note["path"], {}))

    async def _collect(self, batch: dict[str, Any], asked: Mapping[str, Asked]) -> None:
        """Wait for a batch to end, grade its answers and write them down."""
        batch = await self._wait(batch)
        replies = await self._replies(batch)
        missing = CallFailed("failed", clip(f"batch {batch['id']} {batch['status']}: {reasons(batch)}"))
        if not replies and batch["status"] != "completed":
            self._note(None)
            raise ServerUnusable(missing.message)
        slots = asyncio.Semaphore(SETTLING)

        async def one(name: str, call: Asked) -> None:
            async with slots:
                await settle(self.context, replace(call, reply=replies.get(name, missing), started=time.perf_counter()))

        async with asyncio.TaskGroup() as group:
            for name, call in asked.items():
                group.create_task(one(name, call))
        self._note(None)

    async def _submit(self, path: str, asked: Mapping[str, Asked]) -> dict[str, Any]:
        content = b"".join(lines(path, asked))
        purpose = {"purpose": "batch"}
        name = f"{self.context.folder.digest}.jsonl"
        try:
            file = await self.client.upload("/v1/files", name, content, purpose)
        except CallFailed as failed:
            if failed.status in {404, 405}:
                raise OptionError("--batch: the server has no /v1/files; run without it") from None
            raise
        wanted = {
            "input_file_id": file["id"],
            "endpoint": path,
            "completion_window": "24h",
            "metadata": {"powercut_eval": self.context.folder.digest},
        }
        batch = await self.client.post("/v1/batches", wanted)
        self._note({"id": batch["id"], "path": path, "names": list(asked)})
        return batch

    async def _wait(self, batch: dict[str, Any]) -> dict[str, Any]:
        pause = self.polling.first_s
        while batch["status"] not in ENDED:
            counts = batch.get("request_counts") or {}
            done = f"{counts.get('completed', 0)} of {counts.get('total', 0)} done, {counts.get('failed', 0)} failed"
            self.tell(f"batch {batch['id']} {batch['status']}: {done}")
            await asyncio.sleep(pause)
            pause = min(self.polling.last_s, 2 * pause)
            batch = await self.client.get(f"/v1/batches/{batch['id']}")
        return batch

    async def _replies(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Replies and failures by custom id, from the output and the error file."""
        found: dict[str, Any] = {}
        for name in ("error_file_id", "output_file_id"):
            if file := batch.get(name):
                content = await self.client.download(f"/v1/files/{file}/content")
                found |= dict(read_line(line) for line in content.splitlines() if line.strip())
        return found

    def _note(self, note: Mapping[str, Any] | None) -> None:
        path: Path = self.context.folder.path / NOTE
        if note is None:
            path.unlink(missing_ok=True)
        else:
            write_atomically(path, json.dumps(note).encode())


def name_of(item: Item) -> str:
    """The custom id of an answer within its batch."""
    return f"{item.arm.name}|{item.problem.id}|{item.repeat}"


def by_path(asked: Sequence[Asked]) -> dict[str, dict[str, Asked]]:
    """Calls by the endpoint that they go to, of which a batch has one, and by custom id."""
    found: dict[str, dict[str, Asked]] = {}
    for each in asked:
        found.setdefault(each.path, {})[name_of(each.item)] = each
    return found


def lines(path: str, asked: Mapping[str, Asked]) -> Iterator[bytes]:
    """The batch's input file, a line a call."""
    for name, each in asked.items():
        yield json.dumps({"custom_id": name, "method": "POST", "url": path, "body": each.body}).encode() + b"\n"


def read_line(line: bytes) -> tuple[str, Any]:
    """A line of an output or error file: the custom id, and the reply or what went wrong."""
    entry = json_object(line)
    response = entry.get("response") or {}
    try:
        if response.get("status_code") == 200:
            return entry["custom_id"], read_reply(response["body"])
        error = entry.get("error") or (response.get("body") or {}).get("error") or {}
        status = response.get("status_code")
        kind = "refused" if status is not None and 400 <= status < 500 else "failed"
        return entry["custom_id"], CallFailed(kind, clip(f"{status}: {error.get('message')}"), status)
    except CallFailed as failed:
        return entry["custom_id"], failed


def reasons(batch: Mapping[str, Any]) -> str:
    """What a batch says of why it failed."""
    errors = (batch.get("errors") or {}).get("data") or []
    return "; ".join(str(each.get("message")) for each in errors[:3]) or "no answer in its files"
