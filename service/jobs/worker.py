"""One server process's share of all batches: claims rows, runs them, saves what they reach, and looks after batches.

Four loops. `claim` fills free places with rows by turns. `save` writes results and checkpoints, as many in one
transaction as have gathered meanwhile; a row gives its place back only once its result is safe. `beat` renews the
leases and drops rows that are ours no more: cancelled, late, or taken over. `tend` reads files on and writes results
down. A store that fails is waited out: nothing is lost, rows that are running run on.
"""

import asyncio
import logging
import uuid
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from sampler import errors
from service.errors import describe
from service.jobs.handlers import InvalidBody, RowContext, RowHandlers
from service.jobs.outcome import error_outcome, response_outcome
from service.jobs.rows import Again, Claimed, Key, Outcome, unpack
from service.jobs.saved import SavedAnswer, from_plain, to_plain
from service.jobs.store import Store
from service.jobs.unavailable import StoreUnavailable

log = logging.getLogger("powercut")

TRIES = 3
"""How often a row is run whose engine fails on it, or that fails for no known reason."""
RETRY_S = 1.0
LONGEST_WAIT_S = 10.0
TICK_S = 0.01
"""The loop's clock may call a little early."""
RETRIED = {429, 500, 503}
"""Statuses that may be others the next time. A row that ran into its time limit would do so again."""
GIVEN_UP = {"code": "row_lost", "message": "the servers that ran this request died on it again and again"}
PASSING = (errors.EngineDead, errors.EngineOverloaded, StoreUnavailable)
"""Failures that say nothing of the row."""


class Counts(Protocol):
    """Who counts what becomes of rows."""

    def row(self, event: str) -> None:
        """A row is done, failed or resumed."""
        ...


def _saved_of(row: Claimed) -> dict[int, SavedAnswer]:
    """Where a row was; from the start if another version of powercut has left what this one cannot read."""
    try:
        return from_plain(unpack(row.checkpoint)) if row.checkpoint is not None else {}
    except (ValueError, TypeError, KeyError, AttributeError, zlib.error):
        log.warning("the saved stages of a row cannot be read: it begins again")
        return {}


@dataclass(slots=True)
class Place:
    """A row that runs here."""

    row: Claimed
    context: RowContext
    task: asyncio.Task[None] | None = None
    saved_at: float = 0.0
    unsaved: bool = False


class Worker:
    """Runs rows until it is stopped. `open_for_rows` says whether new ones may begin."""

    def __init__(
        self,
        store: Store,
        handlers: RowHandlers,
        model: str,
        counts: Counts,
        open_for_rows: Callable[[], bool],
    ) -> None:
        self.id = uuid.uuid4().hex
        self._store, self._handlers, self.model = store, handlers, model
        self._counts, self._open = counts, open_for_rows
        self._places: dict[Key, Place] = {}
        self._outcomes: list[Outcome] = []
        self._again: list[Again] = []
        self._news, self._dirty, self._due = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._rows_lock = asyncio.Lock()
        """Leases and results touch the same rows, in whatever order: at once they could lock each other out."""
        self._loops: list[asyncio.Task[None]] = []
        self._troubled = self._unsure = False
        self.counted: dict[str, int] = {}
        """Rows by state when last looked at. `_unsure`: a claim failed, and may have taken rows nevertheless."""

    def start(self) -> None:
        """Begin."""
        self._loops = [
            asyncio.create_task(self._repeat(loop)) for loop in (self._claim, self._save, self._beat, self._tend)
        ]

    def poke(self) -> None:
        """Something may have become due: a batch was made, or cancelled."""
        self._news.set()
        self._due.set()

    async def stop(self) -> None:
        """Stop in order: rows end where they are, their last stages are saved, and others may go on with them."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        tasks = [place.task for place in self._places.values() if place.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._store.quiet()
        with suppress(StoreUnavailable):  # its leases run out by themselves
            if self._store.exists:
                await self._write(all_checkpoints=True)
                await self._store.call(self._store.leave, self.id)

    async def _repeat(self, loop: Callable[[], Awaitable[None]]) -> None:
        """Run a loop's body for ever; a store that is away makes it wait, longer and longer."""
        wait_s = RETRY_S / 4
        while True:
            try:
                if self._store.exists:
                    await loop()
                    wait_s, self._troubled = RETRY_S / 4, False
                else:
                    await self._wait(self._news, self._store.poll_s)
            except StoreUnavailable as error:
                if not self._troubled:
                    log.warning("batch jobs wait: %s", error)
                self._troubled = True
                await asyncio.sleep(wait_s)
                wait_s = min(LONGEST_WAIT_S, 2 * wait_s)
            except Exception:  # the worker's boundary: whatever it was, batches must go on
                log.exception("unexpected error in the batch worker")
                await asyncio.sleep(LONGEST_WAIT_S / 4)

    async def _wait(self, event: asyncio.Event, longest_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await event.wait()
        event.clear()

    async def _claim(self) -> None:
        if self._unsure:
            await self._store.call(self._store.rows.give_back, self.id, frozenset(self._places))
            self._unsure = False
        free = self._store.places - len(self._places)
        if free > 0 and self._open():
            await self._store.call(self._store.take_over, self.id)
            self._unsure = True
            claimed = await self._store.call(self._store.rows.claim, self.id, self.model, free)
            self._unsure = False
            for row in claimed:
                if row.key not in self._places:  # taken from us and given back, it still runs here
                    self._begin(row)
        await self._wait(self._news, self._store.poll_s)

    def _begin(self, row: Claimed) -> None:
        context = RowContext(row.key, row.owner)
        place = self._places[row.key] = Place(row, context, saved_at=asyncio.get_running_loop().time())
        context.changed = lambda: self._note_stage(place)
        if row.was_begun:
            self._counts.row("resumed")
        place.task = asyncio.create_task(self._run(place))

    def _note_stage(self, place: Place) -> None:
        """A chain has finished a stage: save it soon, but not each of a hundred in one second."""
        if not place.unsaved:
            loop = asyncio.get_running_loop()
            place.unsaved = True
            loop.call_at(max(loop.time(), place.saved_at + self._store.checkpoint_s), self._dirty.set)

    async def _run(self, place: Place) -> None:
        row = place.row
        try:
            if row.is_given_up:
                self._outcomes.append(error_outcome(row.key, row.custom_id, GIVEN_UP))
            else:
                place.context.saved = await self._store.call(_saved_of, row)
                body = await self._handlers[row.url](row.body, place.context)
                self._outcomes.append(response_outcome(row.key, row.custom_id, 200, body))
        except Exception as error:  # the row's boundary: every row gets a result
            self._fail(row, error)
        self._dirty.set()

    def _fail(self, row: Claimed, error: Exception) -> None:
        status, content = (error.status, error.content) if isinstance(error, InvalidBody) else describe(error)
        if isinstance(error, PASSING):
            self._again.append(Again(row.key, RETRY_S, counted=False))
        elif status in RETRIED and row.failures + 1 < TRIES:
            self._again.append(Again(row.key, RETRY_S * 2**row.failures, counted=True))
        else:
            self._outcomes.append(response_outcome(row.key, row.custom_id, status, content))

    async def _save(self) -> None:
        await self._dirty.wait()
        self._dirty.clear()
        await self._write()

    async def _write(self, *, all_checkpoints: bool = False) -> None:
        """Write down what has gathered. If that fails it is kept for the next time."""
        now = asyncio.get_running_loop().time()
        outcomes, self._outcomes = self._outcomes, []
        again, self._again = self._again, []
        ended = {each.key for each in (*outcomes, *again)}
        due = [
            place
            for key, place in self._places.items()
            if place.unsaved
            and key not in ended
            and (all_checkpoints or now + TICK_S >= place.saved_at + self._store.checkpoint_s)
        ]
        stages = {place.row.key: dict(place.context.saved) for place in due}

        def save() -> list[Outcome]:
            plain = {key: to_plain(saved) for key, saved in stages.items()}
            return self._store.rows.save(self.id, outcomes, again, plain)

        before = [place.saved_at for place in due]
        for place in due:
            place.unsaved, place.saved_at = False, now  # a stage that ends meanwhile is timed from here
        try:
            async with self._rows_lock:
                counted = await self._store.call(save)
        except BaseException:
            self._outcomes, self._again = outcomes + self._outcomes, again + self._again
            for place, saved_at in zip(due, before, strict=True):
                place.unsaved, place.saved_at = True, saved_at
            self._dirty.set()
            raise
        for outcome in counted:  # not those of rows that were cancelled, or answered elsewhere, meanwhile
            self._counts.row("done" if outcome.ok else "failed")
        for key in ended:
            self._places.pop(key, None)
        if ended:
            self._news.set()
            if not self._places:
                self._due.set()  # perhaps the last rows of a batch

    async def _beat(self) -> None:
        if self._places:
            here = set(self._places)
            async with self._rows_lock:
                ours = await self._store.call(self._store.rows.beat, self.id)
            for key in here - ours:
                self._lose(key)
        await asyncio.sleep(self._store.beat_s)

    def _lose(self, key: Key) -> None:
        """A row is ours no more; one that has its result already is being saved, which sorts it out."""
        place = self._places.get(key)
        if place is not None and place.task is not None and not place.task.done():
            del self._places[key]
            place.task.cancel()
            self._news.set()

    async def _tend(self) -> None:
        due = await self._store.call(self._store.tending.tend, self.id, self.model)
        self.counted = await self._store.call(self._store.rows.counts)
        if due:
            self._news.set()
        await self._wait(self._due, 0.0 if due else self._store.poll_s)
