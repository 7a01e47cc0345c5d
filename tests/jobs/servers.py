"""Server processes that can be killed, and batches sent to them."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from tests.service.serving import ROOT, command, free_port, wait_until

Rows = list[dict[str, Any]]
ask = partial(httpx.request, timeout=60, verify=False)
"""A request on a connection of its own. Loading certificates for a plain address would cost more than the rest."""
ENDED = {"completed", "failed", "expired", "cancelled"}
CHAIN: dict[str, Any] = {"blocks": 4, "steps_per_block": 4}


class ServerProcess:
    """`powercut serve` with batch jobs, started and killed as often as a test likes, at one address."""

    def __init__(self, options: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._options, self._environment = options, dict(environment or {})
        self.process: subprocess.Popen[bytes] | None = None
        self.exit_code: int | None = None

    def start(self) -> None:
        """Start, without waiting."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command_line(command("serve", "--port", str(self.port), *self._options)),
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": "1"} | self._environment,
            )

    def command_line(self, words: list[str]) -> list[str]:
        """How it is started."""
        return words

    def wait(self, patience_s: float = 60.0) -> None:
        """Wait until it answers."""
        process = self.process
        assert process is not None
        wait_until(lambda: process.poll() is not None or self._answers(), "the server to get ready", patience_s)
        assert process.poll() is None, self.log.read_text()[-2000:]

    def _answers(self) -> bool:
        try:
            return ask("GET", f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            time.sleep(0.05)
            return False

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it by a signal, and wait until it is gone."""
        if self.process is not None:
            self.process.send_signal(number)
            self.exit_code = self.process.wait(60)
            self.process = None

    @contextmanager
    def running(self, patience_s: float = 60.0) -> Iterator[str]:
        """From ready to killed."""
        self.start()
        try:
            self.wait(patience_s)
            yield self.url
        finally:
            self.kill()


def tabular(table: Path, data: Path, database_url: str | None, **settings: object) -> list[str]:
    """Options of a server on a table."""
    given = {"data_dir": data, "lease_s": 1, "batch_poll_s": 0.1, "checkpoint_s": 0, "batch_rows": 8, **settings}
    words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    words += ["--database-url", database_url] if database_url is not None else []
    return ["--engine", "tabular", "--model", str(table), *words]


def completion_row(number: int, **body: Any) -> dict[str, Any]:
    """A row whose seed is its number."""
    asked = {"model": "letters", "prompt": f"p{number}", "max_tokens": 24, "seed": number, "power": CHAIN, **body}
    return {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/completions", "body": asked}


def mixed_row(number: int) -> dict[str, Any]:
    """Rows of every kind: plain, several chains, alternatives, the steps in the reply, several tries, paper mode."""
    kinds: list[dict[str, Any]] = [
        {},
        {"n": 2},
        {"logprobs": 2},
        {"power": {**CHAIN, "include": ["chain"]}},
        {"power": {**CHAIN, "method": "multiple_try", "steps_per_block": 2}},
        {"power": {**CHAIN, "mode": "paper"}},
        {"prompt": ["a", "b"], "power": {**CHAIN, "method": "uniform_cut", "max_generated_tokens": 60}},
        {"power": {"method": "smc", "particles": 4, "blocks": 4}},
        {"power": None},
    ]
    return completion_row(number, **kinds[number % len(kinds)])


def jsonl(rows: Sequence[Any]) -> bytes:
    """Rows as a file."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def upload(url: str, content: bytes, **headers: str) -> dict[str, Any]:
    """The file object of an upload."""
    form = {"data": {"purpose": "batch"}, "files": {"file": ("in.jsonl", content)}}
    reply = ask("POST", f"{url}/v1/files", **form, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply.json()


def create(url: str, file_id: str, endpoint: str = "/v1/completions", **body: Any) -> dict[str, Any]:
    """The batch object of a new batch."""
    asked = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": "24h", **body}
    reply = ask("POST", f"{url}/v1/batches", json=asked)
    assert reply.status_code == 200, reply.text
    return reply.json()


def submit(url: str, rows: Sequence[Any]) -> str:
    """The id of a batch of these rows."""
    return create(url, upload(url, jsonl(rows))["id"])["id"]


def look(url: str, batch_id: str) -> dict[str, Any]:
    """A batch object."""
    reply = ask("GET", f"{url}/v1/batches/{batch_id}")
    assert reply.status_code == 200, reply.text
    return reply.json()


def finish(url: str, batch_id: str, patience_s: float = 100.0) -> dict[str, Any]:
    """The batch object once the batch has ended."""
    found: dict[str, Any] = {}

    def ended() -> bool:
        found.update(look(url, batch_id))
        return found["status"] in ENDED

    wait_until(ended, "the batch to end", patience_s)
    return found


def content(url: str, file_id: str | None) -> Rows:
    """The lines of a file."""
    if file_id is None:
        return []
    reply = ask("GET", f"{url}/v1/files/{file_id}/content")
    assert reply.status_code == 200, reply.text
    return [json.loads(line) for line in reply.text.splitlines()]


def answers(lines: Rows) -> dict[str, Any]:
    """What was answered, by custom_id: all of a reply but its id, its time, and costs that depend on what was known."""
    found: dict[str, Any] = {}
    for line in lines:
        assert line["custom_id"] not in found, "a row has two results"
        body = line["response"]["body"]
        power = body["usage"].get("power", {})
        steps = {name: power.get(name) for name in ("steps", "accepted", "moved")}
        for choice in body["choices"]:
            for step in choice.get("power", {}).get("chain", []):
                del step["generated_tokens"]
        found[line["custom_id"]] = (body["choices"], body["usage"]["completion_tokens"], steps)
    return found
