"""What `powercut sample` prints: answers on standard output, what they cost beside them, or one JSON object."""

import json
from typing import Any

import typer
from rich.console import Console

from sampler.answer import Answer, PowerUsage
from sampler.diagnostics import diagnose_chain
from sampler.events import Event
from sampler.methods import METHODS
from sampler.params import PlainParams, PowerParams
from service.render import chains_report, finish_reason, power_report, usage_report


def show(answer: Answer, text: str, params: PowerParams | PlainParams, as_json: bool) -> None:
    """The answer and what it cost; the text alone on standard output, so that it can be piped."""
    usage = usage_report(answer.usage, len(answer.trace))
    if as_json:
        report: dict[str, Any] = {
            "text": text,
            "finish_reason": finish_reason(answer),
            "power": power_report(answer, mode_of(params)),
            "usage": usage,
        }
        typer.echo(json.dumps(report, allow_nan=False))
        return
    typer.echo(text)
    Console(stderr=True).print(summary(answer, usage), style="dim", highlight=False)


def show_all(
    found: list[tuple[Answer, list[Event]]], texts: list[str], params: PowerParams | PlainParams, as_json: bool
) -> None:
    """All answers, what they cost, and whether their chains agree."""
    answers = [answer for answer, _ in found]
    usage = usage_report(sum((each.usage for each in answers), PowerUsage()), sum(len(each.trace) for each in answers))
    report: dict[str, Any] = {
        "choices": [
            {"text": text, "finish_reason": finish_reason(answer), "power": power_report(answer, mode_of(params))}
            for answer, text in zip(answers, texts, strict=True)
        ],
        "usage": usage,
    }
    if isinstance(params, PowerParams) and "include" in METHODS[answers[0].method].fields:
        diagnosed = [(a, diagnose_chain(events, params.alpha, params.max_tokens)) for a, events in found]
        report["power_diagnostics"] = [chains_report(0, diagnosed)]
    if as_json:
        typer.echo(json.dumps(report, allow_nan=False))
        return
    typer.echo("\n\n".join(texts))
    console = Console(stderr=True)
    for answer in answers:
        console.print(summary(answer, usage_report(answer.usage, len(answer.trace))), style="dim", highlight=False)
    for chains in report.get("power_diagnostics", []):
        console.print(agreement(chains), style="dim", highlight=False)


def agreement(chains: dict[str, Any]) -> str:
    """One line: what the chains say of each other."""
    r_hat, ess = (chains["log_pi"][name] for name in ("r_hat", "ess_bulk"))
    known = f"R-hat of log p {r_hat:.3f}, ESS {ess:.0f}; " if r_hat is not None and ess is not None else ""
    distinct = f"{chains['distinct_answers']} distinct answers of {chains['chains']}"
    return f"{distinct}; {known}converged: {str(chains['converged']).lower()} ({chains['reason']})"


def mode_of(params: PowerParams | PlainParams) -> str:
    """What a report says of how exact the answer is."""
    return params.mode if isinstance(params, PowerParams) else "exact"


def summary(answer: Answer, usage: dict[str, Any]) -> str:
    """One line: what the chain did and what it cost."""
    counts: PowerUsage = answer.usage
    log_p = float(answer.trace.log_p.sum())
    decided = f"{counts.steps} steps, {counts.accepted} accepted, {counts.moved} moved"
    steps = f"{decided}, {counts.rejected_early} rejected early; "
    has_steps = "steps_per_block" in METHODS[answer.method].fields
    return (
        f"{answer.method}, seed {answer.seed}: {len(answer.trace)} tokens, log p {log_p:.2f}, {answer.ended_by}; "
        f"{steps if has_steps else ''}"
        f"{counts.generated_tokens} tokens drawn, {usage['cost_ratio']} times one sample"
    )
