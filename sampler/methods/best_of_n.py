"""Best of n: several draws at temperature 1/α, of which the one with the highest mean log p is kept.

With F(s) = Pr(score ≤ s) under q, the score being the mean over the answer's tokens of log p, the answer of n draws
has law q(x | score = s)·(F(s)^n − F(s−)^n) for s = score(x): not p^α, and further from it the larger n is.
"""

import numpy as np

from sampler.answer import Answer, EndedBy
from sampler.methods.job import Job
from sampler.methods.parallel import ParallelDraws, Stopped
from sampler.params import LIMITS, PowerParams
from sampler.rng import EXTEND, Kind
from sampler.trace import Trace

SAMPLES = 8
"""Without `samples` and without a budget."""
CAP = int(LIMITS["samples"][1])
"""Samples at most, whatever the budget: short answers or free tokens could make it endless."""


def worst_case_tokens(params: PowerParams) -> int:
    """Tokens of all draws. Matched to a budget, the draw that crosses it is kept whole."""
    if params.samples is None and params.max_generated_tokens is not None:
        return min(CAP * params.max_tokens, params.max_generated_tokens + params.max_tokens - 1)
    return params.within_budget((params.samples or SAMPLES) * params.max_tokens)


async def best_of_n(job: Job) -> Answer:
    """The best of `samples` draws; of several equally good ones the first.

    With `max_generated_tokens` and no `samples` it is matched to that cost: it draws until the budget is crossed, keeps
    the crossing draw too, and so may go over by one answer. With `samples` the budget is a limit: a draw that does not
    fit is dropped, unless it is the only one.
    """
    drawing = ParallelDraws("best_of_n", job)
    params = drawing.params
    matched = params.samples is None and params.max_generated_tokens is not None
    wanted = CAP if matched else params.samples or SAMPLES
    done: list[Trace] = []
    ended_by = EndedBy.COMPLETED
    try:
        while len(done) < wanted and not (matched and drawing.remaining == 0):
            count, budget = wave(drawing.remaining, params.max_tokens, wanted - len(done), matched=matched)
            if budget == 0:
                raise Stopped(EndedBy.TOKEN_BUDGET, [])
            keys = [job.draws.key(Kind.TOKEN, 0, EXTEND, len(done) + i) for i in range(count)]
            done += await drawing.extend([drawing.start] * count, params.max_tokens, keys, budget=budget)
            drawing.tell(0, 1, best(done))
    except Stopped as stopped:
        ended_by = stopped.ended_by
        done += [trace for trace in stopped.traces if trace.finished or len(trace) == params.max_tokens]
        done = done or stopped.traces[:1]
    return drawing.answer(best(done), ended_by)


def wave(remaining: int | None, longest: int, wanted: int, *, matched: bool) -> tuple[int, int | None]:
    """How many draws to make at once, and the budget of each if it must be kept below its longest.

    No more than are needed whatever their lengths, if matched; else no more than fit.
    """
    if remaining is None:
        return wanted, None
    if matched:
        return min(wanted, -(-remaining // longest)), None
    fit = remaining // longest
    return (min(wanted, fit), None) if fit else (1, remaining)


def best(traces: list[Trace]) -> Trace:
    """The trace of the highest mean log p, of equals the first."""
    return traces[int(np.argmax([score(trace) for trace in traces]))]


def score(trace: Trace) -> float:
    """Mean over the tokens of log p, in nats."""
    return float(trace.log_p.mean()) if len(trace) else -np.inf
