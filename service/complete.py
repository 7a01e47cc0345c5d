"""Completions and chat: a body in, OpenAI's reply or its chunks out. Nothing here knows of HTTP.

Batch rows come here too.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from service.api.requests import ChatRequest, CompletionRequest
from service.finished import Finished, total_usage
from service.plan import Plan
from service.progress import Piece, Told
from service.render import chains_report, decoded, usage_report
from service.runner import Runner
from service.shapes import ChatShape, CompletionShape, Shape
from service.telling import event_report


def shape_of(asked: CompletionRequest | ChatRequest) -> Shape:
    """The shape of the reply to a body."""
    return ChatShape() if isinstance(asked, ChatRequest) else CompletionShape()


async def complete(runner: Runner, asked: CompletionRequest | ChatRequest) -> dict[str, Any]:
    """OpenAI's reply to a request that does not stream. Cancelling frees the engine's work.

    Raises:
        ApiError: the request is refused; so do `SamplerError` and its kinds, which `service.errors` describes.
    """
    shape, plan = shape_of(asked), await runner.plan(asked)
    finished = await runner.run_all(plan)
    return {
        **_head(shape, shape.object, asked.model),
        "choices": [await decoded(plan.tokenizer, shape.choice, done, plan) for done in finished],
        "usage": _usage(plan, finished),
        **(await asyncio.to_thread(_diagnostics, plan, finished) if plan.wants_diagnostics else {}),
    }


async def reply_chunks(
    runner: Runner, asked: CompletionRequest | ChatRequest, plan: Plan
) -> AsyncGenerator[dict[str, Any], None]:
    """OpenAI's chunks: text once it is final, then what the chains say of each other, then the usage.

    An event of a chain, if they are asked for, is a chunk without choices.
    """
    shape, finished = shape_of(asked), list[Finished]()
    head = _head(shape, shape.chunk_object, asked.model) | ({"usage": None} if asked.wants_usage else {})
    for index in range(len(plan.prompts) * plan.n):
        if opening := shape.opening(index, plan):
            yield head | {"choices": [opening]}
    async with aclosing(runner.follow(plan)) as updates:
        async for update in updates:
            if isinstance(update, Finished):
                finished.append(update)
                for choice in await decoded(plan.tokenizer, shape.closing, update, plan):
                    yield head | {"choices": [choice]}
            elif isinstance(update, Piece):
                yield head | {"choices": [shape.piece(update.index, update.text)]}
            else:
                yield head | {"choices": [], "power_event": await _told(update, plan)}
    if plan.wants_diagnostics:
        yield head | {"choices": [], **await asyncio.to_thread(_diagnostics, plan, finished)}
    if asked.wants_usage:
        yield head | {"choices": [], "usage": _usage(plan, finished)}


async def _told(told: Told, plan: Plan) -> dict[str, Any]:
    each = told.event, told.ids, plan.tokenizer, plan.params.stop, told.index, told.dropped
    return await decoded(plan.tokenizer, event_report, *each)


def _head(shape: Shape, kind: str, model: str) -> dict[str, Any]:
    return {"id": f"{shape.id_prefix}{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def _diagnostics(plan: Plan, finished: list[Finished]) -> dict[str, Any]:
    """`power_diagnostics` if asked for: one report on the chains of each prompt, in the order of the prompts."""
    if not plan.wants_diagnostics:
        return {}
    chains = {done.index: (done.answer, done.diagnostics) for done in finished if done.diagnostics is not None}
    prompts = range(len(plan.prompts))
    return {
        "power_diagnostics": [
            chains_report(prompt, [chains[prompt * plan.n + chain] for chain in range(plan.n)]) for prompt in prompts
        ]
    }


def _usage(plan: Plan, finished: list[Finished]) -> dict[str, Any]:
    prompt = sum(len(ids) for ids in plan.prompts)
    completion = sum(len(done.answer.trace) for done in finished)
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    if plan.is_power:
        usage["power"] = usage_report(total_usage(finished), completion)
    return usage
