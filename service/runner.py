"""One request's life between parsing and reply: prompts to ids, jobs to answers, and cancelling."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from starlette.requests import Request

from sampler.answer import Answer, PowerUsage
from sampler.diagnostics import ChainDiagnostics, diagnose_chain
from sampler.engine import Engine, check_context
from sampler.events import Event
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PlainParams, PowerParams
from sampler.tokenizer import Tokenizer
from sampler.tree import MemoTree
from service.api.power import PowerOptions, choose_method, plain_params, power_params, split_model
from service.errors import ApiError
from service.render import answer_text, finish_reason, plain, power_report
from service.settings import Settings

T = TypeVar("T")


class Asked(Protocol):
    """The fields that completions and chat share."""

    model: str
    prompt: Any
    max_tokens: int
    temperature: float | None
    top_p: float | None
    n: int
    seed: int | None
    logprobs: int | None
    power: PowerOptions | None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """A valid request: what will run."""

    method: str
    params: PowerParams | PlainParams
    prompts: list[tuple[int, ...]]
    seeds: list[int]
    n: int
    logprobs: int | None
    include: frozenset[str]
    tokenizer: Tokenizer
    seeded: bool

    @property
    def is_power(self) -> bool:
        """Whether a power method runs."""
        return isinstance(self.params, PowerParams)

    @property
    def wants_diagnostics(self) -> bool:
        """Whether chains are to be diagnosed."""
        return "diagnostics" in self.include


@dataclass(frozen=True, slots=True)
class Finished:
    """One answer, ready to be written."""

    index: int
    answer: Answer
    text: str
    finish_reason: str
    power: dict[str, Any] | None
    diagnostics: ChainDiagnostics | None = None


class Runner:
    """Turns requests into answers on one engine."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self.settings = engine, settings
        self.in_flight = 0

    async def plan(self, asked: Asked) -> Plan:
        """Check a request against the model and the limits; raises what the caller should hear."""
        info = self.engine.info
        method = choose_method(split_model(asked.model, info.model), asked.power)
        if method == "standard":
            params: PowerParams | PlainParams = plain_params(
                asked.max_tokens, asked.temperature, asked.top_p, asked.stops
            )
        else:
            options = asked.power or PowerOptions.model_validate({})
            params = power_params(
                method, options, asked.max_tokens, asked.temperature, asked.top_p, asked.stops, info.vocabulary
            )
        prompts = await self._prompts(asked.prompt, asked.n)
        for ids in prompts:
            check_context(len(ids), params.max_tokens, info)
        # One seed means the same answer to the same prompt; without one, equal prompts get different answers.
        seeds = [secrets.randbits(63) if asked.seed is None else asked.seed for _ in prompts]
        include = frozenset[str](asked.power.include if asked.power is not None else ())
        return Plan(
            method,
            params,
            prompts,
            seeds,
            asked.n,
            asked.logprobs,
            include,
            self.engine.tokenizer,
            seeded=asked.seed is not None,
        )

    async def _prompts(self, prompt: Any, n: int) -> list[tuple[int, ...]]:
        several = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
        given = prompt if several else [prompt]
        limits = self.settings
        if len(given) > limits.max_prompts or len(given) * n > limits.max_answers:
            message = f"prompt: at most {limits.max_prompts} prompts and {limits.max_answers} answers in one request"
            raise ApiError(422, message, param="prompt")
        return [await self._ids(one) for one in given]

    async def _ids(self, prompt: str | list[int]) -> tuple[int, ...]:
        if isinstance(prompt, str):
            try:
                prompt.encode()
            except UnicodeEncodeError:
                raise ApiError(422, "prompt: a lone surrogate is not text", param="prompt") from None
            ids = tuple(await asyncio.to_thread(self.engine.tokenizer.encode, prompt))
        else:
            ids = tuple(prompt)
        if not ids:
            raise ApiError(422, "prompt: must hold at least one token", param="prompt")
        top = self.engine.info.vocabulary - 1
        if wrong := next((token for token in ids if token > top), None):
            raise ApiError(422, f"prompt: token id {wrong} is outside the vocabulary (0 to {top})", param="prompt")
        return ids

    async def run_each(self, plan: Plan) -> AsyncIterator[Finished]:
        """Answers as they finish. Leaving the iteration, by an error or a cancel, cancels what still runs."""
        trees = [MemoTree(self.settings.memo_tree_bytes) for _ in plan.prompts]
        tasks = [
            asyncio.create_task(self._answer(plan, prompt, chain, tree))
            for prompt, tree in enumerate(trees)
            for chain in range(plan.n)
        ]
        try:
            for task in asyncio.as_completed(tasks):
                yield await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def run_all(self, plan: Plan) -> list[Finished]:
        """All answers, in order."""
        return sorted([done async for done in self.run_each(plan)], key=lambda done: done.index)

    async def _answer(self, plan: Plan, prompt: int, chain: int, tree: MemoTree) -> Finished:
        events: list[Event] = []
        job = Job(
            self.engine,
            plan.prompts[prompt],
            plan.params,
            plan.seeds[prompt],
            chain,
            plan.logprobs,
            emit=events.append if plan.include else None,
            tree=tree,
            seeded=plan.seeded,
        )
        self.in_flight += 1
        try:
            answer = await METHODS[plan.method](job)
        finally:
            self.in_flight -= 1
        report = found = None
        if isinstance(plan.params, PowerParams):
            report = power_report(answer, plan.params.mode, events if "chain" in plan.include else None)
            if plan.wants_diagnostics:
                alpha, longest = plan.params.alpha, plan.params.max_tokens
                found = await asyncio.to_thread(diagnose_chain, events, alpha, longest)
                report["diagnostics"] = plain(found)
        text = answer_text(answer, plan.tokenizer, plan.params.stop)
        return Finished(prompt * plan.n + chain, answer, text, finish_reason(answer), report, found)


def total_usage(finished: list[Finished]) -> PowerUsage:
    """The usage of all answers together."""
    return sum((done.answer.usage for done in finished), PowerUsage())


async def until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """The work's result, or None with the work cancelled if the client leaves first."""
    running = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({running, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return running.result() if running.done() else None
    finally:
        for task in (running, leaving):
            task.cancel()
        await asyncio.gather(running, leaving, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
