"""The protocol's side of the remote engine: a proposal as one or more streamed calls.

The server draws. With each token come the `top_k` likeliest values of its row, which are all that the power
distribution over that support needs. A token outside them ties with the last of them; the proposal then draws that
token from the row by its own uniform and goes on with a new call. The law is the same: given that the server's token
lies inside, it is a draw from the row.
"""

import asyncio
import math
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sampler.engine import EngineInfo, Priority, Request, check_request, drawable, segment_end
from sampler.engines.remote.client import Client, drain
from sampler.engines.remote.slots import Slot, Slots
from sampler.engines.remote.tokenizer import ServerTokenizer
from sampler.engines.remote.wire import (
    MIN_TEMPERATURE,
    Chunk,
    Drawn,
    clip,
    head_row,
    place,
    proposal,
    read_chunk,
    read_scores,
    scoring,
    support_row,
)
from sampler.errors import EngineDead, EngineError, InvalidParams
from sampler.row import Row
from sampler.tokenizer import Tokenizer
from sampler.trace import End, Segment, Token

Result = TypeVar("Result")

PATH = "/v1/completions"
MAX_ROWS = 64
"""Calls at once if nothing else is said."""
STREAM_INTERVAL = 4
"""Tokens in one event: fewer events for more tokens drawn in vain after a rejection."""
MIN_TOP_K = 20
"""As on the vllm engine: below it, ties at the last rank carry too much."""
TOP_LOGPROBS = 50
"""Values asked for in a row that is scored."""


@dataclass(eq=False)
class _Growing:
    """A segment that is being drawn."""

    request: Request
    values: int
    tokens: list[Token]
    rows: list[Row]

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens]


class RemoteEngine:
    """Any vLLM servers that serve one model, which they know as `model`."""

    def __init__(
        self,
        client: Client,
        tokenizer: Tokenizer,
        info: EngineInfo,
        model: str,
        *,
        max_rows: int = MAX_ROWS,
        stream_interval: int = STREAM_INTERVAL,
    ) -> None:
        self.client = client
        self._tokenizer = tokenizer
        self._info = replace(info, watch_interval=stream_interval)
        self._slots = Slots(max_rows)
        self._calls: set[asyncio.Future[Any]] = set()
        self._closed = False
        self._model = model
        self.ties = 0
        """Tokens that the server drew outside the support, and that were drawn again."""

    @property
    def info(self) -> EngineInfo:
        """What this engine is and promises."""
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer, here or on the server."""
        return self._tokenizer

    @property
    def alive(self) -> bool:
        """False while no server has answered for a while; true again as soon as one does."""
        return not self._closed and self.client.servers.reachable

    async def propose(self, request: Request) -> Segment:
        """Draw one segment; see the protocol."""
        check_request(request, self._info)
        self._check_limits(request)
        return await self._call(self._propose(request))

    async def score(self, ids: Sequence[int], start: int, head: int = 0) -> tuple[Sequence[Token], Sequence[Row]]:
        """Score ids[start:]; see the protocol. The entropy counts the tokens that are not returned as one."""
        if not 1 <= start < len(ids) or len(ids) + 1 > self._info.context:
            raise InvalidParams("prompt", f"a text to score needs 2 to {self._info.context - 1} tokens")
        top = min(max(head, 1), TOP_LOGPROBS, self._info.vocabulary)
        pairs = [head_row(drawn, 1.0, head) for drawn in await self._call(self._score(tuple(ids), start, top))]
        return [token for _, token in pairs], [row for row, _ in pairs]

    def room(self) -> int:
        """Calls that could start now."""
        return 0 if self._closed else self._slots.room()

    async def aclose(self) -> None:
        """Close all connections; whoever waits is told."""
        self._closed = True
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await self.client.aclose()
        await asyncio.to_thread(self.client.servers.close)
        if isinstance(self._tokenizer, ServerTokenizer):
            self._tokenizer.close()

    async def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a call so that closing the engine can end it."""
        if self._closed:
            work.close()
            raise EngineDead("the engine has been closed")
        call = asyncio.ensure_future(work)
        self._calls.add(call)
        try:
            return await call
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if self._closed and current is not None and not current.cancelling():
                raise EngineDead("the engine has been closed") from None
            raise
        finally:
            self._calls.discard(call)

    async def _score(self, ids: tuple[int, ...], start: int, top: int) -> list[Drawn]:
        async with self._slots.hold(Priority.INTERACTIVE):
            body = await self.client.post("", PATH, scoring(self._model, ids, top))
        return read_scores(body, ids, start)

    async def _propose(self, request: Request) -> Segment:
        growing = _Growing(request, self._values(request), [], [])
        async with self._slots.hold(request.priority) as slot:
            end = None
            while end is None:
                end = await self._part(growing, slot)
        return Segment(tuple(growing.tokens), end, tuple(growing.rows) if request.keep_rows else None)

    def _check_limits(self, request: Request) -> None:
        """Raise `InvalidParams` for what vLLM would quietly change or could not tell."""
        if math.isfinite(request.alpha) and 1.0 / request.alpha < MIN_TEMPERATURE:
            raise InvalidParams("alpha", f"vLLM takes alpha up to {1 / MIN_TEMPERATURE:g}")
        low = min(MIN_TOP_K, self._info.vocabulary)
        if not request.plain and request.support.top_k < low:
            raise InvalidParams("top_k", f"on the remote engine top_k must be at least {low}")

    def _values(self, request: Request) -> int:
        """How many values of each row to ask for."""
        support = 1 if request.plain else request.support.top_k
        return min(max(support, request.head), self._info.vocabulary)

    async def _part(self, growing: _Growing, slot: Slot) -> End | None:
        """One streamed call; None where the segment must go on with another."""
        request, before = growing.request, len(growing.tokens)
        body = proposal(self._model, request, growing.ids, growing.values, self._info.watch_interval)
        async with self.client.stream(request.affinity, PATH, body) as events:
            async for data in events:
                chunk = read_chunk(data)
                tied, end = self._take(growing, chunk)
                if chunk.finish is not None:
                    await drain(events)
                if tied or end is not None:
                    return end  # if the server was not done, closing the connection ends its work
                if chunk.finish is not None:
                    return self._judge(chunk.finish, growing, len(growing.tokens) - before)
                if slot.preempted:
                    return End.CANCELLED
        raise EngineError("the server ended its answer without saying why")

    def _take(self, growing: _Growing, chunk: Chunk) -> tuple[bool, End | None]:
        """Add a chunk's tokens: whether the last one was drawn anew here, and how the segment ends if it does."""
        request, new, tied = growing.request, list[Token](), False
        for drawn in chunk.tokens:
            token, tied = self._token(growing, drawn)
            new.append(token)
            growing.tokens.append(token)
            if tied or token.id in request.eos_ids or len(growing.tokens) == request.max_tokens:
                break
        if not new:
            return False, None
        verdict = request.watch(new) if request.watch is not None else None
        end = segment_end(new[-1].id, request.eos_ids, verdict)
        full = len(growing.tokens) == request.max_tokens
        return tied, End.LENGTH if end is None and full else end

    def _token(self, growing: _Growing, drawn: Drawn) -> tuple[Token, bool]:
        """The token with its row's statistics, and whether it had to be drawn anew."""
        request = growing.request
        if request.plain:
            row, token = head_row(drawn, request.alpha, request.head)
            growing.rows.append(row)
            return token, False
        row = support_row(drawn, growing.values, request.support.top_k, request.alpha)
        growing.rows.append(row)
        source = drawable(row, request, len(growing.tokens))
        index = place(source, drawn.token)
        tied = index is None
        if index is None:
            self.ties += 1
            index = source.find(request.key.uniform(request.position + len(growing.tokens)))
        assert index is not None, "a complete row covers every uniform"
        return Token(int(source.ids[index]), source.log_p(index), source.log_z, row.entropy, row.log_mass), tied

    def _judge(self, finish: str, growing: _Growing, new: int) -> End | None:
        """What it means that the server ended an answer which is not at an end of ours."""
        if finish == "stop" and new:
            return None  # a stop token of the server's own settings: go on after it
        raise EngineError(f"the server ended its answer after {len(growing.tokens)} tokens ({clip(finish)})")
