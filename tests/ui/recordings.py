"""Recordings made up for tests: long ones, hostile ones, and how a test opens them."""

import json
import random
from collections.abc import Sequence
from typing import Any

from playwright.sync_api import Page

HOSTILE = [
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "&lt;b&gt; {{7*7}} ${7*7}",
    "\u202eesrever\u202c",
    "שלום עולם",
    "مرحبا",
    "👩‍👩‍👧‍👦🇩🇪",
    "\x00\x07\x1b[31m",
    "\r\n\t",
    "--><!-- ]]> </script></textarea></title>",
    "x" * 200_000,
]
"""Texts that a model may write and a page must only show."""


def lane_of(events: list[dict[str, Any]], tokens: int, blocks: int, steps: int) -> dict[str, Any]:
    """A lane of one chain with these events."""
    power = {"method": "entropy_cut", "alpha": 4, "cut_power": 4, "blocks": blocks, "steps_per_block": steps}
    request = {"model": "made up", "prompt": "Once", "max_tokens": tokens, "n": 1, "seed": 1, "power": power}
    final: dict[str, Any] = {"choices": [], "diagnostics": None, "usage": None}
    return {
        "method": "entropy_cut",
        "request": request,
        "status": "done",
        "error": None,
        "events": events,
        "final": final,
    }


def recording_of(*lanes: dict[str, Any]) -> dict[str, Any]:
    """A recording of these lanes."""
    return {
        "powercut_recording": 1,
        "model": "made up",
        "created": "2026-01-01T00:00:00Z",
        "request": lanes[0]["request"],
        "lanes": [*lanes],
    }


def told(start: int, texts: Sequence[str], rng: random.Random) -> dict[str, Any]:
    """The `tokens` of an event that drew these texts."""
    values = {name: [round(rng.random() * top, 5) for _ in texts] for name, top in TOPS.items()}
    return {"start": start, "text_start": start, "text": [*texts], "names": {"6": "<eos>"}, **values}


TOPS = {"log_p": -3.0, "log_z": -1.0, "entropy": 3.0}
WORDS = (" the", " cut", " of", " a", " chain", ",", " is", " where", " it", " jumps", ".", " power")


def long_recording(tokens: int = 3072, blocks: int = 16, steps: int = 10) -> dict[str, Any]:
    """One chain of many tokens and steps; every other proposal is accepted, and all are whole."""
    rng = random.Random(0)
    events: list[dict[str, Any]] = []
    length = 0
    for stage in range(1, blocks + 1):
        horizon = tokens * stage // blocks
        place = {"choice": 0, "chain": 0, "stage": stage, "stages": blocks, "generated_tokens": len(events)}
        added = rng.choices(WORDS, k=horizon - length)
        events.append(
            {"type": "extended", **place, "ids": [5] * horizon, "finished": False, "tokens": told(length, added, rng)}
        )
        length = horizon
        for step in range(1, steps + 1):
            cut = rng.randrange(length)
            texts = [*rng.choices(WORDS, k=length - cut - 1), ""]  # an end of sequence, which has a name
            accepted = rng.random() < 0.5
            decided = {"accepted": accepted, "moved": accepted, "rejected_early": False, "log_ratio": -1.0}
            terms = {"log_u": -0.5, "power_term": -0.5, "cut_term": -0.5, "log_p": -float(length), "length": length}
            step_of = {"step": step, "cut": cut, "proposal": [6] * len(texts), "tokens": told(cut, texts, rng)}
            events.append({"type": "stepped", **place, **step_of, **decided, **terms})
    return recording_of(lane_of(events, tokens, blocks, steps))


def hostile_recording() -> dict[str, Any]:
    """A chain whose answer, proposal and prompt are hostile texts, each a token."""
    rng = random.Random(0)
    place = {"choice": 0, "chain": 0, "stage": 1, "stages": 1, "generated_tokens": len(HOSTILE)}
    ids = [*range(len(HOSTILE))]
    first = {"type": "extended", **place, "ids": ids, "finished": True, "tokens": told(0, HOSTILE, rng)}
    decided = {"accepted": False, "moved": False, "rejected_early": True, "log_ratio": None, "log_u": -0.5}
    terms = {"power_term": None, "cut_term": None, "log_p": -9.0, "length": len(ids)}
    step = {"type": "stepped", **place, "step": 1, "cut": 0, "proposal": ids, "tokens": told(0, HOSTILE, rng)}
    made = recording_of(lane_of([first, {**step, **decided, **terms}], len(ids), 1, 1))
    made["lanes"][0]["request"]["prompt"] = "".join(HOSTILE[:9])
    return made


def open_recording(page: Page, recording: Any, name: str = "made-up.json") -> None:
    """Choose a file with this recording, or with this text."""
    text = recording if isinstance(recording, str) else json.dumps(recording)
    file: Any = {"name": name, "mimeType": "application/json", "buffer": text.encode()}
    page.locator("#file").set_input_files(file)
