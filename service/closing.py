"""Closing what the service holds, each within a limit: what will not close must not keep the process from ending."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from service.logs import LOGGER

CLOSE_S = 15.0
"""Seconds that each part gets to close."""


async def close_all(parts: Mapping[str, Callable[[], Awaitable[object]]]) -> list[str]:
    """Close all parts, in order; the names of those that failed or did not end, which the log has too."""
    return [name for name, close in parts.items() if not await _closes(name, close)]


async def _closes(name: str, close: Callable[[], Awaitable[object]]) -> bool:
    closing = asyncio.ensure_future(close())
    try:
        done, _ = await asyncio.wait({closing}, timeout=CLOSE_S)
    finally:
        closing.cancel()
    if done and not closing.cancelled() and closing.exception() is None:
        return True
    error = closing.exception() if done and not closing.cancelled() else None
    LOGGER.error("not closed", extra={"request": {"part": name}}, exc_info=error)
    return False
