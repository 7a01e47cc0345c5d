"""The protocol's side of the transformers engine: coroutines in front of the worker thread."""

import asyncio
from collections.abc import Sequence
from typing import cast

from sampler.engine import EngineInfo, Priority, Request, check_request
from sampler.engines.transformers.model import Model
from sampler.engines.transformers.work import Proposal, Reply, Scoring
from sampler.engines.transformers.worker import Worker
from sampler.errors import InvalidParams
from sampler.row import Row
from sampler.tokenizer import Tokenizer
from sampler.trace import Segment, Token


class TransformersEngine:
    """A local model. `max_rows` proposals run at once; `kv_cache_bytes` bounds all keys and values together."""

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        name: str,
        *,
        max_rows: int = 32,
        kv_cache_bytes: int = 1 << 30,
        checkpoint: str | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._info = EngineInfo(
            "transformers",
            name,
            model.vocabulary,
            model.eos_ids,
            model.context,
            details={"dtype": str(model.dtype).removeprefix("torch."), "device": str(model.device)},
            checkpoint=checkpoint,
        )
        self.worker = Worker(model, max_rows, kv_cache_bytes)

    @property
    def info(self) -> EngineInfo:
        """What this engine is and promises."""
        return self._info

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._tokenizer

    @property
    def alive(self) -> bool:
        """Whether the worker runs."""
        return self.worker.alive

    async def propose(self, request: Request) -> Segment:
        """Draw one segment; see the protocol."""
        check_request(request, self._info)
        reply = self._reply()
        return cast(Segment, await self._wait(Proposal(request, reply, list(request.ids)), reply, request.priority))

    async def score(self, ids: Sequence[int], start: int, head: int = 0) -> tuple[Sequence[Token], Sequence[Row]]:
        """Score ids[start:]; see the protocol."""
        if not 1 <= start < len(ids) or len(ids) > self._info.context:
            raise InvalidParams("prompt", f"a text to score needs 2 to {self._info.context} tokens")
        reply = self._reply()
        work = Scoring(tuple(ids), start, head, reply)
        return cast(tuple[Sequence[Token], Sequence[Row]], await self._wait(work, reply, Priority.INTERACTIVE))

    def room(self) -> int:
        """Rows that could start now."""
        return self.worker.room()

    async def aclose(self) -> None:
        """Stop the worker and free the model."""
        await asyncio.to_thread(self.worker.close)

    def _reply(self) -> Reply:
        loop = asyncio.get_running_loop()
        return Reply(loop, loop.create_future())

    async def _wait(self, work: Proposal | Scoring, reply: Reply, priority: int) -> object:
        self.worker.submit(work, priority)
        try:
            return await reply.future
        finally:
            reply.cancelled = reply.future.cancelled()
