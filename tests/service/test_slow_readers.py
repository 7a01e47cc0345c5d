"""A reader of events who is too slow: what is left out is counted for its own chain, and memory is bounded."""

import asyncio
import tracemalloc
from contextlib import aclosing
from typing import Any

import pytest

from sampler.events import Event, Extended, Kept, Stepped
from sampler.params import PowerParams
from service import progress
from service.admission import Admission
from service.api.requests import ChatRequest, CompletionRequest
from service.call import Call
from service.complete import reply_chunks
from service.patience import Patience
from service.plan import Plan
from service.progress import TOKENS_WAITING, Progress, Told
from service.runner import Runner
from service.settings import Settings
from service.telling import trace_after
from tests.service.checks import GOOD
from tests.service.faulty import FaultyEngine
from tests.service.tables import endless_table

POWER: dict[str, Any] = {"alpha": 1, "blocks": 2, "steps_per_block": 6, "stream_events": True}


def progress_of(n: int = 1) -> Progress:
    """What a request of `n` chains tells."""
    engine, call = FaultyEngine(endless_table()), Call()
    ticket = Admission(Settings()).enter("a", 1)
    params, none = PowerParams(4), frozenset[str]()
    plan = Plan(
        "entropy_cut", params, [(0,)], [1], n, None, none, engine.tokenizer, True, call, ticket, stream_events=True
    )
    return Progress(plan, Patience(call, None))


def kept(step: int = 0) -> Kept:
    """A step with nothing to redraw."""
    return Kept(0, 1, 1, step, 0.0, 0, 0)


def moved(cut: int, proposal: tuple[int, ...]) -> Stepped:
    """A step that moved its trace."""
    return Stepped(0, 1, 1, 1, cut, proposal, 0.0, -1.0, True, True, False, -1.0, 10, 1)


async def read(told: Progress) -> list[Told]:
    """All that waits to be read."""
    ended = asyncio.create_task(asyncio.sleep(0))
    await ended
    return [update async for update in told.updates([ended]) if isinstance(update, Told)]


async def test_what_was_dropped_is_told_with_its_own_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVENTS_WAITING", 3)
    told = progress_of(n=2)
    for _ in range(5):
        told.tell(0, kept())
    told.tell(1, kept())
    assert (told.dropped(0), told.dropped(1)) == (2, 1)
    assert [(each.index, each.dropped) for each in await read(told)] == [(0, 0)] * 3
    told.tell(1, kept())
    told.tell(0, kept())
    told.tell(0, kept())
    assert [(each.index, each.dropped) for each in await read(told)] == [(1, 1), (0, 2), (0, 0)]
    assert (told.dropped(0), told.dropped(1)) == (0, 0)


@pytest.mark.parametrize("chat", [False, True], ids=["completions", "chat"])
async def test_what_was_dropped_at_the_end_is_told_with_the_answer(chat: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVENTS_WAITING", 4)
    body = {name: value for name, value in GOOD.items() if name != "prompt"} | {"stream": True, "n": 3, "power": POWER}
    messages = [{"role": "user", "content": "hi"}]
    asked = (
        ChatRequest.model_validate(body | {"messages": messages})
        if chat
        else CompletionRequest.model_validate(body | {"prompt": "hi"})
    )
    runner = Runner(FaultyEngine(endless_table()), Settings()).serving(Call())
    chunks = list[dict[str, Any]]()
    async with aclosing(reply_chunks(runner, asked, await runner.plan(asked))) as stream:
        async for chunk in stream:
            chunks.append(chunk)
            while "power_event" in chunk and runner.in_flight:  # reads no further until the chains have ended
                await asyncio.sleep(0.01)
    events = [chunk["power_event"] for chunk in chunks if "power_event" in chunk]
    ends = [choice for chunk in chunks for choice in chunk["choices"] if "power" in choice]
    assert len(ends) == 3
    for end in ends:
        own = [event for event in events if event["choice"] == end["index"]]
        lost = sum(event.get("dropped", 0) for event in own) + end["power"]["dropped"]
        assert len(own) + lost == 14, "every event is told or counted"
        assert end["power"]["dropped"] > 0


async def test_an_answer_of_which_nothing_was_dropped_does_not_speak_of_it() -> None:
    runner = Runner(FaultyEngine(endless_table()), Settings()).serving(Call())
    asked = CompletionRequest.model_validate(GOOD | {"stream": True, "power": POWER})
    chunks = [chunk async for chunk in reply_chunks(runner, asked, await runner.plan(asked))]
    assert sum("power_event" in chunk for chunk in chunks) == 14
    assert "dropped" not in chunks[-1]["choices"][0]["power"]


async def test_an_event_that_waits_does_not_keep_its_whole_trace() -> None:
    told, length, steps = progress_of(), 1 << 14, 500
    told.tell(0, Extended(0, 1, 1, (0,) * length, False, length))
    tracemalloc.start()
    try:
        for _ in range(steps):
            told.tell(0, moved(length - 1, (1,)))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 8 * length * 10, "some traces of 8 bytes a token, not one for each step"
    assert len(await read(told)) == steps + 1


async def test_ids_count_as_much_as_their_statistics() -> None:
    quarter = (0,) * (TOKENS_WAITING // 4)
    told = progress_of(n=2)
    for _ in range(10):
        told.tell(0, Extended(0, 1, 1, quarter, False, 0))
        told.tell(1, moved(0, quarter))
    assert len(await read(told)) == 4
    assert (told.dropped(0), told.dropped(1)) == (8, 8)
    told.tell(0, kept())
    told.tell(0, kept())
    (after, last) = await read(told)
    assert (len(after.ids), after.dropped) == (len(quarter), 8)
    assert after.ids == last.ids


async def test_each_event_has_the_trace_after_it_whatever_was_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVENTS_WAITING", 5)
    told, seen = progress_of(n=2), 0
    events: list[Event] = [Extended(0, 1, 1, (1, 2, 3), False, 3)]
    events += [moved(step % 4, (step,) * (step % 3 + 1)) if step % 3 else kept(step) for step in range(40)]
    whole: list[list[tuple[int, ...]]] = [[()], [()]]
    for at, event in enumerate(events):
        for index in (0, 1):
            whole[index].append(trace_after(whole[index][-1], event))
            told.tell(index, event)
        if at % 7 == 6:
            for each in await read(told):
                seen += 1
                assert each.ids == whole[each.index][1 + events.index(each.event)]
    assert 20 < seen < 2 * len(events)
