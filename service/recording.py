"""A run from the shell as the chain explorer's recording: what its page writes down, from the sampler's own events."""

import os
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sampler.answer import Answer, PowerUsage
from sampler.diagnostics import diagnose_chain
from sampler.engine import Engine
from sampler.errors import InvalidParams
from sampler.events import Event
from sampler.methods import METHODS
from sampler.paper import OFF
from sampler.params import PowerParams
from service.api.power import ALPHA_MIN, PowerOptions
from service.render import answer_text, chains_report, finish_reason, power_report, usage_report
from service.telling import event_report, trace_after
from service.ui.saved import page_of

VERSION = 1
"""Of the recording's format; `service/ui/static/explorer/recording.js` describes it."""
NAMED = frozenset({"alpha", "cut_power", "blocks", "steps_per_block", "mode", "top_k", "early_rejection", "tries"})
"""Parameters that a recording names though they be at their defaults, which may change."""
Found = Sequence[tuple[Answer, list[Event]]]


def check_place(path: Path) -> None:
    """Raise `InvalidParams` if no file can be written there, before anything is drawn."""
    folder = path.parent
    if path.is_dir() or not folder.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise InvalidParams("html", f"--html: no file can be written at {path}")


def write_page(path: Path, found: Found, prompt: str, params: PowerParams, engine: Engine) -> None:
    """Write the self-contained page of a run; raises `InvalidParams` if the file cannot be written."""
    try:
        path.write_text(page_of(recording_of(found, prompt, params, engine)), encoding="utf-8")
    except OSError as error:
        raise InvalidParams("html", f"--html: cannot write {path}: {error.strerror}") from None


def recording_of(found: Found, prompt: str, params: PowerParams, engine: Engine) -> dict[str, Any]:
    """The recording of the chains of one prompt, which have their events with statistics."""
    answers = [answer for answer, _ in found]
    told = [_told(events, choice, params, engine) for choice, (_, events) in enumerate(found)]
    request = request_of(prompt, params, engine, answers)
    lane = {
        "method": answers[0].method,
        "request": request,
        "status": "done",
        "error": None,
        "events": [report for reports in told for report in reports],
        "final": _final(found, params, engine),
    }
    created = datetime.now(UTC).isoformat(timespec="seconds")
    head = {"powercut_recording": VERSION, "model": engine.info.model, "created": created}
    return {**head, "request": request, "lanes": [lane]}


def request_of(prompt: str, params: PowerParams, engine: Engine, answers: Sequence[Answer]) -> dict[str, Any]:
    """What one would send to the service for the same run."""
    method = answers[0].method
    power = power_of(method, params)
    return {
        "model": engine.info.model,
        "prompt": prompt,
        "max_tokens": params.max_tokens,
        "n": len(answers),
        "seed": answers[0].seed,
        **({"stop": list(params.stop)} if params.stop else {}),
        # The service takes an exponent below 1 by the temperature only.
        **({"temperature": 1 / power.pop("alpha")} if params.alpha < ALPHA_MIN else {}),
        "power": {"method": method, **power},
    }


def power_of(method: str, params: PowerParams) -> dict[str, Any]:
    """The parameters that the method uses: those that the page names, and all others that are not at their defaults."""
    defaults = PowerOptions.model_fields
    used = {
        field.name: getattr(params, field.name)
        for field in fields(PowerParams)
        if field.name in METHODS[method].fields
        and (field.name in NAMED or getattr(params, field.name) != defaults[field.name].default)
    }
    return {name: value for name, value in used.items() if params.mode != "paper" or name not in OFF}


def _told(events: Sequence[Event], choice: int, params: PowerParams, engine: Engine) -> list[dict[str, Any]]:
    """A chain's events as the page keeps them: without the texts that their tokens make."""
    reports, ids = list[dict[str, Any]](), tuple[int, ...]()
    for event in events:
        ids = trace_after(ids, event)
        report = event_report(event, ids, engine.tokenizer, params.stop, choice)
        reports.append({name: value for name, value in report.items() if name not in {"text", "proposal_text"}})
    return reports


def _final(found: Found, params: PowerParams, engine: Engine) -> dict[str, Any]:
    diagnosed = [(answer, diagnose_chain(events, params.alpha, params.max_tokens)) for answer, events in found]
    completion = sum(len(answer.trace) for answer, _ in found)
    usage = sum((answer.usage for answer, _ in found), PowerUsage())
    return {
        "choices": [
            {
                "index": choice,
                "text": answer_text(answer, engine.tokenizer, params.stop),
                "finish_reason": finish_reason(answer),
                "power": power_report(answer, params.mode),
            }
            for choice, (answer, _) in enumerate(found)
        ],
        "diagnostics": chains_report(0, diagnosed),
        "usage": {
            "completion_tokens": completion,
            "power": usage_report(usage, completion),
        },
    }
