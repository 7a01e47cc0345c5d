"""The middleware of Serve's proxy: what the proxy says by itself reaches nobody in its own words."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.replicas.proxy import VARIABLE, Guard, environment, middlewares
from service.settings import Settings


def guarded(app: ASGIApp, send_timeout_s: float = 60, request_timeout_s: float = 60) -> httpx.AsyncClient:
    """A client of an application behind the middleware."""
    transport = httpx.ASGITransport(Guard(app, send_timeout_s, request_timeout_s))
    return httpx.AsyncClient(transport=transport, base_url="http://here", timeout=30)


def saying(status: int, kind: str, *bodies: bytes, ends: bool = True) -> ASGIApp:
    """An application that says this, to its end or not."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", kind.encode()), (b"X-Request-ID", b"first"), (b"x-request-id", b"second")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for number, body in enumerate(bodies, 1):
            more = not ends or number < len(bodies)
            await send({"type": "http.response.body", "body": body, "more_body": more})

    return app


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve's proxy when a replica has died on a request: it says nothing at all."""


@pytest.mark.parametrize(
    ("app", "status", "code"),
    [
        (silent, 503, "replica_lost"),
        (saying(404, "text/plain; charset=utf-8", b"Path '/v1' not found. Ping ..."), 503, "no_replica"),
        (saying(503, "text/plain", b"Deployment ... is unavailable"), 503, "no_replica"),
        (saying(429, "text/plain", b"Request dropped"), 429, "queue_requests_limit"),
        (saying(408, "text/plain", b"Request 5 timed out"), 504, "timeout"),
    ],
)
async def test_errors_of_the_proxy_have_the_shape_of_ours(app: ASGIApp, status: int, code: str) -> None:
    async with guarded(app) as client:
        reply = await client.get("/v1/models", headers={"X-Request-Id": "mine"})
    assert reply.status_code == status
    assert reply.json()["error"]["code"] == code
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert int(reply.headers["retry-after"]) >= 1
    assert reply.headers.get_list("x-request-id") == ["mine"]


@pytest.mark.parametrize(
    ("app", "path"),
    [
        (saying(422, "application/json", b'{"error": 1}'), "/v1/completions"),
        (saying(200, "text/plain; version=0.0.4", b"powercut:steps_total 1"), "/metrics"),
        (saying(503, "text/plain", b"no routes yet"), "/-/healthz"),
    ],
)
async def test_everything_else_passes_as_it_is(app: ASGIApp, path: str) -> None:
    async with guarded(app) as client:
        reply = await client.get(path)
    direct = await httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here").get(path)
    assert (reply.status_code, reply.content) == (direct.status_code, direct.content)


async def test_a_stream_that_breaks_off_ends_with_an_error() -> None:
    async with guarded(saying(200, "text/event-stream", b"data: 1\n\n", ends=False)) as client:
        reply = await client.get("/v1/completions")
    chunks = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: ")]
    assert chunks[0] == "1"
    assert json.loads(chunks[-1])["error"]["code"] == "replica_lost"


@pytest.mark.parametrize("path", ["/v1/models", "/-/", "/-/x", "/-/healthz/"])
async def test_one_id_goes_both_ways_and_headers_that_steer_serve_do_not_pass(path: str) -> None:
    seen = list[tuple[bytes, bytes]]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(scope["headers"])
        await saying(200, "application/json", b"{}")(scope, receive, send)

    steering = {"X-Request-Timeout-Seconds": "0.001", "Serve-Multiplexed-Model-Id": "x", "X_Session_Id": "x"}
    async with guarded(app) as client:
        reply = await client.get(path, headers={"X-Request-Id": "not one\tof ours", **steering})
    (passed,) = [value.decode() for name, value in seen if name == b"x-request-id"]
    assert reply.headers.get_list("x-request-id") == [passed]
    assert len(passed) == 32
    assert not {name for name, _ in seen} & {name.lower().encode() for name in steering}


async def test_a_request_that_no_replica_takes_is_told_in_the_end() -> None:
    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(asyncio.CancelledError):  # as Serve's proxy does
            await asyncio.sleep(600)

    async with guarded(never, request_timeout_s=-29.9) as client:  # the proxy adds its grace of 30 s
        reply = await client.get("/v1/models")
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "timeout")


async def test_a_client_that_reads_nothing_is_given_up() -> None:
    over = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await saying(200, "text/plain", b"x" * 100)(scope, receive, send)
        finally:
            over.set()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def stuck(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(600)

    scope: dict[str, Any] = {"type": "http", "path": "/v1/files", "headers": []}
    await Guard(app, 0.05, 60)(scope, receive, stuck)
    assert over.is_set(), "what made the reply has ended"


def test_the_proxy_finds_the_middleware_and_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(Settings(send_timeout_s=7, request_timeout_s=8)).items():
        monkeypatch.setenv(name, value)
    assert environment(Settings())[VARIABLE] == f"{middlewares.__module__}:{middlewares.__name__}"
    (made,) = middlewares()
    assert made.args == (7.0, 8.0)
