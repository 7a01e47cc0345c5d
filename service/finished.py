"""One answer on its way out: its text, how it ended, and the reports that were asked for."""

import asyncio
from dataclasses import dataclass
from typing import Any

from sampler.answer import Answer, EndedBy, PowerUsage
from sampler.diagnostics import ChainDiagnostics, diagnose_chain
from sampler.events import Event
from sampler.params import PowerParams
from sampler.trace import empty_trace
from service.logprobs import Scored
from service.plan import Plan
from service.render import answer_text, decoded, finish_reason, plain, power_report


@dataclass(frozen=True, slots=True)
class Finished:
    """One answer, ready to be written.

    `rest` is the text that no `Piece` has brought yet, `dropped` counts the events since the last that a stream told.
    """

    index: int
    answer: Answer
    text: str
    finish_reason: str
    power: dict[str, Any] | None
    diagnostics: ChainDiagnostics | None = None
    scored: Scored | None = None
    rest: str = ""
    dropped: int = 0


async def written(plan: Plan, index: int, answer: Answer, events: list[Event], scored: Scored | None) -> Finished:
    """An answer with its text and its reports."""
    report = found = None
    if isinstance(plan.params, PowerParams):
        report = power_report(answer, plan.params.mode, events if "chain" in plan.include else None)
        if plan.wants_diagnostics:
            alpha, longest = plan.params.alpha, plan.params.max_tokens
            found = await asyncio.to_thread(diagnose_chain, events, alpha, longest)
            report["diagnostics"] = plain(found)
    text = await decoded(plan.tokenizer, answer_text, answer, plan.tokenizer, plan.params.stop)
    return Finished(index, answer, text, finish_reason(answer), report, found, scored)


def without_tokens(plan: Plan, index: int, ended_by: EndedBy) -> Answer:
    """The answer of no tokens: only the prompt is scored, or the client's deadline passed before its turn came."""
    prompt, chain = divmod(index, plan.n)
    late = ended_by is EndedBy.DEADLINE
    stages = len(plan.params.horizons) if isinstance(plan.params, PowerParams) else 1
    steps = plan.params.planned_steps if isinstance(plan.params, PowerParams) else 0
    return Answer(
        plan.method,
        chain,
        plan.seeds[prompt],
        empty_trace(rows=bool(plan.logprobs)),
        ended_by,
        stage=0 if late else 1,
        stages=stages,
        steps_planned=steps,
        usage=PowerUsage(),
    )


def total_usage(finished: list[Finished]) -> PowerUsage:
    """The usage of all answers together."""
    return sum((done.answer.usage for done in finished), PowerUsage())
