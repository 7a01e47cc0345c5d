"""HTTP calls that end: every wait has a limit, every retry a count, and closing the connection frees the server.

A call asked again is the same call, byte for byte: its seed is in its body. Asked again here: what certainly was not
served (429, 503, a connection that could not be made or broke before the answer began). All else is an `EngineError`,
which the chain asks again with the same key.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from sampler.engines.remote.servers import Servers
from sampler.engines.remote.wire import REPLY, clip, error_text, failure, read_json
from sampler.errors import EngineError, EngineOverloaded

MAX_EVENT_BYTES = 16 << 20
"""A hundred thousand logprobs: an answer that goes on without a line end is not vLLM's."""
MAX_ERROR_BYTES = 1 << 16
DRAIN_S = 1.0
"""How long to wait for the end of an answer that has said all; after it, the connection is not worth keeping."""
KEEPALIVE_S = 4.0
"""vLLM closes idle connections after 5 s: let go of them before."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits in seconds: to connect, to send, between two events of an answer, and for a place in the pool.

    `read_s` covers the server's own queue and the prompt. `retries` counts calls asked again, after `Retry-After`
    (at most `retry_after_s`) or an exponential backoff from `backoff_s`.
    """

    connect_s: float = 5.0
    read_s: float = 120.0
    write_s: float = 30.0
    pool_s: float = 120.0
    retries: int = 4
    retry_after_s: float = 30.0
    backoff_s: float = 0.5

    @property
    def timeout(self) -> httpx.Timeout:
        """As httpx wants them."""
        return httpx.Timeout(connect=self.connect_s, read=self.read_s, write=self.write_s, pool=self.pool_s)


class Client:
    """Calls to whichever server an affinity belongs to. Its connections live with the running event loop."""

    def __init__(self, servers: Servers, headers: dict[str, str], patience: Patience) -> None:
        self.servers, self.patience, self._headers = servers, patience, headers
        self.retried = 0
        """Calls asked again."""
        self._idle: list[httpx.AsyncClient] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tls = httpx.create_ssl_context()

    @asynccontextmanager
    async def stream(self, affinity: str, path: str, body: Mapping[str, Any]) -> AsyncGenerator[AsyncIterator[bytes]]:
        """The events of a streamed answer, up to `[DONE]`. Leaving early closes the connection."""
        async with self._answer(affinity, path, body) as response:
            kind = response.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                raise EngineError(f"{REPLY}: a stream was asked for and {clip(kind) or 'something else'} came")
            async with aclosing(_lines(response)) as lines, aclosing(self._events(lines)) as events:
                yield events

    async def post(self, affinity: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON object that a call answers with."""
        async with self._answer(affinity, path, body) as response, _limited(self.patience.read_s):
            try:
                return read_json(await response.aread())
            except httpx.TransportError as error:
                raise EngineError(f"the connection broke in the middle of an answer: {clip(str(error))}") from None

    async def aclose(self) -> None:
        """Close every connection. None is in use: the calls have ended."""
        if self._loop is asyncio.get_running_loop():
            for http in self._idle:
                await http.aclose()
        self._idle.clear()

    @asynccontextmanager
    async def _answer(self, affinity: str, path: str, body: Mapping[str, Any]) -> AsyncGenerator[httpx.Response]:
        """An answer with status 200 whose body is still to be read."""
        http = self._borrow()
        try:
            response = await self._open(http, affinity, path, body)
            try:
                yield response
            finally:
                await response.aclose()
        finally:
            self._idle.append(http)

    def _borrow(self) -> httpx.AsyncClient:
        """A client with a connection of its own: httpx's pool takes time that grows with the square of its size."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._idle.clear()  # connections of a loop that is gone
            self._loop = loop
        if self._idle:
            return self._idle.pop()
        headers = self._headers | {"content-type": "application/json", "accept-encoding": "identity"}
        limits = httpx.Limits(keepalive_expiry=KEEPALIVE_S)
        return httpx.AsyncClient(headers=headers, timeout=self.patience.timeout, limits=limits, verify=self._tls)

    async def _events(self, lines: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """The data of each event. An answer must end with `[DONE]`: without it, it was cut off."""
        done = False
        while True:
            async with _limited(self.patience.read_s):  # comments and half lines do not count
                data = b""
                while not data:
                    line = await anext(lines, None)
                    if line is None and done:
                        return
                    if line is None:
                        raise EngineError("the server closed the connection in the middle of its answer")
                    data = line[5:].strip() if line.startswith(b"data:") else b""
                    if data == b"[DONE]":
                        data, done = b"", True
            yield data

    async def _open(self, http: httpx.AsyncClient, affinity: str, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """Ask until it is served, as often as patience allows."""
        content = json.dumps(body, separators=(",", ":")).encode()
        for attempt in range(self.patience.retries + 1):
            try:
                return await self._send(http, affinity, path, content)
            except _NotServed as error:
                if attempt == self.patience.retries:
                    raise error.failure from None
                wait = self.patience.backoff_s * 2**attempt if error.wait is None else error.wait
            self.retried += 1
            await asyncio.sleep(min(wait, self.patience.retry_after_s))
        raise AssertionError("unreachable")

    async def _send(self, http: httpx.AsyncClient, affinity: str, path: str, content: bytes) -> httpx.Response:
        """Ask the affinity's server, or the next where that one cannot be connected."""
        failure = EngineError("there is no server")
        for url in self.servers.order(affinity):
            try:
                async with _limited(self.patience.connect_s + self.patience.write_s + self.patience.read_s):
                    response = await http.send(http.build_request("POST", url + path, content=content), stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                self.servers.missed(url)
                failure = EngineError(f"cannot connect to {url}: {clip(str(error)) or type(error).__name__}")
                continue
            except httpx.TimeoutException as error:
                raise EngineError(f"{url} did not answer in time ({type(error).__name__})") from None
            except httpx.TransportError as error:
                broken = f"{url} broke the connection before it answered: {clip(str(error)) or type(error).__name__}"
                raise _NotServed(EngineError(broken)) from None
            self.servers.answered(url)
            if response.status_code != 200:
                await self._refuse(url, response)
            return response
        raise _NotServed(failure)

    async def _refuse(self, url: str, response: httpx.Response) -> None:
        """Raise what a status other than 200 means."""
        status, text = response.status_code, b""
        try:
            async with _limited(self.patience.read_s):
                async for part in response.aiter_raw():
                    text += part
                    if len(text) > MAX_ERROR_BYTES:
                        break
        except (httpx.HTTPError, EngineError):
            pass  # the status says enough
        finally:
            await response.aclose()
        message = error_text(text)
        if status in {429, 503}:
            raise _NotServed(
                EngineOverloaded(f"{url} has no room ({status}): {message}"),
                retry_after(response.headers.get("retry-after")),
            )
        if status in {401, 403}:
            raise EngineError(f"{url} refuses the API key ({status}): give the right one by --api-key")
        raise failure(f"{url} {'failed' if status >= 500 else 'refused the call'} ({status}): {message}")


class _NotServed(Exception):
    """A call that the server certainly did not run; `wait` is how long it asks to wait."""

    def __init__(self, failure: EngineError, wait: float | None = None) -> None:
        self.failure, self.wait = failure, wait


async def drain(events: AsyncIterator[bytes]) -> None:
    """Read an answer that has said all to its end, so that the connection can be used again."""
    with suppress(TimeoutError, EngineError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in events:
                pass


async def _lines(response: httpx.Response) -> AsyncGenerator[bytes]:
    """The whole lines of a body as they come; what a broken connection left of a line is dropped."""
    rest = b""
    try:
        async for part in response.aiter_raw():
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                yield line
            if len(rest) > MAX_EVENT_BYTES:
                raise EngineError(f"{REPLY}: an event longer than {MAX_EVENT_BYTES} bytes")
    except httpx.TimeoutException:
        raise EngineError("the server stopped in the middle of its answer and kept the connection open") from None
    except httpx.TransportError as error:
        raise EngineError(f"the connection broke in the middle of an answer: {clip(str(error))}") from None


@asynccontextmanager
async def _limited(seconds: float) -> AsyncGenerator[None]:
    """Turn a wait that is too long into an `EngineError`."""
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            yield
    except TimeoutError:
        if not deadline.expired():
            raise
        raise EngineError(f"the server sent nothing of use for {seconds:g} s") from None


def retry_after(header: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for, as a number or as a date; None where it says nothing sensible."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            when = parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = (when - datetime.now(UTC)).total_seconds() if when.tzinfo else 0.0
    return max(seconds, 0.0) if seconds == seconds else None
