"""One run: ask every answer that is not there yet, grade it, write it down.

Work is a queue of (problem, repeat, arm). Where budgets are equal, the reference arm of a problem goes first and what
it cost is the budget of the others, which then go before the next problem. A killed run loses at most the answers in
flight; asked again, they have the same seeds.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from evals.benchmarks import Benchmark
from evals.client import CallFailed, Client, Reply
from evals.errors import ServerUnusable
from evals.grading import Grading
from evals.problem import Problem, Prompt, Style, Verdict
from evals.prompts import Template
from evals.records import ANSWERED, FAILED, Folder, Key, Record
from evals.settings import Arm, Settings, answer_seed, request_body

FAILURES_IN_A_ROW = 10
"""After so many failed calls without an answer in between the run stops: the server is down or refuses the settings."""
RECORDED = frozenset({"max_tokens", "temperature", "top_p", "power", "logprobs"})
"""Fields of a request that its record repeats as they were sent."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a run works with. `servers` maps an arm's name to its client and the versions that its answers come from."""

    settings: Settings
    benchmark: Benchmark
    problems: Sequence[Problem]
    style: Style | Template
    folder: Folder
    grading: Grading
    servers: Mapping[str, tuple[Client, Mapping[str, Any]]]
    tell: Callable[[Record], None] = field(default=lambda record: None)


class Item(NamedTuple):
    """One answer to be asked; sorts by the problem's place in the work."""

    unit: int
    place: int
    arm: Arm
    problem: Problem
    repeat: int
    budget: int | None

    @property
    def key(self) -> Key:
        """Which answer it is."""
        return Key(self.arm.name, self.problem.id, self.repeat)


def units(context: Context) -> list[tuple[int, Problem, int]]:
    """Every (unit, problem, repeat): all problems once before any is asked again."""
    pairs = [(problem, repeat) for repeat in range(context.settings.repeats) for problem in context.problems]
    return [(unit, problem, repeat) for unit, (problem, repeat) in enumerate(pairs)]


def ready(context: Context, unit: int, problem: Problem, repeat: int) -> list[Item]:
    """The answers of a unit that are wanting and can be asked now: the reference's, or once it is there the others'."""
    settings, folder = context.settings, context.folder
    reference = settings.reference
    budget = None
    arms = settings.arms
    if reference is not None:
        found = folder.answered(Key(reference, problem.id, repeat))
        arms = tuple(arm for arm in arms if (arm.name == reference) is (found is None))
        budget = max(1, found["tokens"]["generated"] or 1) if found is not None else None
    items = [Item(unit, at, arm, problem, repeat, budget if arm.capped else None) for at, arm in enumerate(arms)]
    return [item for item in items if folder.answered(item.key) is None]


@dataclass(frozen=True, slots=True)
class Asked:
    """A call and what came of it. `started` is when its making began, by `time.perf_counter`."""

    item: Item
    prompt: Prompt
    path: str
    body: Mapping[str, Any]
    started: float
    reply: Reply | CallFailed | None = None


class Run:
    """Asks and grades with `concurrency` calls under way at any time."""

    def __init__(self, context: Context, concurrency: int, failures_in_a_row: int = FAILURES_IN_A_ROW) -> None:
        self.context, self.concurrency = context, concurrency
        self._failures_in_a_row, self._failures = failures_in_a_row, 0
        self._queue: asyncio.PriorityQueue[Item] = asyncio.PriorityQueue()
        self._ungraded = asyncio.Semaphore(2 * concurrency)

    async def __call__(self) -> None:
        """Until every answer is there or has failed.

        Raises:
            ServerUnusable: Call after call failed.
        """
        for unit in units(self.context):
            for item in ready(self.context, *unit):
                self._queue.put_nowait(item)
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(self._work(group)) for _ in range(self.concurrency)]
            await self._queue.join()
            for worker in workers:
                worker.cancel()

    async def _work(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._ungraded.acquire()  # before choosing, so that what became ready meanwhile is seen
            item = await self._queue.get()
            asked = await ask(self.context, prepare(self.context, item))
            group.create_task(self._finish(asked))

    async def _finish(self, asked: Asked) -> None:
        """Grade and write while the worker asks on; then the unit's other arms can be asked."""
        await settle(self.context, asked)
        self._count(asked.reply)
        item = asked.item
        if item.arm.name == self.context.settings.reference and isinstance(asked.reply, Reply):
            for follower in ready(self.context, item.unit, item.problem, item.repeat):
                self._queue.put_nowait(follower)
        self._ungraded.release()
        self._queue.task_done()

    def _count(self, reply: Reply | CallFailed | None) -> None:
        if not isinstance(reply, CallFailed):
            self._failures = 0
            return
        self._failures += 1
        if self._failures >= self._failures_in_a_row:
            raise ServerUnusable(f"{self._failures} calls in a row failed, the last with: {reply.message}")


def prepare(context: Context, item: Item) -> Asked:
    """The call for an answer."""
    started = time.perf_counter()
    prompt = context.benchmark.prompt(item.problem, context.style, context.settings.seed + item.repeat)
    path, body = request_body(context.settings, item.arm, prompt, item.problem, item.repeat, item.budget)
    return Asked(item, prompt, path, body, started)


async def ask(context: Context, asked: Asked) -> Asked:
    """Make the call; one that failed has a result too."""
    try:
        reply = await context.servers[asked.item.arm.name][0].answer(asked.path, asked.body)
    except CallFailed as failed:
        return replace(asked, reply=failed)
    return replace(asked, reply=reply)


async def settle(context: Context, asked: Asked) -> None:
    """Grade an answer and write its record, or write the failure."""
    reply = asked.reply
    assert reply is not None, "the call was made"
    if isinstance(reply, CallFailed):
        timings = {"waited_s": round(time.perf_counter() - asked.started, 6)}
        record = head(context, asked) | {"status": FAILED, "failure": reply.report(), "timings": timings}
    else:
        begun = time.perf_counter()
        verdict = await context.benchmark.grade(asked.item.problem, asked.prompt, reply.text, context.grading)
        graded = time.perf_counter()
        outside = (reply.server_s or 0.0) + reply.waited_s + graded - begun
        timings = {
            "server_s": reply.server_s,
            "waited_s": reply.waited_s,
            "grade_s": graded - begun,
            "harness_s": max(0.0, graded - asked.started - outside),
        }
        record = head(context, asked) | answered(reply, verdict, timings)
    await asyncio.to_thread(context.folder.append, record)
    context.tell(record)


def head(context: Context, asked: Asked) -> dict[str, Any]:
    """What every record says of how it came to be, so that each line stands alone."""
    settings, item = context.settings, asked.item
    return {
        **item.key._asdict(),
        "benchmark": settings.benchmark,
        "data_sha256": settings.data_sha256,
        "model": item.arm.model,
        "prompt": {"style": asked.prompt.style, **asked.prompt.record},
        "request": {name: value for name, value in asked.body.items() if name in RECORDED},
        "budget_tokens": item.budget,
        "seed": answer_seed(settings.seed, item.problem.id, item.repeat),
        "settings": context.folder.digest,
        "versions": context.servers[item.arm.name][1],
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def answered(reply: Reply, verdict: Verdict, timings: Mapping[str, float | None]) -> dict[str, Any]:
    """What a record says of a graded answer."""
    return {
        "status": ANSWERED,
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "tokens": {
            "prompt": reply.prompt_tokens,
            "completion": reply.completion_tokens,
            "generated": reply.generated_tokens,
        },
        "log_p": reply.log_p,
        "power": reply.power,
        "chain": reply.chain,
        "verdict": {
            "status": verdict.status,
            "extracted": verdict.extracted,
            "grader": verdict.grader,
            "detail": verdict.detail,
            "others": dict(verdict.others),
        },
        "tries": reply.tries,
        "timings": {name: value if value is None else round(value, 6) for name, value in timings.items()},
    }
