"""What the worker works on: proposals and texts to score, each with somebody waiting for its answer."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import torch

from sampler.engine import Request
from sampler.errors import EngineError, EngineOutOfMemory
from sampler.row import Row
from sampler.trace import End, Segment, Token


def translate(error: Exception) -> Exception:
    """The sampler's error for whatever the model raised."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "not enough memory" in str(error):
        return EngineOutOfMemory("the model ran out of memory on this call")
    failure = EngineError(f"the model failed: {type(error).__name__}")
    failure.__cause__ = error
    return failure


@dataclass(slots=True, eq=False)
class Reply:
    """Where an answer goes: a future of some event loop."""

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[object]
    cancelled: bool = False

    def answer(self, value: object) -> None:
        """Resolve the future from any thread; nobody may be waiting any more."""
        if self.loop.is_closed():
            return

        def resolve() -> None:
            if self.future.done():
                return
            if isinstance(value, BaseException):
                self.future.set_exception(value)
            else:
                self.future.set_result(value)

        self.loop.call_soon_threadsafe(resolve)


@dataclass(slots=True, eq=False)
class Proposal:
    """A request on its way, and a row of the batch once it runs.

    `ids` holds the request's ids and the tokens drawn; the first `cached` of them have keys and values in the row.
    `prefix` holds those of a long prompt computed ahead, until the row takes them over.
    """

    request: Request
    reply: Reply
    ids: list[int]
    order: tuple[int, int] = (0, 0)
    cached: int = 0
    reused: int = 0
    prefix: list[Any] | None = None
    tokens: list[Token] = field(default_factory=lambda: list[Token]())
    rows: list[Row] = field(default_factory=lambda: list[Row]())

    def finish(self, end: End) -> None:
        """Answer with what has been drawn."""
        rows = tuple(self.rows) if self.request.keep_rows else None
        self.reply.answer(Segment(tuple(self.tokens), end, rows, self.reused))


@dataclass(slots=True, eq=False)
class Scoring:
    """A text to score, and its rows so far: those of ids[start:]."""

    ids: tuple[int, ...]
    start: int
    head: int
    reply: Reply
    order: tuple[int, int] = (0, 0)
    tokens: list[Token] = field(default_factory=lambda: list[Token]())
    rows: list[Row] = field(default_factory=lambda: list[Row]())
