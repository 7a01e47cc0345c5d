"""Server-sent events: OpenAI chunks, comments while there is nothing to say, and never an end in silence."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from service.errors import describe


async def sse(chunks: AsyncGenerator[Any, None], keepalive_s: float) -> AsyncGenerator[str, None]:
    """Encode chunks as they come. Ends with `[DONE]`, or with an error object that OpenAI's clients raise."""
    pending: asyncio.Task[Any] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(chunks))
            done, _ = await asyncio.wait({pending}, timeout=keepalive_s)
            if not done:
                yield ": working\n\n"
                continue
            task, pending = pending, None
            yield f"data: {json.dumps(task.result(), allow_nan=False)}\n\n"
    except StopAsyncIteration:
        yield "data: [DONE]\n\n"
    except Exception as error:  # the request boundary: the stream's status is sent, so the error goes into it
        yield f"data: {json.dumps(describe(error)[1])}\n\n"
    finally:  # also when the client has left
        if pending is not None:
            pending.cancel()
            await asyncio.wait({pending})
        await chunks.aclose()
