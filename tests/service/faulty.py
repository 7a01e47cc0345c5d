"""Engines that are slow, fail or die, around a tabular one."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sampler.engine import EngineInfo, Request, Verdict
from sampler.engines.tabular import TabularEngine, TabularTokenizer, from_table
from sampler.trace import Segment, Token


class FaultyEngine(TabularEngine):
    """A table that waits `delay_s` for each segment, and raises what `fail(number of the call)` returns.

    `lie` changes a segment before it is returned; with `deaf_s` the engine goes on for so long though cancelled.
    """

    def __init__(
        self,
        table: dict[str, Any],
        delay_s: float = 0.0,
        fail: Callable[[int], Exception | None] = lambda call: None,
        context: int | None = None,
    ) -> None:
        made = from_table(table, "letters")
        super().__init__(table["vocab"], made.info.eos_ids, made._logits, made._default, "letters")
        self.delay_s, self.fail = delay_s, fail
        self.calls = self.in_flight = 0
        self.is_alive = True
        self.closed = False
        self.lie: Callable[[Segment], Segment] = lambda segment: segment
        self.deaf_s = 0.0
        if context is not None:
            self._info = replace(self._info, context=context)

    @property
    def info(self) -> EngineInfo:
        """The table's, perhaps with a smaller context."""
        return self._info

    @property
    def alive(self) -> bool:
        """Whatever the test says."""
        return self.is_alive

    async def propose(self, request: Request) -> Segment:
        """Wait, fail or draw; counts the calls in flight."""
        self.calls += 1
        self.in_flight += 1
        try:
            failure = self.fail(self.calls)
            await self._wait()
            if failure is not None:
                raise failure
            return self.lie(await super().propose(replace(request, watch=None) if self.lies else request))
        finally:
            self.in_flight -= 1

    @property
    def lies(self) -> bool:
        """Whether a watcher must not see what is drawn, because what is returned is something else."""
        return self.lie.__name__ != "<lambda>"

    async def _wait(self) -> None:
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            await asyncio.sleep(self.deaf_s)
            raise

    async def aclose(self) -> None:
        """Remember that it was called."""
        self.closed = True


class ThreadEngine(FaultyEngine):
    """A table that draws one token every `token_s`, in a thread of its own, and tells of each at once."""

    def __init__(self, table: dict[str, Any], token_s: float) -> None:
        super().__init__(table)
        self.token_s = token_s

    async def propose(self, request: Request) -> Segment:
        """Draw; a call that is cancelled stops its thread at the next token."""
        self.calls += 1
        self.in_flight += 1
        left = False

        def watch(tokens: Sequence[Token]) -> Verdict | None:
            time.sleep(self.token_s)
            verdict = request.watch(tokens) if request.watch is not None else None
            return Verdict.STOP if left else verdict

        def draw() -> Segment:
            return asyncio.run(TabularEngine.propose(self, replace(request, watch=watch)))

        try:
            return await asyncio.to_thread(draw)
        finally:
            left = True
            self.in_flight -= 1


class HeldTokenizer(TabularTokenizer):
    """A table's tokenizer that encodes no text before it is let go, and counts who waits for it."""

    def __init__(self, vocab: Sequence[str], eos_ids: frozenset[int]) -> None:
        super().__init__(vocab, eos_ids)
        self.let_go, self.waiting = threading.Event(), 0

    def encode(self, text: str, *, start: bool = True) -> list[int]:
        """Wait, then encode."""
        if text:
            self.waiting += 1
            self.let_go.wait(120)
            self.waiting -= 1
        return super().encode(text, start=start)


class EncodingEngine(FaultyEngine):
    """A table whose tokenizer is held."""

    def __init__(self, table: dict[str, Any]) -> None:
        super().__init__(table)
        self.held = HeldTokenizer(table["vocab"], self.info.eos_ids)

    @property
    def tokenizer(self) -> TabularTokenizer:
        """The one that is held."""
        return self.held
