"""Many traces drawn at once for one answer: samples, particles, candidates and their rollouts.

Each draw is a coroutine of its own on the engine, which batches them and shares what they have in common by their
ids. They have one deadline, one account of tokens, and one memo tree with the other answers of the prompt.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from sampler.answer import Answer, EndedBy, PowerUsage
from sampler.chain import Chain, ChainTask
from sampler.cuts import cut_law
from sampler.engine import check_context
from sampler.errors import InvalidParams
from sampler.events import Extended
from sampler.methods.job import Job
from sampler.params import PowerParams
from sampler.rng import DrawKey
from sampler.row import Floats
from sampler.trace import Trace, empty_trace
from sampler.tree import MemoTree

T = TypeVar("T")


class Stopped(Exception):
    """A clock or a token budget ended the drawing; `traces` are as far as they came."""

    def __init__(self, ended_by: EndedBy, traces: list[Trace]) -> None:
        self.ended_by, self.traces = ended_by, traces


class ParallelDraws:
    """What one answer's draws share."""

    def __init__(self, method: str, job: Job) -> None:
        if not isinstance(job.params, PowerParams):
            raise InvalidParams("method", f"{method} takes PowerParams")
        check_context(len(job.prompt_ids), job.params.max_tokens, job.engine.info)
        self.method, self.job, self.params = method, job, job.params
        self.usage = PowerUsage()
        seconds = self.params.deadline_s
        self._deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        self._own_draws = job.engine.info.draws == "own"
        # Draws at once fill the tree in the order in which they end, and where the engine draws by itself, what it is
        # asked for depends on what the tree holds: a replay must do without.
        shared = self.params.memo_tree and not (self._own_draws and job.seeded)
        self._tree = job.tree or MemoTree() if shared else None

    @property
    def start(self) -> Trace:
        """The trace before any token."""
        return empty_trace(rows=bool(self.job.logprobs))

    @property
    def remaining(self) -> int | None:
        """Tokens left of the budget, None without one."""
        budget = self.params.max_generated_tokens
        return None if budget is None else max(0, budget - self.usage.generated_tokens)

    async def extend(
        self,
        traces: Sequence[Trace],
        horizon: int,
        keys: Sequence[DrawKey],
        *,
        alpha: float | None = None,
        budget: int | None = None,
    ) -> list[Trace]:
        """Draw each unfinished trace on to the horizon by q, all at once; raises `Stopped`.

        `alpha` draws at another exponent than the job's, and then without the tree, which belongs to one. `budget` is
        in tokens, for each trace; without one the caller sees to it that the draws fit the whole budget.
        """
        alpha = self.params.alpha if alpha is None else alpha
        params = replace(self.params, alpha=alpha, max_generated_tokens=budget)
        task = ChainTask(
            self.job.prompt_ids,
            params,
            cut_law("uniform", 0.0),
            self.job.draws,
            self.job.affinity,
            self.job.priority,
            keep_rows=bool(self.job.logprobs),
            head=self.job.logprobs or 0,
            tree=self._tree if alpha == self.params.alpha else None,
        )
        drawn = await together([self._draw(task, *each, horizon) for each in zip(traces, keys, strict=True)])
        extended = [trace for trace, _ in drawn]
        for _, spent in drawn:
            if spent is not None:
                raise Stopped(spent, extended)
        return extended

    async def _draw(self, task: ChainTask, trace: Trace, key: DrawKey, horizon: int) -> tuple[Trace, EndedBy | None]:
        chain = Chain(self.job.engine, task)
        chain.trace, chain.deadline = trace, self._deadline
        try:
            spent = await chain.draw_on(horizon, key)
        finally:
            self.usage += chain.usage
        return chain.trace, spent

    def tell(self, stage: int, stages: int, trace: Trace) -> None:
        """Report that a stage is done; `trace` stands for what there is."""
        if self.job.emit is not None:
            chain, drawn = self.job.chain, self.usage.generated_tokens
            self.job.emit(Extended(chain, stage + 1, stages, trace.ids, trace.finished, drawn))

    def answer(
        self,
        trace: Trace,
        ended_by: EndedBy = EndedBy.COMPLETED,
        stage: int = 1,
        stages: int = 1,
        log_evidence: float | None = None,
    ) -> Answer:
        """The answer, with what it cost."""
        job = self.job
        return Answer(
            self.method,
            job.chain,
            job.seed,
            trace,
            ended_by,
            stage,
            stages,
            0,
            self.usage,
            seeded_replay=job.seeded or not self._own_draws,
            log_evidence=log_evidence,
        )


async def together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, in order. The first failure, or a cancel, cancels the others and waits for their end."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def pick(weights: Floats, u: float) -> int:
    """The index that u ∈ (0, 1] picks with probability ∝ `weights` ≥ 0, shape [n]."""
    mass: Floats = np.cumsum(weights)
    total = float(mass[-1])
    return int(np.searchsorted(mass, u * total, side="left"))
