"""Low-temperature sampling: q itself, and no correction. What a chain without steps answers."""

from sampler.answer import Answer
from sampler.methods.job import Job
from sampler.methods.parallel import ParallelDraws, Stopped
from sampler.params import PowerParams
from sampler.rng import EXTEND, Kind


def worst_case_tokens(params: PowerParams) -> int:
    """Tokens of one draw."""
    return params.within_budget(params.max_tokens)


async def low_temperature(job: Job) -> Answer:
    """One draw from q, the model at temperature 1/α token by token.

    Its law is q(x) = p(x)^α / exp Σ_t ℓ_t, which is not p^α: it sharpens every token alone, whatever follows. The token
    draws are those of `standard` at temperature 1/α with the same support and seed.
    """
    drawing = ParallelDraws("low_temperature", job)
    key = job.draws.key(Kind.TOKEN, 0, EXTEND)
    params = drawing.params
    try:
        (trace,) = await drawing.extend([drawing.start], params.max_tokens, [key], budget=params.max_generated_tokens)
    except Stopped as stopped:
        return drawing.answer(stopped.traces[0], stopped.ended_by)
    return drawing.answer(trace)
