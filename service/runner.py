"""One request's life between plan and reply: its turn, jobs to answers, deadlines, and cancelling."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from starlette.requests import Request

from sampler.answer import Answer, EndedBy, PowerUsage
from sampler.diagnostics import ChainDiagnostics, diagnose_chain
from sampler.engine import Engine
from sampler.events import Event
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import LIMITS, PowerParams
from sampler.trace import empty_trace
from sampler.tree import MemoTree
from service.call import Call, call_of
from service.house import House
from service.patience import GRACE_S, Patience, timed_out
from service.plan import Asked, Plan, make_plan
from service.render import answer_text, finish_reason, plain, power_report
from service.settings import Settings

T = TypeVar("T")

STOPPING_S = 5.0
"""Seconds that cancelled work gets to end before nobody waits for it any more."""


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
    """Turns requests into answers on one engine. `serving` gives the runner of one request."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.house = House(engine, settings)
        self._call: Call | None = None

    def serving(self, call: Call) -> "Runner":
        """This runner for one request: its key, its priority, its time."""
        runner = object.__new__(Runner)
        runner.house, runner._call = self.house, call
        return runner

    @property
    def engine(self) -> Engine:
        """The engine, its calls counted."""
        return self.house.engine

    @property
    def settings(self) -> Settings:
        """The application's."""
        return self.house.settings

    @property
    def in_flight(self) -> int:
        """Answers that run now."""
        return self.house.in_flight

    async def plan(self, asked: Asked) -> Plan:
        """Check a request against the model and the limits; raises what the caller should hear.

        The plan holds a place, which `run_each` gives back.
        """
        return await make_plan(asked, self.engine, self.settings, self.house.admission, self._call or Call())

    async def run_each(self, plan: Plan) -> AsyncIterator[Finished]:
        """Answers as they finish. Leaving the iteration, by an error or a cancel, cancels what still runs."""
        patience = Patience(plan.call, plan.params.deadline_s if isinstance(plan.params, PowerParams) else None)
        plan.call.progress.answers = len(plan.prompts) * plan.n
        tasks: list[asyncio.Task[Finished]] = []
        try:
            if not await self._turn(plan, patience):
                for index in range(plan.call.progress.answers):
                    yield await written(plan, index, nothing_drawn(plan, index), [])
                return
            ready = asyncio.Queue[asyncio.Task[Finished]]()
            tasks += self._start(plan, patience, ready)
            for _ in tasks:
                task = await patience.wait(ready.get())
                plan.call.progress.finished += 1
                yield task.result()
        finally:
            await end_all(tasks)
            plan.ticket.release()

    async def run_all(self, plan: Plan) -> list[Finished]:
        """All answers, in order."""
        return sorted([done async for done in self.run_each(plan)], key=lambda done: done.index)

    async def _turn(self, plan: Plan, patience: Patience) -> bool:
        """Wait for the request's turn; false if the client's own deadline passed before."""
        try:
            await patience.wait(plan.ticket.granted(), patience.soft)
        except TimeoutError:
            return False
        waited_s = plan.call.progress.waited_s = plan.call.elapsed_s
        self.house.telemetry.waited(waited_s)
        self.house.telemetry.prompted(sum(map(len, plan.prompts)))
        return True

    def _start(
        self, plan: Plan, patience: Patience, ready: "asyncio.Queue[asyncio.Task[Finished]]"
    ) -> list["asyncio.Task[Finished]"]:
        """Start all answers. The last to end gives the place back, though its reader be slow."""
        if (left_s := patience.soft_left_s) is not None and isinstance(plan.params, PowerParams):
            plan = replace(plan, params=replace(plan.params, deadline_s=max(LIMITS["deadline_s"][0], left_s)))
        trees = [MemoTree(self.settings.memo_tree_bytes) for _ in plan.prompts]
        left = plan.call.progress.answers

        def end(task: "asyncio.Task[Finished]") -> None:
            nonlocal left
            left -= 1
            if not left:
                plan.ticket.release()
            ready.put_nowait(task)

        tasks = [
            asyncio.create_task(self._answer(plan, prompt, chain, tree))
            for prompt, tree in enumerate(trees)
            for chain in range(plan.n)
        ]
        for task in tasks:
            task.add_done_callback(end)
        return tasks

    async def _answer(self, plan: Plan, prompt: int, chain: int, tree: MemoTree) -> Finished:
        events: list[Event] = []
        job = self._job(plan, prompt, chain, tree, events)
        drawn = job.resume.usage["generated_tokens"] if job.resume is not None else 0
        follow = self.house.telemetry.follow(plan.method, drawn)

        def emit(event: Event) -> None:
            nonlocal drawn
            new = follow(event)
            drawn += new
            plan.call.progress.see(event, new)
            if plan.include:
                events.append(event)

        self.house.in_flight += 1
        try:
            answer = await METHODS[plan.method](replace(job, emit=emit))
        finally:
            self.house.in_flight -= 1
        self.house.telemetry.finished(plan.method, answer, finish_reason(answer), drawn)
        return await written(plan, prompt * plan.n + chain, answer, events)

    def _job(self, plan: Plan, prompt: int, chain: int, tree: MemoTree, events: list[Event]) -> Job:
        """What one answer is asked of. `events` is the list that its chain's events will go to."""
        return Job(
            self.engine,
            plan.prompts[prompt],
            plan.params,
            plan.seeds[prompt],
            chain,
            plan.logprobs,
            priority=plan.call.priority,
            tree=tree,
            seeded=plan.seeded,
        )


async def written(plan: Plan, index: int, answer: Answer, events: list[Event]) -> Finished:
    """An answer with its text and its reports."""
    report = found = None
    if isinstance(plan.params, PowerParams):
        report = power_report(answer, plan.params.mode, events if "chain" in plan.include else None)
        if plan.wants_diagnostics:
            alpha, longest = plan.params.alpha, plan.params.max_tokens
            found = await asyncio.to_thread(diagnose_chain, events, alpha, longest)
            report["diagnostics"] = plain(found)
    text = answer_text(answer, plan.tokenizer, plan.params.stop)
    return Finished(index, answer, text, finish_reason(answer), report, found)


def nothing_drawn(plan: Plan, index: int) -> Answer:
    """The answer of a chain whose deadline passed before its turn came."""
    assert isinstance(plan.params, PowerParams)
    prompt, chain = divmod(index, plan.n)
    trace = empty_trace(rows=bool(plan.logprobs))
    stages, steps = len(plan.params.horizons), plan.params.planned_steps
    return Answer(plan.method, chain, plan.seeds[prompt], trace, EndedBy.DEADLINE, 0, stages, steps, PowerUsage())


async def end_all(tasks: Sequence["asyncio.Future[Any]"]) -> None:
    """Cancel what still runs and wait until it is gone, but not for ever."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait({asyncio.gather(*tasks, return_exceptions=True)}, timeout=STOPPING_S)


def total_usage(finished: list[Finished]) -> PowerUsage:
    """The usage of all answers together."""
    return sum((done.answer.usage for done in finished), PowerUsage())


def runner_of(request: Request) -> Runner:
    """The application's runner for one request."""
    return request.app.state.runner.serving(call_of(request))


async def until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """The work's result, or None with the work cancelled if the client leaves first.

    Raises 504 if the work has missed its own deadline by far, whatever it was busy with.
    """
    call = call_of(request)
    left_s = None if call.timeout_s is None else call.timeout_s + 2 * GRACE_S - call.elapsed_s
    running = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        done, _ = await asyncio.wait({running, leaving}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise timed_out(call, call.timeout_s or 0.0)
        return running.result() if running.done() else None
    finally:
        await end_all([running, leaving])


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
