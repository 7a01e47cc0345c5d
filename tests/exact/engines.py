"""Engines that misbehave in chosen ways, around a steady tabular one."""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from sampler.engine import Request
from sampler.engines.tabular import TabularEngine
from sampler.errors import EngineError
from sampler.trace import End, Segment, Token


class Wrapped(TabularEngine):
    """An engine that passes everything on."""

    def __init__(self, inner: TabularEngine) -> None:
        size = inner.info.vocabulary
        vocab = [inner.tokenizer.token_text(token) for token in range(size)]
        super().__init__(vocab, inner.info.eos_ids, {}, np.zeros(size))
        self.inner = inner

    async def propose(self, request: Request) -> Segment:
        return await self.inner.propose(request)


class Flaky(Wrapped):
    """Fails on the calls that `fails(number)` picks, after telling the watcher of up to `shown` tokens."""

    def __init__(
        self,
        inner: TabularEngine,
        fails: Callable[[int], bool],
        error: Callable[[], BaseException] = lambda: EngineError("flaky"),
        shown: int = 2,
    ) -> None:
        super().__init__(inner)
        self.calls = 0
        self._fails, self._error, self._shown = fails, error, shown

    async def propose(self, request: Request) -> Segment:
        self.calls += 1
        if not self._fails(self.calls):
            return await super().propose(request)
        await self.show(request)
        raise self._error()

    async def show(self, request: Request) -> None:
        """Draw a few tokens as the steady engine would, so that the watcher sees them."""
        watch, left = request.watch, self._shown

        def limited(tokens: Sequence[Token]) -> None:
            nonlocal left
            if watch is not None and left > 0:
                watch(tokens)
                left -= 1

        object.__setattr__(request, "watch", limited)
        await self.inner.propose(request)


class Lazy(Wrapped):
    """Never calls the watcher: the chain looks at the whole segment afterwards."""

    async def propose(self, request: Request) -> Segment:
        object.__setattr__(request, "watch", None)
        return await self.inner.propose(request)


class Batched(Wrapped):
    """Calls the watcher every `interval` tokens only, and hands over what it drew beyond the end."""

    def __init__(self, inner: TabularEngine, interval: int) -> None:
        super().__init__(inner)
        self._interval = interval

    async def propose(self, request: Request) -> Segment:
        watch, waiting = request.watch, list[Token]()

        def every(tokens: Sequence[Token]) -> object:
            waiting.extend(tokens)
            if watch is None or len(waiting) < self._interval:
                return None
            seen = tuple(waiting)
            waiting.clear()
            return watch(seen)

        object.__setattr__(request, "watch", every)
        return await self.inner.propose(request)


class Altered(Wrapped):
    """Replaces the statistics of the tokens of chosen calls."""

    def __init__(self, inner: TabularEngine, change: Callable[[int, int, Token], Token]) -> None:
        super().__init__(inner)
        self.calls = 0
        self._change = change

    async def propose(self, request: Request) -> Segment:
        self.calls += 1
        watch, position = request.watch, 0

        def changed(tokens: Sequence[Token]) -> object:
            nonlocal position
            new = tuple(self._change(self.calls, position + i, token) for i, token in enumerate(tokens))
            position += len(tokens)
            return watch(new) if watch is not None else None

        object.__setattr__(request, "watch", changed)
        segment = await self.inner.propose(request)
        tokens = tuple(self._change(self.calls, i, token) for i, token in enumerate(segment.tokens))
        return Segment(tokens, segment.end, segment.rows, segment.prefix_reused)


class Hanging(Wrapped):
    """On call number `at`, shows some tokens, calls `ready`, and never answers."""

    def __init__(self, inner: TabularEngine, at: int, shown: int, ready: Callable[[], None]) -> None:
        super().__init__(inner)
        self.calls = 0
        self.cancelled = False
        self._at, self._shown, self._ready = at, shown, ready

    async def propose(self, request: Request) -> Segment:
        self.calls += 1
        if self.calls != self._at:
            return await super().propose(request)
        await Flaky(self.inner, lambda number: True, shown=self._shown).show(request)
        self._ready()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return Segment((), End.CANCELLED)
