"""One request's life between plan and reply: its turn, jobs to answers, deadlines, and cancelling."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

from starlette.requests import Request

from sampler.answer import EndedBy
from sampler.engine import Engine
from sampler.events import Event
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import LIMITS, PowerParams
from sampler.tree import MemoTree
from service.call import Call, call_of
from service.finished import Finished, without_tokens, written
from service.house import House
from service.logprobs import Scored
from service.patience import GRACE_S, Patience, timed_out
from service.plan import Asked, Plan, make_plan
from service.progress import Piece, Progress, Told
from service.settings import Settings
from service.telling import without_statistics

T = TypeVar("T")

STOPPING_S = 5.0
"""Seconds that cancelled work gets to end before nobody waits for it any more."""


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

        The plan holds a place, which `follow` gives back.
        """
        return await make_plan(asked, self.engine, self.settings, self.house.admission, self._call or Call())

    async def follow(self, plan: Plan) -> AsyncGenerator[Finished | Piece | Told, None]:
        """Answers as they finish, and before what they tell on the way.

        Leaving the iteration, by an error or a cancel, cancels what still runs.
        """
        patience = Patience(plan.call, plan.params.deadline_s if isinstance(plan.params, PowerParams) else None)
        plan.call.reached.answers = len(plan.prompts) * plan.n
        tasks: list[asyncio.Task[Any]] = []
        try:
            if not await self._turn(plan, patience):
                for index in range(plan.call.reached.answers):
                    yield await self._late(plan, index)
                return
            progress = Progress(plan, patience)
            answers = self._start(with_time_left(plan, patience), progress, tasks)
            plan.call.at_end(cancel_at(patience.hard, tasks))  # a reader that has stopped reading is not asked
            async for update in progress.updates(answers):
                yield with_rest(update, progress) if isinstance(update, Finished) else update
        finally:
            await end_all(tasks)
            plan.ticket.release()

    async def run_each(self, plan: Plan) -> AsyncGenerator[Finished, None]:
        """Answers as they finish."""
        async with aclosing(self.follow(plan)) as updates:
            async for update in updates:
                if isinstance(update, Finished):
                    yield update

    async def run_all(self, plan: Plan) -> list[Finished]:
        """All answers, in order."""
        return sorted([done async for done in self.run_each(plan)], key=lambda done: done.index)

    async def _turn(self, plan: Plan, patience: Patience) -> bool:
        """Wait for the request's turn; false if the client's own deadline passed before."""
        try:
            await patience.wait(plan.ticket.granted(), patience.soft)
        except TimeoutError:
            return False
        waited_s = plan.call.reached.waited_s = plan.call.elapsed_s
        self.house.telemetry.waited(waited_s)
        plan.call.reached.prompt_tokens = sum(map(len, plan.prompts))
        self.house.telemetry.prompted(plan.call.reached.prompt_tokens)
        return True

    async def _late(self, plan: Plan, index: int) -> Finished:
        """The answer to a request whose turn came too late: nothing, and it says so."""
        done = await written(plan, index, without_tokens(plan, index, EndedBy.DEADLINE), [], None)
        self.house.telemetry.finished(plan.method, done.answer, done.finish_reason, 0)
        return replace(done, rest=done.text)

    def _start(
        self, plan: Plan, progress: Progress, tasks: list["asyncio.Task[Any]"]
    ) -> list["asyncio.Task[Finished]"]:
        """Start all answers, and put all that was started into `tasks`.

        The last answer to end gives the place back, though its reader be slow.
        """
        trees = [MemoTree(self.settings.memo_tree_bytes) for _ in plan.prompts]
        scores = [asyncio.create_task(self._score(plan, ids)) for ids in plan.prompts if plan.scores_prompts]
        answers = [
            asyncio.create_task(self._answer(plan, prompt, chain, tree, scores[prompt] if scores else None, progress))
            for prompt, tree in enumerate(trees)
            for chain in range(plan.n)
        ]
        tasks += [*answers, *scores]
        when_all_are_done(answers, lambda well: plan.ticket.release(done=well))
        return answers

    async def _score(self, plan: Plan, ids: tuple[int, ...]) -> Scored:
        """A prompt's own log-probabilities; its first token has none."""
        if len(ids) < 2:
            return Scored((), ())
        return Scored(*await self.engine.score(ids, 1, plan.logprobs or 0))

    async def _answer(
        self, plan: Plan, prompt: int, chain: int, tree: MemoTree, scores: asyncio.Task[Scored] | None, told: Progress
    ) -> Finished:
        index, events = prompt * plan.n + chain, list[Event]()
        job = self._job(plan, prompt, chain, tree, events)
        drawn = job.resume.usage["generated_tokens"] if job.resume is not None else 0
        count = self.house.telemetry.follow(plan.method, drawn)

        def emit(event: Event) -> None:
            nonlocal drawn
            new = count(event)
            drawn += new
            plan.call.reached.see(event, new)
            if plan.keeps_events:
                events.append(without_statistics(event))
            told.tell(index, event)

        job = replace(job, emit=emit, on_tokens=told.listener(index) if plan.is_live else None)
        self.house.in_flight += 1
        try:
            scored = await asyncio.shield(scores) if scores is not None else None
            answer = await METHODS[plan.method](job) if plan.draws else without_tokens(plan, index, EndedBy.COMPLETED)
        finally:
            self.house.in_flight -= 1
        done = await written(plan, index, answer, events, scored)
        self.house.telemetry.finished(plan.method, answer, done.finish_reason, drawn)
        plan.call.reached.end(answer, drawn)
        return done

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
            tell_statistics="tokens" in plan.include,
        )


def with_rest(done: Finished, progress: Progress) -> Finished:
    """The answer with what its stream has not brought yet: the rest of its text, and how many events were dropped."""
    return replace(done, rest=progress.rest(done.index, done.text), dropped=progress.dropped(done.index))


def with_time_left(plan: Plan, patience: Patience) -> Plan:
    """The plan with what is left of the client's deadline, which counts from the request's arrival."""
    left_s = patience.soft_left_s
    if left_s is None or not isinstance(plan.params, PowerParams):
        return plan
    return replace(plan, params=replace(plan.params, deadline_s=max(LIMITS["deadline_s"][0], left_s)))


def when_all_are_done(tasks: Sequence["asyncio.Task[Any]"], then: Callable[[bool], None]) -> None:
    """Call `then` once the last task has ended, with whether all ended well: no error, none cancelled."""
    left = len(tasks)

    def end(task: "asyncio.Task[Any]") -> None:
        nonlocal left
        left -= 1
        if not left:
            then(not any(each.cancelled() or each.exception() for each in tasks))

    for task in tasks:
        task.add_done_callback(end)


def cancel_at(time: float | None, tasks: Sequence["asyncio.Task[Any]"]) -> Callable[[], None]:
    """Cancel what still runs at a time of the loop, whoever waits for it; what is returned takes that back."""
    if time is None:
        return lambda: None

    def cancel() -> None:
        for task in tasks:
            task.cancel()

    return asyncio.get_running_loop().call_at(time, cancel).cancel


async def end_all(tasks: Sequence["asyncio.Future[Any]"]) -> None:
    """Cancel what still runs and wait until it is gone, but not for ever."""
    running = [task for task in tasks if task.cancel()]
    if running:
        await asyncio.wait({asyncio.gather(*running, return_exceptions=True)}, timeout=STOPPING_S)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()  # somebody has looked at it, as asyncio wants


def runner_of(request: Request) -> Runner:
    """The application's runner for one request."""
    return request.app.state.runner.serving(call_of(request))


async def until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """The work's result, or None with the work cancelled if the client leaves first.

    Raises 504 if the work has missed its own deadline by far, whatever it was busy with.
    """
    call = call_of(request)
    left_s = None if call.timeout_s is None else call.timeout_s + GRACE_S + STOPPING_S - call.elapsed_s
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
