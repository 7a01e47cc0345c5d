"""From answers to what people read: text, token lists, reports of what a chain did and cost."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, ParamSpec, TypeVar

from sampler.answer import Answer, PowerUsage
from sampler.diagnostics import ChainDiagnostics, diagnose_chains
from sampler.events import Event, Stepped
from sampler.methods import METHODS
from sampler.stops import trim_at_stop
from sampler.tokenizer import Tokenizer, bytes_to_text

Given = ParamSpec("Given")
Result = TypeVar("Result")

MEANS_SOMETHING_WITH = {
    "mode": "mode",
    "stage": "blocks",
    "stages": "blocks",
    "steps": "steps_per_block",
    "steps_planned": "steps_per_block",
}
"""Field of a power report → the parameter without which it says nothing of a method."""


async def decoded(
    tokenizer: Tokenizer, decode: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs
) -> Result:
    """What a function that decodes says; off the event loop where that takes whole answers, or asks a server."""
    return decode(*args, **kwargs) if tokenizer.tokens_are_bytes else await asyncio.to_thread(decode, *args, **kwargs)


def answer_text(answer: Answer, tokenizer: Tokenizer, stop: Sequence[str]) -> str:
    """The answer's text: end-of-sequence ids left out, trimmed at the first stop string."""
    return bytes_to_text(trim_at_stop(tokenizer.response_bytes(answer.trace.ids), stop))


def finish_reason(answer: Answer) -> str:
    """OpenAI's word for how the answer ended."""
    return "stop" if answer.trace.finished else "length"


def number(value: float | None) -> float | None:
    """JSON knows no NaN and no infinity: null instead."""
    return value if value is not None and math.isfinite(value) else None


def plain(value: Any) -> Any:
    """Dataclasses, tuples and numbers as JSON has them."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return number(value) if isinstance(value, float) else value


def chains_report(prompt: int, chains: Sequence[tuple[Answer, ChainDiagnostics]]) -> dict[str, Any]:
    """What `power_diagnostics` says of the chains of one prompt."""
    found = diagnose_chains(chains)
    known = "unknown" if found.converged is None else found.converged
    return {"prompt_index": prompt, **plain(found), "converged": known}


def power_report(answer: Answer, mode: str, steps: Sequence[Event] | None = None) -> dict[str, Any]:
    """What `choices[i].power` says of one answer; a method without stages or steps has none to report."""
    report: dict[str, Any] = {
        "method": answer.method,
        "mode": mode,
        "seed": answer.seed,
        "seeded_replay": answer.seeded_replay,
        "chain_index": answer.chain,
        "ended_by": str(answer.ended_by),
        "stage": answer.stage,
        "stages": answer.stages,
        "steps": answer.usage.steps,
        "steps_planned": answer.steps_planned,
        "finished": answer.trace.finished,
        "log_p": number(float(answer.trace.log_p.sum())),
        "token_ids": list(answer.trace.ids),
    }
    for name, parameter in MEANS_SOMETHING_WITH.items():
        if parameter not in METHODS[answer.method].fields:
            del report[name]
    if answer.log_evidence is not None:
        report["log_evidence"] = number(answer.log_evidence)
    if steps is not None:
        report["chain"] = [step_report(event) for event in steps if isinstance(event, Stepped)]
    return report


def step_report(event: Stepped) -> dict[str, Any]:
    """One step as JSON."""
    report: dict[str, Any] = plain(event)
    del report["statistics"]  # told in a stream only
    return report


def usage_report(usage: PowerUsage, completion_tokens: int) -> dict[str, Any]:
    """`usage.power`: every token the engine drew, and the cost as a multiple of one sample."""
    return {
        **asdict(usage),
        "discarded_tokens": max(0, usage.generated_tokens + usage.free_tokens - completion_tokens),
        "cost_ratio": round(usage.generated_tokens / max(1, completion_tokens), 4),
    }
