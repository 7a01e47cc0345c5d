"""The chain benchmarks: what powercut saves in tokens and in time."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from sampler.answer import Answer
from sampler.engine import Priority, Request, Support
from sampler.engines.transformers.engine import TransformersEngine
from sampler.events import Event, Stepped
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PowerParams
from sampler.rng import DrawKey
from sampler.tree import MemoTree

Prompt = tuple[int, ...]


def run_chains(
    engine: TransformersEngine,
    prompts: Sequence[Prompt],
    params: PowerParams,
    seed: int,
    n: int = 1,
    method: str = "entropy_cut",
) -> tuple[list[Answer], list[list[Event]]]:
    """`n` chains on each prompt, together; the chains of a prompt share its tree."""
    events: list[list[Event]] = []

    async def together() -> list[Answer]:
        jobs: list[Job] = []
        for prompt in prompts:
            tree = MemoTree(1 << 28) if params.memo_tree else None
            for chain in range(n):
                events.append([])
                jobs.append(Job(engine, prompt, params, seed, chain, emit=events[-1].append, tree=tree))
        return list(await asyncio.gather(*[METHODS[method](job) for job in jobs]))

    return asyncio.run(together()), events


class ReferenceWay:
    """A step as others do it: one `generate()` from the whole text, to the horizon, with no statistics at all."""

    def __init__(self, engine: TransformersEngine, params: PowerParams) -> None:
        self.network: Any = engine.worker.model.network
        self.params = params

    def generate(self, texts: Sequence[Prompt], tokens: int) -> None:
        """Continue texts of one length by exactly so many tokens."""
        ids = torch.tensor(texts, device=self.network.device)
        self.network.set_attn_implementation("sdpa")
        try:
            with torch.inference_mode():
                self.network.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=True,
                    temperature=1 / self.params.alpha,
                    top_k=self.params.top_k,
                    min_new_tokens=tokens,
                    max_new_tokens=tokens,
                    pad_token_id=0,
                )
        finally:
            self.network.set_attn_implementation("powercut")

    def steps_per_second(self, schedules: Sequence[tuple[Prompt, Answer, list[Event]]], number: int) -> float:
        """Steps per second over one proposal of each schedule, spread over the chains' stages."""
        start = time.perf_counter()
        for place, (prompt, answer, events) in enumerate(schedules):
            steps = [event for event in events if isinstance(event, Stepped)]
            event = steps[(len(steps) * (2 * place + 1) // (2 * len(schedules)) + number) % len(steps)]
            kept = (answer.trace.ids * (event.cut // max(1, len(answer.trace)) + 1))[: event.cut]
            self.generate([prompt + kept], max(1, len(event.proposal)))
        return len(schedules) / (time.perf_counter() - start)


def decode_rate(
    engine: TransformersEngine, batch: int, tokens: int, seed: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Tokens per second, of this clock, of proposals of one length with all their statistics."""

    async def together() -> None:
        requests = [
            Request(
                tuple(range(100 + row, 125 + row)),
                tokens,
                4.0,
                Support("top_k", top_k=50),
                DrawKey(bytes([row, seed]) * 16),
                0,
                frozenset(),
                priority=Priority.INTERACTIVE,
            )
            for row in range(batch)
        ]
        await asyncio.gather(*[engine.propose(request) for request in requests])

    start = clock()
    asyncio.run(together())
    return batch * tokens / (clock() - start)


def generate_rate(reference: ReferenceWay, batch: int, tokens: int) -> float:
    """Tokens per second of `generate()` on the same prompts, with no statistics."""
    start = time.perf_counter()
    reference.generate([tuple(range(100 + row, 125 + row)) for row in range(batch)], tokens)
    return batch * tokens / (time.perf_counter() - start)


def variants(params: PowerParams) -> dict[str, PowerParams]:
    """The same chain plain, with each saving alone, and with both. Prefetch is off: it costs tokens to save time."""
    plain = replace(params, early_rejection=False, memo_tree=False, prefetch=False)
    return {
        "plain": plain,
        "early rejection": replace(plain, early_rejection=True),
        "memo tree": replace(plain, memo_tree=True),
        "both": replace(plain, early_rejection=True, memo_tree=True),
    }
