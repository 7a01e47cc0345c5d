"""What a request tells while it runs: text that has become final, and the steps of its chains."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sampler.events import Event, Extended, Stepped
from service.live_text import LiveText
from service.patience import Patience, timed_out
from service.plan import Plan
from service.telling import trace_after

EVENTS_WAITING = 4096
"""Events that wait for a slow reader. Beyond them they are dropped, and the next one says how many."""

TOKENS_WAITING = 1 << 18
"""Tokens that wait for a slow reader, about 16 MiB with their statistics; beyond them events are dropped too."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of answer `index` that has become final."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class Told:
    """An event of the chain of answer `index`, and its trace after it. `dropped` of that chain were not told before."""

    index: int
    event: Event
    ids: tuple[int, ...]
    dropped: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An event that nobody has read yet; `ids` is its trace where that does not follow from the events before it."""

    index: int
    event: Event
    ids: tuple[int, ...] | None
    dropped: int

    @property
    def tokens(self) -> int:
        """How many tokens it keeps in memory."""
        return tokens_of(self.event) + len(self.ids or ())


class Progress:
    """Gathers what the answers of one request tell, in the order in which it happens.

    Tokens come from the engine's thread, one by one; those of an answer that nobody has read yet are taken together.
    """

    def __init__(self, plan: Plan, patience: Patience) -> None:
        answers = len(plan.prompts) * plan.n
        self._plan, self._loop = plan, asyncio.get_running_loop()
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._text = [LiveText(plan.tokenizer, plan.params.stop) for _ in range(answers if plan.is_live else 0)]
        self._fresh: list[list[int]] = [[] for _ in self._text]
        self._traces: list[tuple[int, ...]] = [()] * answers
        self._read: list[tuple[int, ...]] = [()] * answers
        self._dropped = [0] * answers
        self._waiting = 0
        self._patience = patience

    def listener(self, index: int) -> Callable[[Sequence[int]], None]:
        """What to call with the ids of an answer as they are drawn, from any thread."""

        def listen(ids: Sequence[int]) -> None:
            self._loop.call_soon_threadsafe(self._drawn, index, list(ids))

        return listen

    def _drawn(self, index: int, ids: list[int]) -> None:
        if not self._fresh[index]:
            self._queue.put_nowait(index)
        self._fresh[index] += ids

    def tell(self, index: int, event: Event) -> None:
        """Take an event of an answer's chain."""
        if not self._plan.stream_events:
            return
        self._traces[index] = trace_after(self._traces[index], event)
        if self._queue.qsize() >= EVENTS_WAITING or self._waiting >= TOKENS_WAITING:
            self._dropped[index] += 1
            return
        dropped, self._dropped[index] = self._dropped[index], 0
        item = _Waiting(index, event, self._traces[index] if dropped else None, dropped)
        self._waiting += item.tokens
        self._queue.put_nowait(item)

    def dropped(self, index: int) -> int:
        """How many events of an answer's chain were dropped after the last one that is told."""
        return self._dropped[index]

    async def updates(self, tasks: Sequence[asyncio.Task[Result]]) -> AsyncIterator[Result | Piece | Told]:
        """Everything until all tasks are done, each task's result included; raises the first task's error.

        Raises what `Patience` raises at the request's deadline too.
        """
        for task in tasks:
            task.add_done_callback(self._queue.put_nowait)
        left = len(tasks)
        while left:
            item = await self._patience.wait(self._queue.get())
            if isinstance(item, asyncio.Task):
                left -= 1
                if item.cancelled():  # at the deadline, while nobody read
                    raise timed_out(self._patience.call, self._patience.limit_s or 0.0)
                yield item.result()
            elif isinstance(item, _Waiting):
                yield self._told(item)
            elif text := await self._feed(item):
                yield Piece(item, text)

    def _told(self, item: _Waiting) -> Told:
        self._waiting -= item.tokens
        ids = trace_after(self._read[item.index], item.event) if item.ids is None else item.ids
        self._read[item.index] = ids
        return Told(item.index, item.event, ids, item.dropped)

    async def _feed(self, index: int) -> str:
        fresh, self._fresh[index] = self._fresh[index], []
        if self._plan.tokenizer.tokens_are_bytes:
            return self._text[index].feed(fresh)
        return await asyncio.to_thread(self._text[index].feed, fresh)  # may decode the whole answer, or ask a server

    def rest(self, index: int, text: str) -> str:
        """What is left to send of a finished answer's text."""
        return self._text[index].rest(text) if self._text else text


def tokens_of(event: Event) -> int:
    """How many tokens an event carries, with or without their statistics."""
    if not isinstance(event, Extended | Stepped):
        return 0
    ids = event.ids if isinstance(event, Extended) else event.proposal
    return max(len(ids), 0 if event.statistics is None else len(event.statistics.log_p))
