"""From what was asked for to a run: data, servers, models, sandbox and folder, checked before anything is spent."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from evals.batch import BatchRun, Polling
from evals.benchmarks import Benchmark
from evals.client import CallFailed, Client, Patience
from evals.divergence import Probe
from evals.errors import OptionError, ServerUnusable
from evals.grading import Grading
from evals.problem import DataSet, Style
from evals.progress import Bar, bar
from evals.prompts import Template
from evals.records import ANSWERED, Folder
from evals.run import Context, Run
from evals.settings import Arm, Settings, versions


@dataclass(frozen=True, slots=True)
class Plan:
    """A run as asked for. Arms without a model take `model`, or the first that their server lists.

    `keys` maps a server's URL to its API key: a key goes to no other server.
    """

    benchmark: Benchmark
    arms: tuple[Arm, ...]
    reference: str | None
    url: str
    model: str | None
    output: Path
    style: Style | Template = "paper"
    limit: int | None = None
    repeats: int = 1
    seed: int = 0
    max_tokens: int | None = None
    concurrency: int = 8
    logprobs: bool = True
    max_stops: int | None = None
    batch: bool = False
    unsafe: bool = False
    data: Path | None = None
    keys: Mapping[str, str] = field(default_factory=dict[str, str])
    probe: Probe | None = None
    patience: Patience = field(default_factory=Patience)
    polling: Polling = field(default_factory=Polling)


async def carry_out(plan: Plan, console: Console) -> int:
    """Run what is asked for to its end, or to the first thing that stops it; how many calls failed."""
    data = plan.benchmark.load(plan.data)
    if plan.limit is not None:
        data = replace(data, problems=data.problems[: plan.limit])
    async with AsyncExitStack() as stack:
        grading = await stack.enter_async_context(Grading(unsafe=plan.unsafe, concurrency=max(2, os.cpu_count() or 2)))
        await grading.prepare(runs_code=plan.benchmark.runs_code)
        clients = await stack.enter_async_context(connected(plan))
        arms = [await with_model(arm, plan, clients) for arm in plan.arms]
        settings = settings_of(plan, data, arms, grading)
        folder = stack.enter_context(Folder(plan.output, settings))
        total = len(data.problems) * plan.repeats * len(arms)
        shown = stack.enter_context(bar(total, folder.done.items(), console))
        said = {url: versions(await client.version()) for url, client in clients.items()}
        servers = {arm.name: (clients[arm.url or plan.url], said[arm.url or plan.url]) for arm in arms}
        context = Context(settings, plan.benchmark, data.problems, plan.style, folder, grading, servers, shown.record)
        await work(plan, context, shown)
        return sum(record["status"] != ANSWERED for record in folder.done.values())


async def work(plan: Plan, context: Context, shown: Bar) -> None:
    """The kind of run that was asked for."""
    if plan.probe is not None:
        from evals.probing import Probing  # its statistics take a second to import

        await Probing(context, plan.probe, plan.concurrency)()
    elif plan.batch:
        await BatchRun(context, plan.polling, shown.note)()
    else:
        await Run(context, plan.concurrency)()


@asynccontextmanager
async def connected(plan: Plan) -> AsyncIterator[dict[str, Client]]:
    """A client for each server."""
    async with AsyncExitStack() as stack:
        clients: dict[str, Client] = {}
        for url in dict.fromkeys(arm.url or plan.url for arm in plan.arms):
            clients[url] = await stack.enter_async_context(Client(url, plan.keys.get(url), plan.patience))
        yield clients


async def with_model(arm: Arm, plan: Plan, clients: Mapping[str, Client]) -> Arm:
    """The arm with the model that it will ask for, known to its server if the server lists any."""
    url = arm.url or plan.url
    try:
        listed = await clients[url].models()
    except CallFailed as failed:
        if failed.status not in {404, 405}:
            raise ServerUnusable(f"the server at {url} cannot be used: {failed.message}") from None
        listed = []
    wanted = arm.model or (plan.model if url == plan.url and plan.model else "") or (listed[0] if listed else "")
    if not wanted:
        raise OptionError(f"--model: the server at {url} lists no models; say which one to ask for")
    if listed and wanted not in listed:
        raise OptionError(f"--model: the server at {url} has no {wanted!r}; it lists {', '.join(listed[:8])}")
    return replace(arm, model=wanted)


def settings_of(plan: Plan, data: DataSet, arms: Sequence[Arm], grading: Grading) -> Settings:
    """What the run's answers depend on."""
    described: dict[str, Any] = grading.describe()
    return Settings(
        benchmark=data.benchmark,
        data_sha256=data.sha256,
        data_source=data.source,
        data_revision=data.revision,
        arms=tuple(arms),
        reference=plan.reference,
        problems=len(data.problems),
        repeats=plan.repeats,
        seed=plan.seed,
        max_tokens=plan.max_tokens or plan.benchmark.defaults.max_tokens,
        prompt_style="template" if isinstance(plan.style, Template) else plan.style,
        template_sha256=plan.style.sha256 if isinstance(plan.style, Template) else None,
        logprobs=plan.logprobs,
        max_stops=plan.max_stops,
        grading=described,
        probe=asdict(plan.probe) if plan.probe is not None else None,
    )
