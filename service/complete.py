"""Completions: a body in, OpenAI's reply or its chunks out. Nothing here knows of HTTP; batch rows come here too."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from service.api.requests import CompletionRequest
from service.plan import Plan
from service.render import chains_report, completion_logprobs, usage_report
from service.runner import Finished, Runner, total_usage


async def complete(runner: Runner, asked: CompletionRequest) -> dict[str, Any]:
    """OpenAI's reply to a completion request that does not stream. Cancelling frees the engine's work.

    Raises:
        ApiError: the request is refused; so do `SamplerError` and its kinds, which `service.errors` describes.
    """
    plan = await runner.plan(asked)
    finished = await runner.run_all(plan)
    choices = [_choice(done, plan) for done in finished]
    diagnostics = await asyncio.to_thread(_diagnostics, plan, finished)
    return {**_head(asked), "choices": choices, "usage": _usage(plan, finished), **diagnostics}


async def completion_chunks(runner: Runner, asked: CompletionRequest, plan: Plan) -> AsyncIterator[Any]:
    """OpenAI chunks: each answer's text once it is final, and what its chains say of each other once all are."""
    head, finished = _head(asked), list[Finished]()
    with_usage = asked.stream_options is not None and asked.stream_options.include_usage
    no_usage = {"usage": None} if with_usage else {}
    async for done in runner.run_each(plan):
        finished.append(done)
        yield {**head, "choices": [_choice(done, plan)]} | no_usage
    if plan.wants_diagnostics:
        yield {**head, "choices": [], **await asyncio.to_thread(_diagnostics, plan, finished)} | no_usage
    if with_usage:
        yield {**head, "choices": [], "usage": _usage(plan, finished)}


def _head(asked: CompletionRequest) -> dict[str, Any]:
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": asked.model,
    }


def _choice(done: Finished, plan: Plan) -> dict[str, Any]:
    choice: dict[str, Any] = {
        "index": done.index,
        "text": done.text,
        "logprobs": None,
        "finish_reason": done.finish_reason,
    }
    if plan.logprobs is not None:
        choice["logprobs"] = completion_logprobs(done.answer, plan.tokenizer, done.text, plan.logprobs)
    if done.power is not None:
        choice["power"] = done.power
    return choice


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
