"""A row's chains between stages as plain data, and back: the states, and the events that its reply reports."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple

from sampler.events import Event, Extended, Kept, Stepped
from sampler.state import ChainState

EVENTS: dict[str, Callable[..., Event]] = {kind.__name__: kind for kind in (Extended, Stepped, Kept)}
LISTS = ("ids", "proposal")
"""Fields of events that JSON turns from tuples into lists."""


class SavedAnswer(NamedTuple):
    """One answer's last finished stage, and its events up to there where the reply reports them."""

    state: ChainState
    events: tuple[Event, ...] = ()


def to_plain(saved: dict[int, SavedAnswer]) -> dict[str, Any]:
    """Answers by their index, in JSON's types."""
    return {
        str(index): {
            "state": asdict(answer.state),
            "events": [[type(event).__name__, asdict(event)] for event in answer.events],
        }
        for index, answer in saved.items()
    }


def from_plain(stored: dict[str, Any]) -> dict[int, SavedAnswer]:
    """What `to_plain` was given."""
    return {
        int(index): SavedAnswer(
            ChainState(**answer["state"]), tuple(_event(name, fields) for name, fields in answer["events"])
        )
        for index, answer in stored.items()
    }


def _event(name: str, fields: dict[str, Any]) -> Event:
    return EVENTS[name](**{key: tuple(value) if key in LISTS else value for key, value in fields.items()})
