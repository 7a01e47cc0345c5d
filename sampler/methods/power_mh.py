"""Metropolis–Hastings on the power distribution with a cut law (arXiv 2605.30327; uniform: 2510.14901)."""

from sampler.answer import Answer
from sampler.chain import Chain, ChainTask
from sampler.cuts import cut_law
from sampler.engine import check_context
from sampler.errors import InvalidParams
from sampler.methods.job import Job
from sampler.paper import PaperChain
from sampler.params import PowerParams
from sampler.tree import MemoTree


def worst_case_tokens(params: PowerParams) -> int:
    """Tokens of a chain in either mode: in mode paper, too, no trace or proposal is longer than its stage's horizon.

    Tokens drawn ahead and dropped are not counted: they come out of rows that nobody else wants, and go first.
    """
    return params.within_budget(params.worst_case_tokens)


async def power_mh(job: Job, *, cut: str) -> Answer:
    """The last trace of a chain with cut law `cut`: in exact mode, a draw from p^α in the limit of many steps."""
    mode = getattr(job.params, "mode", "exact")
    return await run_chain(job, f"{cut}_cut", cut, PaperChain if mode == "paper" else Chain)


async def run_chain(job: Job, method: str, cut: str, kind: type[Chain]) -> Answer:
    """The last trace of a chain of some kind."""
    params = job.params
    if not isinstance(params, PowerParams):
        raise InvalidParams("method", f"{method} takes PowerParams")
    check_context(len(job.prompt_ids), params.max_tokens, job.engine.info)
    own_draws = job.engine.info.draws == "own"
    durable = job.checkpoint is not None or job.resume is not None
    alone = (own_draws and job.seeded) or (durable and params.max_generated_tokens is not None)
    tree = MemoTree() if alone else job.tree or MemoTree()
    task = ChainTask(
        job.prompt_ids,
        params,
        cut_law(cut, params.cut_power),
        job.draws,
        job.affinity,
        job.priority,
        keep_rows=bool(job.logprobs),
        head=job.logprobs or 0,
        tree=tree if params.memo_tree else None,
        tree_per_stage=alone,
        checkpoint=job.checkpoint,
        tell_statistics=job.tell_statistics,
    )
    result = await kind(job.engine, task, job.emit).run(job.resume)
    return Answer(
        method,
        job.chain,
        job.seed,
        result.trace,
        result.ended_by,
        result.stage,
        len(params.horizons),
        params.planned_steps,
        result.usage,
        seeded_replay=job.seeded or not own_draws,
    )
