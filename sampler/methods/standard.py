"""Plain sampling from the base model at a temperature: what a completions endpoint does anyway."""

from collections.abc import Sequence

from sampler.answer import Answer, EndedBy, PowerUsage
from sampler.cuts import cut_law
from sampler.engine import Request, Support, Verdict, check_segment
from sampler.errors import EngineError, InvalidParams
from sampler.methods.job import Job
from sampler.params import PlainParams
from sampler.rng import EXTEND, Kind
from sampler.stops import StopMatcher
from sampler.trace import Token, empty_trace
from sampler.watch import Watcher


def worst_case_tokens(params: PlainParams) -> int:
    """Tokens of one draw."""
    return params.max_tokens


async def standard(job: Job) -> Answer:
    """One draw at `temperature` (0: greedy), cut off at a stop string or at `max_tokens`."""
    params = job.params
    if not isinstance(params, PlainParams):
        raise InvalidParams("method", "standard takes PlainParams")
    engine = job.engine
    start = empty_trace(rows=bool(job.logprobs))
    stops = StopMatcher(params.stop, engine.tokenizer)
    watcher = Watcher(cut_law("uniform", 0.0), start, 0, params.max_tokens, engine.info.eos_ids, stops)

    def watch(tokens: Sequence[Token]) -> Verdict | None:
        before = len(watcher.tokens)
        verdict = watcher(tokens)
        if job.on_tokens is not None and len(watcher.tokens) > before:
            job.on_tokens([token.id for token in watcher.tokens[before:]])
        return verdict

    request = Request(
        ids=job.prompt_ids,
        max_tokens=params.max_tokens,
        alpha=params.alpha,
        support=Support.of(params.top_k, params.top_p),
        key=job.draws.key(Kind.TOKEN, 0, EXTEND),
        position=0,
        eos_ids=engine.info.eos_ids,
        watch=watch,
        affinity=job.affinity,
        priority=job.priority,
        keep_rows=bool(job.logprobs),
        head=job.logprobs or 0,
        plain=True,
    )
    segment = await engine.propose(request)
    check_segment(segment, request, engine.info)
    watch(segment.tokens[len(watcher.tokens) :])
    if watcher.end is None:
        raise EngineError(f"the engine ended a segment after {len(segment.tokens)} tokens for no reason")
    rows = segment.rows[: len(watcher.tokens)] if segment.rows is not None else None
    trace = start.spliced(0, watcher.tokens, watcher.log_weight, watcher.log_norm, watcher.end, rows)
    usage = PowerUsage(generated_tokens=len(segment.tokens))
    return Answer("standard", job.chain, job.seed, trace, EndedBy.COMPLETED, 1, 1, 0, usage)
