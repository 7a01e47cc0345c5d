"""A proxy that puts the service at a path of another server, as deployers do."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

from tests.service.serving import serving_app

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "host"}
LINGER_S = 0.5
"""From the last event to the loss of the connection: a browser may throw away what came together with an error."""


async def passed_on(reply: httpx.Response, cut_after: int | None) -> AsyncIterator[bytes]:
    """The body; of an event stream only so many events, after which the connection is lost."""
    events = 0
    async for chunk in reply.aiter_raw():
        if cut_after is None or "event-stream" not in reply.headers["content-type"]:
            yield chunk
            continue
        for part in re.split(rb"(?=data: )", chunk):  # one chunk may hold several events
            if events >= cut_after:
                await asyncio.sleep(LINGER_S)
                raise asyncio.CancelledError
            yield part
            events += part.count(b"data: ")


def proxy_app(upstream: str, path: str, cut_after: int | None = None) -> FastAPI:
    """Passes on what is under `path`, without it, and nothing else; rewrites neither headers nor bodies.

    `cut_after`: events of a stream after which its connection is lost; None for never.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with httpx.AsyncClient(base_url=upstream, timeout=60) as client:
            app.state.client = client
            yield

    app = FastAPI(lifespan=lifespan, openapi_url=None, redirect_slashes=False)

    @app.api_route(path + "{rest:path}", methods=["GET", "HEAD", "POST"])
    async def forward(rest: str, request: Request) -> StreamingResponse:
        client: httpx.AsyncClient = request.app.state.client
        headers = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP}
        sent = client.build_request(request.method, rest, headers=headers, content=await request.body())
        reply = await client.send(sent, stream=True)
        kept = {name: value for name, value in reply.headers.items() if name not in HOP_BY_HOP}
        return StreamingResponse(
            passed_on(reply, cut_after), reply.status_code, kept, background=BackgroundTask(reply.aclose)
        )

    return app


@contextmanager
def at_a_path(upstream: str, path: str = "/models/power", cut_after: int | None = None) -> Iterator[str]:
    """The URL of a service behind such a proxy."""
    with serving_app(proxy_app(upstream, path, cut_after)) as url:
        yield url + path
