"""The HTTP side of `powercut batch`: OpenAI's routes, asked again while a server or a network is away."""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

ENDED = {"completed", "failed", "expired", "cancelled"}
PASSING = {408, 429, 500, 502, 503, 504, 507}
LONGEST_WAIT_S = 15.0
DEFAULT_ENDPOINT = "/v1/completions"
RUN = "powercut_run"
"""Metadata of a batch: which start of the command made it."""


class Refused(Exception):
    """The server will not do it, and asking again would not help."""


class BatchClient:
    """A server's batches. `waiting` is told why a call is tried again."""

    def __init__(self, url: str, api_key: str | None, waiting: Callable[[str], None]) -> None:
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self.url = url.rstrip("/").removesuffix("/v1")
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=httpx.Timeout(60, read=600))
        self._waiting = waiting

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def upload(self, path: Path) -> str:
        """Send a file, in pieces; its id."""

        def send() -> httpx.Response:
            with path.open("rb") as file:
                return self._http.post("/v1/files", data={"purpose": "batch"}, files={"file": (path.name, file)})

        return self._patiently(send)["id"]

    def create(self, file_id: str, endpoint: str, window: str, run: str) -> str:
        """Begin a batch, once for a `run` however often a reply is lost; its id."""
        asked = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": window, "metadata": {RUN: run}}

        def send() -> httpx.Response:
            known = self.find(run)  # the reply to an earlier try may have been lost
            if known is not None:
                return self._http.get(f"/v1/batches/{known}")
            return self._http.post("/v1/batches", json=asked)

        return self._patiently(send)["id"]

    def find(self, run: str) -> str | None:
        """The batch that a run has begun, None if it has begun none."""
        newest = self._patiently(lambda: self._http.get("/v1/batches", params={"limit": 100})).get("data", [])
        return next((batch["id"] for batch in newest if (batch.get("metadata") or {}).get(RUN) == run), None)

    def look(self, batch_id: str) -> dict[str, Any]:
        """The batch object."""
        return self._patiently(lambda: self._http.get(f"/v1/batches/{batch_id}"))

    def cancel(self, batch_id: str) -> dict[str, Any]:
        """Stop a batch."""
        return self._patiently(lambda: self._http.post(f"/v1/batches/{batch_id}/cancel"))

    def watch(self, batch_id: str, poll_s: float) -> Iterator[dict[str, Any]]:
        """The batch object again and again, the last one that of a batch that has ended."""
        while True:
            batch = self.look(batch_id)
            yield batch
            if self.has_ended(batch):
                return
            time.sleep(poll_s)

    def has_ended(self, batch: dict[str, Any]) -> bool:
        """Whether nothing more will happen to it."""
        return batch["status"] in ENDED

    def download(self, file_id: str, path: Path) -> None:
        """Write a file's bytes; the file appears whole or not at all."""
        part = path.with_name(f"{path.name}.part")

        def receive() -> httpx.Response:
            with self._http.stream("GET", f"/v1/files/{file_id}/content") as reply, part.open("wb") as file:
                if reply.is_error:
                    reply.read()
                    return reply
                for piece in reply.iter_bytes():
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            return reply

        try:
            self._retry(receive)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _patiently(self, send: Callable[[], httpx.Response]) -> dict[str, Any]:
        reply = self._retry(send)
        try:
            found = reply.json()
        except ValueError:
            raise Refused(f"{self.url} does not answer as a powercut server") from None
        if not isinstance(found, dict):
            raise Refused(f"{self.url} does not answer as a powercut server")
        return found

    def _retry(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        """Ask until there is an answer that would not change. A batch runs for hours, and a server may start anew."""
        wait_s, told = 0.5, ""
        while True:
            try:
                reply = send()
            except httpx.InvalidURL as error:
                raise Refused(f"{self.url} is no address: {error}") from None
            except httpx.UnsupportedProtocol:
                raise Refused(f"{self.url} is no address: it begins with http:// or https://") from None
            except httpx.TransportError as error:
                reason = f"{self.url} does not answer ({type(error).__name__})"
            else:
                if reply.is_success:
                    return reply
                reason = message_of(reply)
                if reply.status_code not in PASSING:
                    raise Refused(reason)
            if reason != told:
                self._waiting(reason)
                told = reason
            time.sleep(wait_s)
            wait_s = min(LONGEST_WAIT_S, 2 * wait_s)


def message_of(reply: httpx.Response) -> str:
    """What an error says."""
    try:
        return f"{reply.json()['error']['message']} ({reply.status_code})"
    except (ValueError, KeyError, TypeError):
        return f"the server answers {reply.status_code}"


@dataclass(slots=True)
class Run:
    """A batch and its files, as the state file beside the output remembers them."""

    output: Path
    batch_id: str
    is_resumed: bool = False

    @property
    def errors(self) -> Path:
        """Where the errors go."""
        return self.output.with_name(f"{self.output.stem}.errors{self.output.suffix}")

    def forget(self) -> None:
        """The run is over."""
        state_path(self.output).unlink(missing_ok=True)

    @staticmethod
    def read_id(output: Path) -> str | None:
        """The batch that writes to an output file, None if no state file says so."""
        state = read_state(output)
        return None if state is None else state.batch_id or None


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered between two starts."""

    url: str
    input_sha256: str
    batch_id: str
    run: str = ""
    """Written before the batch is made, when `batch_id` is empty still: so that it is made once."""


def state_path(output: Path) -> Path:
    """The state file of an output."""
    return output.with_name(f".{output.name}.powercut")


def read_state(output: Path) -> State | None:
    """What was remembered; a file that is no state file is none."""
    try:
        return State(**json.loads(state_path(output).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def open_run(client: BatchClient, source: Path, output: Path, window: str) -> Run:
    """The batch that was begun before for this input, output and server, or a new one."""
    digest = digest_of(source)
    state = read_state(output)
    if state is not None and (state.url, state.input_sha256) != (client.url, digest):
        state = None
    if state is not None and state.batch_id and _is_known(client, state):
        return Run(output, state.batch_id, is_resumed=True)
    if not output.parent.is_dir():
        raise Refused(f"{output.parent} is no folder")
    run = state.run if state is not None and not state.batch_id else ""
    begun = client.find(run) if run else None
    run = run or uuid.uuid4().hex
    _remember(State(client.url, digest, "", run), output)
    batch_id = begun or client.create(client.upload(source), endpoint_of(source), window, run)
    _remember(State(client.url, digest, batch_id, run), output)
    return Run(output, batch_id, is_resumed=begun is not None)


def _is_known(client: BatchClient, state: State) -> bool:
    try:
        client.look(state.batch_id)
    except Refused:
        return False  # another server, or an empty data folder
    return True


def _remember(state: State, output: Path) -> None:
    path = state_path(output)
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(asdict(state)), encoding="utf-8")
    part.replace(path)


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    digest = sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def endpoint_of(path: Path) -> str:
    """The url of the first request; what is wrong with it, the server says."""
    with path.open("rb") as file:
        line = next((line for line in file if line.strip()), b"{}")
    try:
        url = json.loads(line).get("url")
    except (ValueError, AttributeError, RecursionError):
        return DEFAULT_ENDPOINT
    return url if isinstance(url, str) and url.startswith("/v1/") and len(url) <= 128 else DEFAULT_ENDPOINT
