"""The worker: one thread that owns the model and runs every row there is, token by token."""

import asyncio
import heapq
import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from sampler.engine import Request, Support, segment_end
from sampler.engines.transformers.heads import Heads, head_size, needs_full
from sampler.engines.transformers.model import Model
from sampler.engines.transformers.prefixes import PrefixStore
from sampler.errors import EngineDead, EngineError, EngineOutOfMemory
from sampler.row import Row
from sampler.trace import End, Segment, Token

SCORE_CHUNK = 128
"""Positions scored in one pass, to bound the memory of their logits."""


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
    """A request on its way: a row of the batch once it runs. `cached` tokens of it have keys and values."""

    request: Request
    reply: Reply
    ids: list[int]
    cached: int = 0
    reused: int = 0
    tokens: list[Token] = field(default_factory=lambda: list[Token]())
    rows: list[Row] = field(default_factory=lambda: list[Row]())


@dataclass(slots=True, eq=False)
class Scoring:
    """A text to score."""

    ids: tuple[int, ...]
    start: int
    head: int
    reply: Reply


class Worker:
    """Runs proposals in one batch. `submit` may be called from any thread."""

    def __init__(self, model: Model, max_rows: int, kv_cache_bytes: int) -> None:
        self.model, self.max_rows = model, max_rows
        self.prefixes = PrefixStore(kv_cache_bytes, model.cache.token_bytes)
        self.running: list[Proposal] = []
        self.decoded_tokens = 0
        self.forward_passes = 0
        self._waiting: list[tuple[int, int, Proposal | Scoring]] = []
        self._arrival = itertools.count()
        self._wake = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="powercut-engine", daemon=True)
        self._thread.start()

    def submit(self, work: Proposal | Scoring, priority: int) -> None:
        """Queue work; earlier and more urgent work goes first."""
        with self._wake:
            if self._closed:
                raise EngineDead("the engine has been closed")
            heapq.heappush(self._waiting, (priority, next(self._arrival), work))
            self._wake.notify()

    @property
    def alive(self) -> bool:
        """Whether the thread runs and takes work."""
        return self._thread.is_alive() and not self._closed

    def room(self) -> int:
        """Rows that could start now."""
        with self._wake:
            return max(0, self.max_rows - len(self.running) - len(self._waiting))

    def close(self) -> None:
        """Stop the thread; whoever waits is told."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        with torch.inference_mode():
            while self._wait():
                try:
                    self._admit()
                    if self.running:
                        self._decode()
                except Exception as error:  # the worker loop: every waiter gets an answer
                    self._fail(error)
        for work in [*self.running, *(entry[2] for entry in self._waiting)]:
            work.reply.answer(EngineDead("the engine has been closed"))
        self.running.clear()
        self._waiting.clear()
        self.prefixes.clear()

    def _wait(self) -> bool:
        with self._wake:
            while not self._closed and not self.running and not self._waiting:
                self._wake.wait()
            return not self._closed

    def _next(self) -> Proposal | Scoring | None:
        with self._wake:
            if self._waiting and len(self.running) < self.max_rows:
                return heapq.heappop(self._waiting)[2]
        return None

    def _admit(self) -> None:
        while (work := self._next()) is not None:
            if work.reply.cancelled:
                continue
            try:
                if isinstance(work, Scoring):
                    work.reply.answer(self._score(work))
                else:
                    self._join(work)
            except Exception as error:  # this caller's failure is not its neighbours'
                work.reply.answer(translate(error))

    def _join(self, proposal: Proposal) -> None:
        """Give a proposal the next row: load what is stored of its prefix, compute the rest but its last token."""
        row, ids, cache = len(self.running), proposal.ids, self.model.cache
        cache.reserve(row + 1, len(ids) + 1)
        pieces = self.prefixes.match(ids[:-1])
        cache.load(row, pieces)
        proposal.cached = proposal.reused = sum(piece.shape[2] for piece in pieces)
        if proposal.cached < len(ids) - 1:
            self._prefill(row, ids, proposal.cached, len(ids) - 1)
            proposal.cached = len(ids) - 1
        self.running.append(proposal)

    def _prefill(self, row: int, ids: Sequence[int], start: int, end: int) -> torch.Tensor:
        device = self.model.device
        positions = torch.arange(start, end, device=device)[None]
        new = torch.tensor([ids[start:end]], device=device)
        self.forward_passes += 1
        return self.model.hidden(slice(row, row + 1), new, positions, end)

    def _decode(self) -> None:
        """One token for every row."""
        batch = self.running
        length = max(proposal.cached for proposal in batch) + 1
        device, cache = self.model.device, self.model.cache
        cache.reserve(len(batch), length)
        new = torch.tensor([[proposal.ids[-1]] for proposal in batch], device=device)
        positions = torch.tensor([[proposal.cached] for proposal in batch], device=device)
        logits = self.model.logits(self.model.hidden(slice(0, len(batch)), new, positions, length)[:, -1])
        self.forward_passes += 1
        self.decoded_tokens += len(batch)
        requests = [proposal.request for proposal in batch]
        heads = Heads(
            logits,
            max(head_size(request) for request in requests),
            [request.alpha for request in requests],
            any(needs_full(request.support) for request in requests),
        )
        left = [index for index, proposal in enumerate(batch) if self._advance(index, proposal, heads)]
        for index in reversed(left):
            self._leave(index)

    def _advance(self, index: int, proposal: Proposal, heads: Heads) -> bool:
        """Draw a row's next token; whether the row is done."""
        request = proposal.request
        proposal.cached += 1
        if proposal.reply.cancelled:
            return True
        try:
            position = request.position + len(proposal.tokens)
            row, token = heads.draw(index, request, request.key.uniform(position))
            proposal.tokens.append(token)
            proposal.ids.append(token.id)
            if request.keep_rows:
                proposal.rows.append(row)
            end = segment_end(token.id, request.eos_ids, request.watch((token,)) if request.watch else None)
        except Exception as error:  # a watcher's failure is its caller's alone
            proposal.reply.answer(translate(error))
            return True
        if end is None and len(proposal.tokens) >= request.max_tokens:
            end = End.LENGTH
        if end is None:
            return False
        rows = tuple(proposal.rows) if request.keep_rows else None
        proposal.reply.answer(Segment(tuple(proposal.tokens), end, rows, proposal.reused))
        return True

    def _leave(self, index: int) -> None:
        """Free a row: keep its keys and values for later, and move the last row into its place."""
        cache, proposal, last = self.model.cache, self.running[index], len(self.running) - 1
        ids = tuple(proposal.ids[: proposal.cached])
        self.prefixes.insert(ids, lambda start, end: cache.store(index, start, end))
        if index != last:
            cache.move(last, index, self.running[last].cached)
            self.running[index] = self.running[last]
        self.running.pop()

    def _score(self, work: Scoring) -> tuple[Sequence[Token], Sequence[Row]]:
        row, ids = len(self.running), work.ids
        self.model.cache.reserve(row + 1, len(ids))
        tokens: list[Token] = []
        rows: list[Row] = []
        for start in range(0, len(ids) - 1, SCORE_CHUNK):
            end = min(start + SCORE_CHUNK, len(ids) - 1)
            logits = self.model.logits(self._prefill(row, ids, start, end)[0])
            wanted = max(start, work.start - 1)
            if wanted >= end:
                continue
            logits = logits[wanted - start :]
            heads = Heads(logits, max(work.head, 1), [1.0] * len(logits), full=True)
            for offset in range(len(logits)):
                head = heads.row(offset, Support(), 1.0)
                target = ids[wanted + offset + 1]
                log_p = float(logits[offset, target]) - head.log_norm
                tokens.append(Token(target, log_p, head.log_z, head.entropy, 0.0))
                rows.append(head)
        return tokens, rows

    def _fail(self, error: Exception) -> None:
        """A forward pass failed: its rows' callers are told, and the next request starts clean."""
        for proposal in self.running:
            proposal.reply.answer(translate(error))
        self.running.clear()
        self.model.cache.clear()
        self.prefixes.clear()


def translate(error: Exception) -> Exception:
    """The sampler's error for whatever the model raised."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "not enough memory" in str(error):
        return EngineOutOfMemory("the model ran out of memory on this call")
    failure = EngineError(f"the model failed: {type(error).__name__}")
    failure.__cause__ = error
    return failure
