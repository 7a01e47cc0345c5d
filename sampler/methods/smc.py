"""Power-SMC (arXiv 2602.10273): particles drawn by q, weighted at the stages' horizons and resampled.

At horizon h the target is p^α over the traces of that stage, and a particle drawn by q has the weight
p^α / q = exp Σ ℓ_t over its tokens, from ℓ_0 on; a trace that has ended gets no further factor. Where the effective
sample size 1 / Σ w̄² falls below κN, N particles are drawn systematically ∝ w̄ and all weights start again at 1. The
estimate of the evidence Σ_x p(x)^α, the product of the mean weights at the resamplings and at the end, is unbiased for
every N, κ and ramp: a resampling keeps expectations, and whether to resample depends on the past alone. The answer is
drawn ∝ w̄; its law goes to p^α as N grows, with a bias of order 1/N.

With a ramp, stage k has its own exponent α_k, which grows linearly from 1 to α over the first `ramp_tokens` tokens and
is α in the last stage. Its particles are drawn at α_k, and moving from α_{k−1} to α_k multiplies a weight by
p(prefix)^(α_k − α_{k−1}).
"""

import math
from dataclasses import dataclass

import numpy as np

from sampler.answer import Answer, EndedBy
from sampler.methods.job import Job
from sampler.methods.parallel import ParallelDraws, Stopped, pick
from sampler.params import PowerParams
from sampler.rng import EXTEND, Kind
from sampler.row import Floats, Ids, log_sum_exp
from sampler.trace import Trace


@dataclass(slots=True, eq=False)
class Particles:
    """Weighted traces; `log_weights`, shape [particles], since the last resampling, in nats."""

    traces: list[Trace]
    log_weights: Floats
    log_absorbed: float = 0.0
    """log of the evidence's factors from the resamplings so far."""

    @property
    def weights(self) -> Floats:
        """Normalised weights."""
        return np.exp(self.log_weights - log_sum_exp(self.log_weights))

    @property
    def log_evidence(self) -> float:
        """log of the unbiased estimate of Σ_x p(x)^α."""
        return self.log_absorbed + log_mean_exp(self.log_weights)

    @property
    def ess(self) -> float:
        """The effective sample size 1 / Σ w̄², between 1 and N."""
        return 1.0 / float((self.weights**2).sum())


def worst_case_tokens(params: PowerParams) -> int:
    """Tokens of all particles, none of which ends early."""
    return params.within_budget(params.particles * params.max_tokens)


async def smc(job: Job) -> Answer:
    """One particle of one system. A stopped one answers from the horizon it had reached."""
    drawing = ParallelDraws("smc", job)
    particles, stage, ended_by = await run_system(drawing)
    chosen = pick(particles.weights, job.draws.key(Kind.PICK, 0, 0).uniform())
    evidence = particles.log_evidence if ended_by is EndedBy.COMPLETED else None
    return drawing.answer(particles.traces[chosen], ended_by, stage, len(drawing.params.horizons), evidence)


async def run_system(drawing: ParallelDraws) -> tuple[Particles, int, EndedBy]:
    """The weighted particles, the stages begun, and why it ended."""
    params, draws, horizons = drawing.params, drawing.job.draws, drawing.params.horizons
    alphas = ramp(params)
    particles = start(drawing)
    stage = 0
    try:
        for stage in range(len(horizons)):
            if stage and particles.ess < params.ess_threshold * len(particles.traces):
                u = draws.key(Kind.RESAMPLE, stage, 0).uniform()
                particles = resampled(particles, systematic(particles.weights, u))
            particles.log_weights = particles.log_weights + tempered(particles.traces, alphas, stage)
            await grow(drawing, particles, stage, alphas[stage])
            drawing.tell(stage, len(horizons), particles.traces[int(np.argmax(particles.log_weights))])
    except Stopped as stopped:
        if not any(len(trace) for trace in particles.traces):
            particles.traces = stopped.traces
        return particles, stage + 1, stopped.ended_by
    return particles, len(horizons), EndedBy.COMPLETED


def start(drawing: ParallelDraws) -> Particles:
    """N empty traces; a budget of fewer tokens than particles leaves only as many as it has tokens."""
    count = min(drawing.params.particles, drawing.remaining or drawing.params.particles)
    return Particles([drawing.start] * count, np.zeros(count))


async def grow(drawing: ParallelDraws, particles: Particles, stage: int, alpha: float) -> None:
    """Draw every unfinished particle on to the stage's horizon, and weigh its new tokens.

    A token budget is shared out among them: they stay of one length, so that their weights can be compared.
    """
    horizon = drawing.params.horizons[stage]
    keys = [drawing.job.draws.key(Kind.TOKEN, stage, EXTEND, i) for i in range(len(particles.traces))]
    while active := [trace for trace in particles.traces if not trace.finished and len(trace) < horizon]:
        reach = horizon
        if drawing.remaining is not None:
            reach = min(horizon, len(active[0]) + drawing.remaining // len(active))
            if reach == len(active[0]):
                raise Stopped(EndedBy.TOKEN_BUDGET, particles.traces)
        before = particles.traces
        particles.traces = await drawing.extend(before, reach, keys, alpha=alpha)
        gained = [log_weight(new, len(old)) for old, new in zip(before, particles.traces, strict=True)]
        particles.log_weights = particles.log_weights + np.array(gained)


def log_weight(trace: Trace, since: int) -> float:
    """log p^α / q of the tokens from position `since` on: Σ ℓ_t, nothing if there are none."""
    return float(trace.log_z[since:].sum())


def tempered(traces: list[Trace], alphas: list[float], stage: int) -> Floats:
    """What a change of the exponent does to the weights, shape [particles]: (α_k − α_{k−1}) Σ log p."""
    rise = alphas[stage] - alphas[stage - 1] if stage else 0.0
    return np.array([rise * float(trace.log_p.sum()) if rise else 0.0 for trace in traces])


def resampled(particles: Particles, ancestors: Ids) -> Particles:
    """Copies of the ancestors, whose weights start again."""
    traces = [particles.traces[int(i)] for i in ancestors]
    return Particles(traces, np.zeros(len(traces)), particles.log_evidence)


def systematic(weights: Floats, u: float) -> Ids:
    """Systematic resampling: the ancestor at each of the n positions (i + u) / n on the cumulated weights."""
    mass: Floats = np.cumsum(weights)
    positions: Floats = (np.arange(len(weights)) + u) / len(weights) * mass[-1]
    return np.minimum(np.searchsorted(mass, positions, side="left"), len(weights) - 1)


def ramp(params: PowerParams) -> list[float]:
    """α_k of each stage."""
    grown = [min(1.0, horizon / params.ramp_tokens) if params.ramp_tokens else 1.0 for horizon in params.horizons]
    return [1.0 + (params.alpha - 1.0) * share if share < 1.0 else params.alpha for share in [*grown[:-1], 1.0]]


def log_mean_exp(values: Floats) -> float:
    """log of the mean of exp(values), shape [n]."""
    return log_sum_exp(values) - math.log(len(values))
