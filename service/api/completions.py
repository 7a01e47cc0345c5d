"""`POST /v1/completions`: a base model's own endpoint, plain or by power sampling."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import Field

from service.api.power import PowerOptions
from service.api.schema import RequestModel
from service.api.stream import sse
from service.render import chains_report, completion_logprobs, usage_report
from service.runner import Finished, Plan, Runner, total_usage, until_disconnect

router = APIRouter()

TokenId = Annotated[int, Field(ge=0)]
TokenIds = Annotated[list[TokenId], Field(fail_fast=True)]
Prompt = str | TokenIds | Annotated[list[str], Field(fail_fast=True)] | Annotated[list[TokenIds], Field(fail_fast=True)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]


class StreamOptions(RequestModel):
    """OpenAI's `stream_options`."""

    include_usage: bool = False


class CompletionRequest(RequestModel):
    """OpenAI's completion request with the `power` object; what is not listed is refused."""

    model: Annotated[str, Field(min_length=1, max_length=512)]
    prompt: Prompt
    max_tokens: Annotated[int, Field(ge=1, le=1 << 20)] = 16
    temperature: Annotated[float | None, Field(ge=0, le=2, allow_inf_nan=False)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1, allow_inf_nan=False)] = None
    n: Annotated[int, Field(ge=1, le=128)] = 1
    seed: Annotated[int | None, Field(ge=-(1 << 63), lt=1 << 63)] = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    power: PowerOptions | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


@router.post("/v1/completions", response_model=None)
async def create_completion(body: CompletionRequest, request: Request) -> Response:
    """Complete each prompt `n` times."""
    runner: Runner = request.app.state.runner
    plan = await runner.plan(body)
    head = {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": body.model,
    }
    if body.stream:
        return StreamingResponse(
            sse(_chunks(head, plan, runner, body), runner.settings.keepalive_s), media_type="text/event-stream"
        )
    finished = await until_disconnect(request, runner.run_all(plan))
    if finished is None:
        return Response(status_code=499)  # nobody reads it
    choices = [_choice(done, plan) for done in finished]
    diagnostics = await asyncio.to_thread(_diagnostics, plan, finished)
    return JSONResponse({**head, "choices": choices, "usage": _usage(plan, finished), **diagnostics})


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


async def _chunks(head: dict[str, Any], plan: Plan, runner: Runner, body: CompletionRequest) -> AsyncIterator[Any]:
    """OpenAI chunks: each answer's text once it is final, and what its chains say of each other once all are."""
    finished: list[Finished] = []
    with_usage = body.stream_options is not None and body.stream_options.include_usage
    no_usage = {"usage": None} if with_usage else {}
    async for done in runner.run_each(plan):
        finished.append(done)
        yield {**head, "choices": [_choice(done, plan)]} | no_usage
    if plan.wants_diagnostics:
        yield {**head, "choices": [], **await asyncio.to_thread(_diagnostics, plan, finished)} | no_usage
    if with_usage:
        yield {**head, "choices": [], "usage": _usage(plan, finished)}
