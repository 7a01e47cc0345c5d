"""Middleware of Serve's HTTP proxy: where the proxy answers by itself, it answers as the service would.

Serve calls `middlewares` in each proxy's process, where RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names it.
"""

import asyncio
import json
from contextlib import suppress

from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ApiError, describe, headers_of
from service.middleware import request_id
from service.patience import GRACE_S
from service.settings import Settings

VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
SET_HERE = ("send_timeout_s", "request_timeout_s")
"""Settings that a proxy keeps, or helps to; it has them from its environment."""
OWN = frozenset({"/-/healthz", "/-/routes"})
"""Paths that Serve's proxy answers itself. All others reach a replica, those beside them too."""
STEERING = {
    b"serve_multiplexed_model_id",
    b"x_session_id",
    b"x_request_timeout_seconds",
    b"x_request_disconnect_disabled",
}
"""Headers by which callers would steer Serve, dashes and underscores alike. They are not passed on."""
UPLOADS = "/v1/files"


def middlewares() -> list[Middleware]:
    """For Serve."""
    settings = Settings()
    return [Middleware(Guard, settings.send_timeout_s, settings.request_timeout_s)]


def environment(settings: Settings) -> dict[str, str]:
    """Variables with which a proxy finds this module and its settings."""
    given = {f"POWERCUT_{name.upper()}": str(getattr(settings, name)) for name in SET_HERE}
    return {VARIABLE: f"{__name__}:{middlewares.__name__}", **given}


class Guard:
    """Gives errors of the proxy's own OpenAI's shape, each request one id, and clients that do not read a limit."""

    def __init__(self, app: ASGIApp, send_timeout_s: float, request_timeout_s: float) -> None:
        self.app, self.send_timeout_s, self.request_timeout_s = app, send_timeout_s, request_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and see that it has an answer to its end."""
        if scope["type"] != "http" or scope["path"] in OWN:
            await self.app(scope, receive, send)
            return
        identity = request_id(scope).encode("ascii")
        scope = {**scope, "headers": [*cleaned(scope["headers"]), (b"x-request-id", identity)]}
        # Where no replica takes the request nobody else watches its time. An upload has its own, in the replica.
        limit_s = None if scope["path"] == UPLOADS else self.request_timeout_s + GRACE_S
        waiting = asyncio.timeout(limit_s)
        reply = Reply(send, identity, self.send_timeout_s, waiting)
        try:
            async with waiting:
                await self.app(scope, receive, reply)
        except TimeoutError:
            if not (reply.is_stuck or waiting.expired()):
                raise
        if not reply.is_stuck:
            await reply.finish(scope, receive, late=waiting.expired())


def cleaned(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers without the id, which is given anew, and without those that steer Serve."""
    return [
        (name, value)
        for name, value in headers
        if name != b"x-request-id" and name.lower().replace(b"-", b"_") not in STEERING
    ]


class Reply:
    """A `send` that keeps back what the proxy itself says, and knows whether the reply has begun and ended."""

    def __init__(self, send: Send, identity: bytes, timeout_s: float, waiting: asyncio.Timeout) -> None:
        self._send, self._identity, self._timeout_s, self._waiting = send, identity, timeout_s, waiting
        self._said: int | None = None
        self._begun = self._ended = self._is_stream = False
        self.is_stuck = False

    async def __call__(self, message: Message) -> None:
        """Send, or keep back."""
        if message["type"] == "http.response.start":
            kind = next((value for name, value in message["headers"] if name.lower() == b"content-type"), b"")
            if message["status"] >= 400 and kind.startswith(b"text/plain"):
                self._said = message["status"]  # the application's own errors are JSON
                return
            self._begun, self._is_stream = True, kind.startswith(b"text/event-stream")
            with suppress(RuntimeError):  # it has fired in this very turn of the loop
                self._waiting.reschedule(None)
            others = [(name, value) for name, value in message["headers"] if name.lower() != b"x-request-id"]
            message = {**message, "headers": [*others, (b"x-request-id", self._identity)]}
        elif self._said is not None:
            return
        elif message["type"] == "http.response.body":
            self._ended = not message.get("more_body", False)
        await self._pass(message)

    async def finish(self, scope: Scope, receive: Receive, *, late: bool) -> None:
        """Say what the application cannot say any more, if it has not said all."""
        if self._ended:
            return
        error = too_late() if late else reason(self._said)
        status, content = describe(error)
        if not self._begun:
            headers = {**headers_of(error), "x-request-id": self._identity.decode()}
            await JSONResponse(content, status, headers)(scope, receive, self._pass)
        elif self._is_stream:
            chunk = f"\n\ndata: {json.dumps(content)}\n\n".encode()
            await self._pass({"type": "http.response.body", "body": chunk, "more_body": False})

    async def _pass(self, message: Message) -> None:
        reading = asyncio.timeout(self._timeout_s)
        try:
            async with reading:
                await self._send(message)
        except TimeoutError:
            self.is_stuck = reading.expired()
            raise


def reason(said: int | None) -> ApiError:
    """What a client is told instead of the proxy's own words; `said` is the proxy's status, None if it said nothing."""
    if said is None:
        text = "the replica that ran this request has died: send it again, with the same seed for the same draws"
        return ApiError(503, text, code="replica_lost", retry_after_s=1)
    if said == 429:
        text = "no more can wait now: all replicas are full"
        return ApiError(429, text, code="queue_requests_limit", kind="rate_limit_error", retry_after_s=5)
    if said == 408:
        return too_late()
    return ApiError(503, "no replica takes requests now", code="no_replica", retry_after_s=5)


def too_late() -> ApiError:
    """The proxy's 504."""
    return ApiError(504, "no replica has answered in time", code="timeout", retry_after_s=5)
