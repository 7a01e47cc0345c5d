"""The protocol's side of the vllm engine."""

import asyncio
import hashlib
from collections.abc import Sequence

from sampler.engine import EngineInfo, EngineOptions, Priority, Request, check_request
from sampler.engines.huggingface.checkpoint import eos_ids, resolve
from sampler.engines.huggingface.tokenizer import load_tokenizer
from sampler.engines.vllm.backend import Backend
from sampler.engines.vllm.library import EngineDeadError
from sampler.engines.vllm.proposal import Proposal
from sampler.engines.vllm.rows import heads, whole_row
from sampler.engines.vllm.sampling import WATCH_INTERVAL, check_support, scoring_params
from sampler.engines.vllm.settings import Start, first_line, prepare
from sampler.errors import EngineError, InvalidParams, ModelNotFound
from sampler.row import Row
from sampler.tokenizer import Tokenizer
from sampler.trace import Segment, Token


class VllmEngine:
    """vLLM on a checkpoint. `ties` counts drawn tokens that were not in their row and were drawn again from it."""

    def __init__(self, start: Start, tokenizer: Tokenizer, name: str) -> None:
        self._tokenizer, self._max_top_k = tokenizer, start.max_top_k
        self.backend = Backend(start.arguments)
        config = self.backend.llm.vllm_config
        self._ranks = int(config.parallel_config.data_parallel_size)
        self._rows = int(config.scheduler_config.max_num_seqs) * self._ranks
        self._running: dict[str, Proposal] = {}
        self.ties = 0
        self._info = EngineInfo(
            "vllm",
            name,
            int(config.model_config.get_vocab_size()),
            eos_ids(start.arguments.model, config.model_config.hf_config),
            int(config.model_config.max_model_len),
            supports=frozenset({"top_k"}),
            plain_supports=frozenset({"full", "top_k", "top_p"}),
            draws="own",
            watch_interval=WATCH_INTERVAL,
            details={"dtype": str(config.model_config.dtype).removeprefix("torch."), "ranks": self._ranks},
            checkpoint=start.arguments.model,
        )

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
        """Whether vLLM runs."""
        return self.backend.alive

    async def propose(self, request: Request) -> Segment:
        """Draw one segment; see the protocol.

        The statistics are those of the request's top-k support. A plain request may have any support; its log p are
        over the whole vocabulary, and its ℓ and H are not defined (see `whole_row`).
        """
        check_support(request, self._info, self._max_top_k)
        check_request(request, self._info)
        return await self.backend.call(self._propose(request))

    async def score(self, ids: Sequence[int], start: int, head: int = 0) -> tuple[Sequence[Token], Sequence[Row]]:
        """Score ids[start:]; see the protocol. log p are exact, of H only what the head shows (see `whole_row`)."""
        if not 1 <= start < len(ids) or len(ids) >= self._info.context:
            raise InvalidParams("prompt", f"a text to score needs 2 to {self._info.context - 1} tokens")
        if head > self._max_top_k:
            raise InvalidParams("logprobs", f"the vllm engine returns at most {self._max_top_k} values of a row")
        return await self.backend.call(self._score(tuple(ids), start, max(head, 1)))

    def room(self) -> int:
        """Requests that vLLM could run beside those it has."""
        return max(0, self._rows - len(self._running))

    async def aclose(self) -> None:
        """Answer whoever waits and stop vLLM."""
        await asyncio.to_thread(self.backend.close)

    async def _propose(self, request: Request) -> Segment:
        proposal = Proposal(request, self._info.vocabulary)
        number, rank = self.backend.number(), self.rank(request.affinity)
        if request.priority is not Priority.PREFETCH:
            await self._make_way()
        self._running[number] = proposal
        try:
            return await proposal.run(
                lambda ids, params: self.backend.stream(ids, params, number, int(request.priority), rank)
            )
        finally:
            self.ties += proposal.ties
            del self._running[number]

    async def _make_way(self) -> None:
        """When all rows are taken, the proposal drawn ahead last gives its own up."""
        ahead = [
            (number, one)
            for number, one in self._running.items()
            if one.request.priority is Priority.PREFETCH and not one.preempted
        ]
        if ahead and len(self._running) >= self._rows:
            number, one = ahead[-1]
            one.preempted = True
            await self.backend.abort(number)

    async def _score(self, ids: tuple[int, ...], start: int, head: int) -> tuple[Sequence[Token], Sequence[Row]]:
        values = min(head, self._info.vocabulary)
        async with self.backend.stream(ids, scoring_params(values), self.backend.number()) as outputs:
            found = [output.prompt_logprobs async for output in outputs]
        scored = [whole_row(one, head, 1.0) for one in heads(found[-1], values)][start - 1 :]
        if [token.id for _, token in scored] != list(ids[start:]):
            raise EngineError("vLLM did not score this text")
        return [token for _, token in scored], [row for row, _ in scored]

    def rank(self, affinity: str) -> int | None:
        """The data-parallel rank on which work that belongs together stays; vLLM's choice for work that does not."""
        if self._ranks == 1 or not affinity:
            return None
        return int.from_bytes(hashlib.blake2b(affinity.encode(), digest_size=8).digest(), "little") % self._ranks


def start(options: EngineOptions, tokenizer: Tokenizer | None = None) -> VllmEngine:
    """Start vLLM; raises `ModelNotFound` or `InvalidParams` in one clear line."""
    checkpoint = resolve(options.model)
    settings = prepare(checkpoint.path, options)
    tokenizer = tokenizer or load_tokenizer(checkpoint.path)
    try:
        return VllmEngine(settings, tokenizer, options.served_name or checkpoint.name)
    except (RuntimeError, ValueError, OSError, EngineDeadError) as error:
        raise ModelNotFound(f"vLLM cannot load {checkpoint.name}: {first_line(error)}") from error
