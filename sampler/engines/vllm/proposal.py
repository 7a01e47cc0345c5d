"""One segment: a vLLM request followed token by token, and asked anew where a drawn token is not in its row."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sampler.engine import Request, drawable, segment_end
from sampler.engines.vllm.rows import Head, heads, support_row, support_token, token_at, whole_row
from sampler.engines.vllm.sampling import sampling_params, values_wanted
from sampler.errors import EngineError
from sampler.row import Row
from sampler.trace import End, Segment, Token

Stream = Callable[[tuple[int, ...], Any], AbstractAsyncContextManager[AsyncIterator[Any]]]
"""Starts a vLLM request for ids and parameters; leaving the context frees it."""


@dataclass(slots=True, eq=False)
class Proposal:
    """A request on its way. `ties` counts drawn tokens outside the row, which were drawn again from the row."""

    request: Request
    vocabulary: int
    tokens: list[Token] = field(default_factory=lambda: list[Token]())
    rows: list[Row] = field(default_factory=lambda: list[Row]())
    reused: int = 0
    ties: int = 0
    preempted: bool = False

    async def run(self, stream: Stream) -> Segment:
        """Draw until the segment ends."""
        while (end := await self._follow(stream)) is None:
            self.ties += 1  # what vLLM drew after the replaced token is worthless: ask anew from there
        return Segment(tuple(self.tokens), end, tuple(self.rows) if self.request.keep_rows else None, self.reused)

    async def _follow(self, stream: Stream) -> End | None:
        """One vLLM request, from where the segment stands; None if it met a tie."""
        request, drawn = self.request, len(self.tokens)
        values = values_wanted(request, self.vocabulary)
        ids = request.ids + tuple(token.id for token in self.tokens)
        params = sampling_params(request, drawn, values)
        async with stream(ids, params) as outputs:
            async for output in outputs:
                if not self.tokens:
                    self.reused = int(output.num_cached_tokens or 0)
                completion = output.outputs[0]
                new, tied = self._take(completion, values)
                end = self._end(new)
                if end is not None or tied:
                    return end
                if completion.finish_reason == "abort":
                    return End.CANCELLED
                if completion.finish_reason == "error":
                    raise EngineError("vLLM could not finish this request")
        raise EngineError(f"vLLM ended a request after {len(self.tokens)} tokens for no reason")

    def _take(self, completion: Any, values: int) -> tuple[list[Token], bool]:
        """The tokens of one output up to a tie, with their rows; and whether there was one."""
        new: list[Token] = []
        for head in heads(completion.logprobs, values) if completion.token_ids else ():
            row, token = self._read(head)
            if self.request.keep_rows:
                self.rows.append(row.compact(np.float32, values))
            self.tokens.append(token)
            new.append(token)
            if token.id != head.drawn:
                return new, True
        if len(new) != len(completion.token_ids):
            raise EngineError(f"vLLM returned {len(completion.token_ids)} tokens but the rows of {len(new)}")
        return new, False

    def _read(self, head: Head) -> tuple[Row, Token]:
        """A position's row and token. A token outside the row, tied with its last, is drawn again from the row."""
        request = self.request
        if request.plain:
            return whole_row(head, max(request.head, 1), request.alpha)
        row = support_row(head, request.support.top_k, len(head.ids), request.alpha)
        source = drawable(row, request, len(self.tokens))
        token = support_token(source, head.drawn)
        if token is not None:
            return row, token
        index = source.find(request.key.uniform(request.position + len(self.tokens)))
        if index is None:
            raise EngineError("a row of vLLM is not complete")
        return row, token_at(source, index)

    def _end(self, new: list[Token]) -> End | None:
        """Judge the tokens just taken; how the segment ends, None if it goes on."""
        if not new:
            return None
        verdict = self.request.watch(new) if self.request.watch is not None else None
        end = segment_end(new[-1].id, self.request.eos_ids, verdict)
        return End.LENGTH if end is None and len(self.tokens) >= self.request.max_tokens else end
