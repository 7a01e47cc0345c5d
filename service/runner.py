"""One request's life between plan and reply: jobs to answers, and cancelling."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from starlette.requests import Request

from sampler.answer import Answer, EndedBy, PowerUsage
from sampler.diagnostics import ChainDiagnostics, diagnose_chain
from sampler.engine import Engine
from sampler.events import Event
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PowerParams
from sampler.trace import empty_trace
from sampler.tree import MemoTree
from service.logprobs import Scored
from service.plan import Asked, Plan, make_plan
from service.progress import Piece, Progress, Told
from service.render import answer_text, finish_reason, plain, power_report
from service.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finished:
    """One answer, ready to be written. `rest` is the text that no `Piece` has brought yet."""

    index: int
    answer: Answer
    text: str
    finish_reason: str
    power: dict[str, Any] | None
    diagnostics: ChainDiagnostics | None = None
    scored: Scored | None = None
    rest: str = ""


class Runner:
    """Turns requests into answers on one engine."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self.settings = engine, settings
        self.in_flight = 0

    async def plan(self, asked: Asked) -> Plan:
        """Check a request against the model and the limits; raises what the caller should hear."""
        return await make_plan(asked, self.engine, self.settings)

    async def follow(self, plan: Plan) -> AsyncGenerator[Finished | Piece | Told, None]:
        """Answers as they finish, and before what they tell on the way.

        Leaving the iteration, by an error or a cancel, cancels what still runs.
        """
        progress = Progress(plan)
        trees = [MemoTree(self.settings.memo_tree_bytes) for _ in plan.prompts]
        scores = [asyncio.create_task(self._score(plan, prompt)) for prompt in range(len(plan.prompts))]
        tasks = [
            asyncio.create_task(self._answer(plan, prompt, chain, tree, scores[prompt], progress))
            for prompt, tree in enumerate(trees)
            for chain in range(plan.n)
        ]
        try:
            async for update in progress.updates(tasks):
                if isinstance(update, Finished):
                    yield replace(update, rest=progress.rest(update.index, update.text))
                else:
                    yield update
        finally:
            for task in (*tasks, *scores):
                task.cancel()
            await asyncio.gather(*tasks, *scores, return_exceptions=True)

    async def run_each(self, plan: Plan) -> AsyncGenerator[Finished, None]:
        """Answers as they finish."""
        async with aclosing(self.follow(plan)) as updates:
            async for update in updates:
                if isinstance(update, Finished):
                    yield update

    async def run_all(self, plan: Plan) -> list[Finished]:
        """All answers, in order."""
        return sorted([done async for done in self.run_each(plan)], key=lambda done: done.index)

    async def _score(self, plan: Plan, prompt: int) -> Scored | None:
        """The prompt's own log-probabilities, if they are wanted; its first token has none."""
        if not plan.scores_prompts:
            return None
        ids = plan.prompts[prompt]
        if len(ids) < 2:
            return Scored((), ())
        return Scored(*await self.engine.score(ids, 1, plan.logprobs or 0))

    async def _answer(
        self, plan: Plan, prompt: int, chain: int, tree: MemoTree, scores: asyncio.Task[Scored | None], told: Progress
    ) -> Finished:
        index, events = prompt * plan.n + chain, list[Event]()

        def emit(event: Event) -> None:
            if plan.include:
                events.append(event)
            told.tell(index, event)

        job = Job(
            self.engine,
            plan.prompts[prompt],
            plan.params,
            plan.seeds[prompt],
            chain,
            plan.logprobs,
            emit=emit if plan.include or plan.stream_events else None,
            on_tokens=told.listener(index) if plan.is_live else None,
            tree=tree,
            seeded=plan.seeded,
        )
        self.in_flight += 1
        try:
            scored = await asyncio.shield(scores)
            answer = await METHODS[plan.method](job) if plan.draws else no_answer(plan.method, job)
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
        return Finished(index, answer, text, finish_reason(answer), report, found, scored)


def no_answer(method: str, job: Job) -> Answer:
    """The answer of no tokens, where only the prompt is scored."""
    rows = bool(job.logprobs)
    return Answer(
        method,
        job.chain,
        job.seed,
        empty_trace(rows=rows),
        EndedBy.COMPLETED,
        stage=1,
        stages=1,
        steps_planned=0,
        usage=PowerUsage(),
    )


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
