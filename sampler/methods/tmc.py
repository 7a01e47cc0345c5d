"""Scalable power sampling by candidates and rollouts (arXiv 2601.21590; `tmc` in arXiv 2605.30327).

The power distribution's law of the next block b after a prefix s is ∝ p(b|s)^α ζ(sb), where ζ(sb) = Σ_f p(f|sb)^α
runs over the futures f up to the last horizon; it is 1 for a block that ends the answer. Each stage draws C candidates
from q, and R rollouts from q of each, with ζ̂ = mean_r exp Σ ℓ_t over rollout r, which is unbiased for ζ. Since
candidates come from q, each is weighted by

    p(b|s)^α ζ̂(sb) / q(b|s) = exp(Σ_{t in b} ℓ_t) · ζ̂(sb);

without the divide the answer would go to p^α·q. As ζ̂ is unbiased and independent of the other candidates, the block
picked has the right law as C grows, for every R; at fixed C a bias of order 1/C is left, whatever R. The jackknife over
rollouts removes the 1/R part that dividing by the sum of noisy weights adds; it can make a share negative, which is
clipped at 0.

`rollout_tokens` cuts rollouts short, as the papers do (to one block). Then ζ̂ is blind to what comes later and the limit
is no longer p^α, for less cost.
"""

import numpy as np

from sampler.answer import Answer, EndedBy
from sampler.methods.job import Job
from sampler.methods.parallel import ParallelDraws, Stopped, pick
from sampler.params import PowerParams
from sampler.rng import EXTEND, Kind
from sampler.row import Floats, log_sum_exp
from sampler.trace import Trace


def worst_case_tokens(params: PowerParams) -> int:
    """Tokens of all candidates and all their rollouts, none of which ends early."""
    blocks = params.max_tokens * params.candidates
    rolled = sum(reach(params, horizon) - horizon for horizon in params.horizons)
    return params.within_budget(blocks + params.candidates * params.rollouts * rolled)


async def tmc(job: Job) -> Answer:
    """One answer, block by block. A stopped one keeps the blocks it has, before the first one draw from q."""
    drawing = ParallelDraws("tmc", job)
    horizons = drawing.params.horizons
    trace, stage = drawing.start, 0
    try:
        for stage in range(len(horizons)):
            if trace.finished:
                break
            trace = await next_block(drawing, trace, stage)
            drawing.tell(stage, len(horizons), trace)
    except Stopped as stopped:
        return drawing.answer(trace if len(trace) else stopped.traces[0], stopped.ended_by, stage + 1, len(horizons))
    return drawing.answer(trace, EndedBy.COMPLETED, len(horizons), len(horizons))


async def next_block(drawing: ParallelDraws, trace: Trace, stage: int) -> Trace:
    """The trace with a block picked from the candidates of one stage."""
    params, draws = drawing.params, drawing.job.draws
    horizon, since = params.horizons[stage], len(trace)
    await reserve(drawing, trace, stage)
    keys = [draws.key(Kind.TOKEN, stage, EXTEND, i) for i in range(params.candidates)]
    candidates = await drawing.extend([trace] * len(keys), horizon, keys)
    blocks = np.array([log_weight(candidate, since) for candidate in candidates])
    futures = await roll_out(drawing, candidates, stage)
    shares = jackknife(blocks, futures)
    return candidates[pick(shares, draws.key(Kind.PICK, stage, 0).uniform())]


async def roll_out(drawing: ParallelDraws, candidates: list[Trace], stage: int) -> Floats:
    """log p^α / q of each candidate's rollouts, shape [candidates, rollouts]; 0 where there is no future."""
    params, draws = drawing.params, drawing.job.draws
    end, count = reach(params, params.horizons[stage]), params.rollouts
    starts = [candidate for candidate in candidates for _ in range(count)]
    keys = [draws.key(Kind.TOKEN, stage, i // count, i % count) for i in range(len(starts))]
    rolled = await drawing.extend(starts, end, keys)
    weights = [log_weight(new, len(old)) for old, new in zip(starts, rolled, strict=True)]
    return np.array(weights).reshape(len(candidates), count)


def reach(params: PowerParams, horizon: int) -> int:
    """Where the rollouts of the stage with this horizon end."""
    longest = params.max_tokens if params.rollout_tokens is None else params.rollout_tokens
    return min(params.max_tokens, horizon + longest)


async def reserve(drawing: ParallelDraws, trace: Trace, stage: int) -> None:
    """Stop before a stage that may not fit into the token budget; before the first, spend it on one draw from q."""
    params, horizon = drawing.params, drawing.params.horizons[stage]
    rolled = params.rollouts * (reach(params, horizon) - horizon)
    if drawing.remaining is None or params.candidates * (horizon - len(trace) + rolled) <= drawing.remaining:
        return
    if not len(trace):
        key = drawing.job.draws.key(Kind.TOKEN, stage, EXTEND)
        (trace,) = await drawing.extend([trace], params.max_tokens, [key], budget=drawing.remaining)
    raise Stopped(EndedBy.TOKEN_BUDGET, [trace])


def log_weight(trace: Trace, since: int) -> float:
    """log p^α / q of the tokens from position `since` on: Σ ℓ_t."""
    return float(trace.log_z[since:].sum())


def jackknife(log_blocks: Floats, log_futures: Floats) -> Floats:
    """The candidates' shares, shape [candidates]: R·P̂ − (R−1)/R Σ_s P̂_{−s}, clipped at 0.

    P̂ ∝ exp(log_blocks)·ζ̂, shape [candidates], with ζ̂ the mean of exp(log_futures) over all of the R rollouts, shape
    [candidates, R], and P̂_{−s} without rollout s. A single rollout gives P̂ itself.
    """
    count = log_futures.shape[1]
    plain = shares(log_blocks, log_futures)
    if count == 1:
        return plain
    left_out = [shares(log_blocks, np.delete(log_futures, s, axis=1)) for s in range(count)]
    corrected = count * plain - (count - 1) / count * np.sum(left_out, axis=0)
    clipped = np.maximum(corrected, 0.0)
    return clipped / clipped.sum()


def shares(log_blocks: Floats, log_futures: Floats) -> Floats:
    """Normalised exp(log_blocks)·ζ̂, shape [candidates]."""
    log_sums = np.array([log_sum_exp(row) for row in log_futures])
    total = log_blocks + log_sums
    return np.exp(total - log_sum_exp(total))
