"""One request's life between plan and reply: jobs to answers, and cancelling."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request

from sampler.answer import Answer, PowerUsage
from sampler.diagnostics import ChainDiagnostics, diagnose_chain
from sampler.engine import Engine
from sampler.events import Event
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PowerParams
from sampler.tree import MemoTree
from service.plan import Asked, Plan, make_plan
from service.render import answer_text, finish_reason, plain, power_report
from service.settings import Settings

T = TypeVar("T")


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
        return await make_plan(asked, self.engine, self.settings)

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
