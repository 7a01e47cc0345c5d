"""Pure ASGI middleware: nothing that would buffer a stream."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ApiError, describe


class BodyLimit:
    """Counts a body's bytes as they arrive, whatever its headers say, and refuses it with 413 beyond the limit."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counting `receive`."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.max_bytes:
                raise ApiError(413, f"the body is larger than {self.max_bytes} bytes", code="body_too_large")
            return message

        await self.app(scope, counted, send)


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
            await JSONResponse(content, status)(scope, receive, send)
