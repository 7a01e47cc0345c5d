"""Pure ASGI middleware: nothing that would buffer a stream."""

import asyncio
import re
import uuid
from collections.abc import MutableMapping
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.call import Call
from service.errors import ApiError, describe, headers_of
from service.logs import LOGGER
from service.patience import cut_off
from service.settings import Settings
from service.telemetry import Telemetry

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
"""What a caller may give as a request's id; anything else is not repeated, and one is made."""


class Calls:
    """Makes a `Call` of each request, and closes it whatever happens: its place is freed, it is counted and logged."""

    def __init__(self, app: ASGIApp, settings: Settings, telemetry: Telemetry) -> None:
        self.app, self.settings, self.telemetry = app, settings, telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with its id on whatever is sent."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        call = Call(timeout_s=self.settings.request_timeout_s, request_id=request_id(scope))
        scope.setdefault("state", {})["call"] = call
        sent = Sent(send, call.request_id)
        try:
            await self.app(scope, receive, sent)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not call.is_cut or sent.status is not None or task is None:
                raise
            task.uncancel()  # the server cut it off, and it is owed an answer
            error = cut_off(call)
            status, content = describe(error)
            await JSONResponse(content, status, headers_of(error))(scope, receive, sent)
        finally:
            call.end()
            self._tell(scope, call, sent)

    def _tell(self, scope: Scope, call: Call, sent: "Sent") -> None:
        route = getattr(scope.get("route"), "path", None) or "none"
        is_work, status, seconds = bool(call.facts), sent.status or 499, round(call.elapsed_s, 6)
        self.telemetry.replied(route, status, seconds if is_work else None)
        line: dict[str, Any] = {
            "id": call.request_id,
            "key": call.key,
            "http_method": scope["method"],
            "route": route,
            "status": status,
            "whole": sent.whole,
            "seconds": seconds,
            **call.facts,
            **(call.reached.cost() if is_work else {}),
        }
        quiet = route in {"/livez", "/readyz", "/metrics"} and status < 400
        (LOGGER.debug if quiet else LOGGER.info)("request", extra={"request": line})


class Sent:
    """A `send` that adds the request's id, and remembers the status and whether the reply went out whole."""

    def __init__(self, send: Send, identity: str) -> None:
        self._send, self._identity = send, identity.encode("latin-1")
        self.status: int | None = None
        self.whole = False

    async def __call__(self, message: Message) -> None:
        """Send."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", self._identity)]}
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.whole = True


def request_id(scope: MutableMapping[str, Any]) -> str:
    """The caller's `X-Request-Id` if there is one that may be repeated, else a new one."""
    given = [value for name, value in scope["headers"] if name == b"x-request-id"]
    if len(given) == 1 and REQUEST_ID.fullmatch(given[0]):
        return given[0].decode("ascii")
    return uuid.uuid4().hex


class BodyLimit:
    """Counts a body's bytes as they arrive, whatever its headers say, and the seconds it takes.

    Too many are 413, too slow is 408.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float) -> None:
        self.app, self.max_bytes, self.timeout_s = app, max_bytes, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counting `receive`."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self.timeout_s
        seen, whole = 0, False

        async def counted() -> Message:
            nonlocal seen, whole
            if whole:  # what comes now is no body: the client leaving, whenever that is
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise self._too_slow() from None
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if seen > self.max_bytes:
                raise ApiError(413, f"the body is larger than {self.max_bytes} bytes", code="body_too_large")
            return message

        await self.app(scope, counted, send)

    def _too_slow(self) -> ApiError:
        message = f"the body did not arrive within {self.timeout_s:g} s"
        return ApiError(408, message, code="body_timeout", headers={"Connection": "close"})


class UnexpectedErrors:
    """Answers an exception that no handler knows.

    Starlette's own last handler answers and raises again, upon which uvicorn hangs up without having said so:
    the next request on that connection would be lost.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; an error before the reply becomes the reply."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:  # the request boundary
            if scope["type"] != "http" or started:
                raise
            status, content = describe(error)
            await JSONResponse(content, status, headers_of(error))(scope, receive, send)
