"""Rows: claimed by turns, leased with a heartbeat, checkpointed, and finished exactly once.

A row exists until it has a result. Whoever deletes it writes the result in the same transaction, so of two workers
that ran one row, because the first was thought dead, one finds it gone and drops what it has: the same tokens anyway.

Locks are taken in one order, batch before rows; a claim locks rows only.
"""

import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from service.jobs.batches import USAGE
from service.jobs.database import Database, db_now
from service.jobs.tables import batches, results, rows

CANDIDATES = 1000
"""Batches among which a claim chooses."""
LOSSES_LIMIT = 25
"""Workers that may die on a row, one after another and without a finished stage between, before it is given up."""


class Key(NamedTuple):
    """Which row."""

    batch_id: str
    number: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A row to run."""

    key: Key
    custom_id: str
    owner: str
    url: str
    body: dict[str, Any]
    failures: int
    losses: int
    checkpoint: bytes | None

    @property
    def is_given_up(self) -> bool:
        """Whether too many workers died on it."""
        return self.losses >= LOSSES_LIMIT

    @property
    def was_begun(self) -> bool:
        """Whether a worker had begun it before."""
        return self.checkpoint is not None or self.losses > 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row's result line, and what it adds to the batch's usage."""

    key: Key
    ok: bool
    line: str
    usage: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Again:
    """A row to be run once more after a while; `counted` if the failure counts against it."""

    key: Key
    delay_s: float
    counted: bool


class Turn(NamedTuple):
    """How soon a batch's next row is due: fewest running rows of its owner first, then whoever waited longest."""

    owner_running: int
    owner_last: float
    running: int
    last: float
    batch_id: str


class Rows:
    """The rows of all batches."""

    def __init__(self, database: Database, lease_s: float) -> None:
        self.database, self.lease_s = database, lease_s

    def claim(self, worker: str, model: str, wanted: int) -> list[Claimed]:
        """Up to `wanted` rows, shared evenly among owners and then among an owner's batches."""
        with self.database.write() as connection:
            self._reclaim(connection, worker)
            found: list[Claimed] = []
            for batch_id, count in self._shares(connection, model, wanted).items():
                found += self._take(connection, worker, batch_id, count)
        if found:
            self._note_claims(found)
        return found

    def beat(self, worker: str) -> set[Key]:
        """Renew the worker's leases; the rows that are still its own."""
        mine = (rows.c.worker == worker, rows.c.state == "running")
        with self.database.write() as connection:
            connection.execute(update(rows).where(*mine).values(leased_until=db_now() + self.lease_s))
            return {Key(*row) for row in connection.execute(select(rows.c.batch_id, rows.c.number).where(*mine))}

    def save(
        self,
        worker: str,
        outcomes: Sequence[Outcome],
        again: Sequence[Again] = (),
        checkpoints: Mapping[Key, dict[str, Any]] | None = None,
    ) -> list[Outcome]:
        """Results, returned rows and checkpoints in one transaction. Nothing happens to rows that are not there.

        Returns the outcomes that became results.
        """
        counted: list[Outcome] = []
        with self.database.write() as connection:
            by_batch: dict[str, list[Outcome]] = defaultdict(list)
            for outcome in outcomes:
                by_batch[outcome.key.batch_id].append(outcome)
            for batch_id in sorted(by_batch):
                counted += settle(connection, batch_id, by_batch[batch_id])
            for each in again:
                failures = rows.c.failures + int(each.counted)
                values = {"not_before": db_now() + each.delay_s, "failures": failures, **WAITING}
                connection.execute(update(rows).where(*_of(worker, each.key)).values(**values))
            for key, saved in (checkpoints or {}).items():
                values = {"checkpoint": pack(saved), "losses": 0}
                connection.execute(update(rows).where(*_of(worker, key)).values(**values))
        return counted

    def release(self, worker: str, *, died: bool) -> None:
        """Give a worker's rows back at once: it stops in order, or is known to have died."""
        with self.database.write() as connection:
            mine = (rows.c.worker == worker, rows.c.state == "running")
            connection.execute(update(rows).where(*mine).values(**WAITING, losses=rows.c.losses + int(died)))

    def give_back(self, worker: str, running: frozenset[Key]) -> None:
        """Give back what the worker holds and does not run: a claim failed after it was written."""
        mine = (rows.c.worker == worker, rows.c.state == "running")
        with self.database.write() as connection:
            held = {Key(*row) for row in connection.execute(select(rows.c.batch_id, rows.c.number).where(*mine))}
            for key in sorted(held - running):
                connection.execute(update(rows).where(*_of(worker, key)).values(**WAITING))

    def counts(self) -> dict[str, int]:
        """Rows by state, for the metrics."""
        with self.database.read() as connection:
            found = connection.execute(select(rows.c.state, func.count()).group_by(rows.c.state)).all()
        return {"waiting": 0, "running": 0, **{str(state): int(count) for state, count in found}}

    def _reclaim(self, connection: Connection, worker: str) -> None:
        """Take rows from workers that have been silent for long. Whoever asks is not: it may just have been slow."""
        lost = (rows.c.state == "running", rows.c.leased_until < db_now(), rows.c.worker != worker)
        connection.execute(update(rows).where(*lost).values(**WAITING, losses=rows.c.losses + 1))

    def _shares(self, connection: Connection, model: str, wanted: int) -> dict[str, int]:
        """How many rows to take of each batch."""
        ready = (rows.c.state == "waiting", or_(rows.c.not_before.is_(None), rows.c.not_before <= db_now()))
        some = select(rows.c.number).where(rows.c.batch_id == batches.c.id, *ready).exists()
        mine = or_(batches.c.model == model, batches.c.model.is_(None))
        query = select(batches.c.id, batches.c.owner, batches.c.last_claim).where(
            batches.c.status == "in_progress", mine, some
        )
        waiting = connection.execute(query.order_by(batches.c.last_claim).limit(CANDIDATES)).all()
        if not waiting:
            return {}
        running = select(rows.c.batch_id, batches.c.owner, func.count()).join(batches, batches.c.id == rows.c.batch_id)
        counted = connection.execute(
            running.where(rows.c.state == "running").group_by(rows.c.batch_id, batches.c.owner)
        ).all()
        return share_out([tuple(each) for each in waiting], [tuple(each) for each in counted], wanted)

    def _take(self, connection: Connection, worker: str, batch_id: str, count: int) -> list[Claimed]:
        ready = or_(rows.c.not_before.is_(None), rows.c.not_before <= db_now())
        query = select(rows, batches.c.endpoint, batches.c.owner).join(batches, batches.c.id == rows.c.batch_id)
        query = query.where(rows.c.batch_id == batch_id, rows.c.state == "waiting", ready)
        query = query.order_by(rows.c.number).limit(count).with_for_update(skip_locked=True, of=rows)
        found = connection.execute(query).all()
        numbers = [row.number for row in found]
        lease = {"state": "running", "worker": worker, "leased_until": db_now() + self.lease_s}
        taken = (rows.c.batch_id == batch_id, rows.c.number.in_(numbers))
        connection.execute(update(rows).where(*taken).values(**lease))
        return [
            Claimed(
                Key(batch_id, row.number),
                row.custom_id,
                row.owner,
                row.endpoint,
                json.loads(row.body),
                row.failures,
                row.losses,
                None if row.checkpoint is None else bytes(row.checkpoint),
            )
            for row in found
        ]

    def _note_claims(self, found: Sequence[Claimed]) -> None:
        """Whose turn it was, and how many rows were begun before. Apart from the claim, which locks no batch."""
        begun: dict[str, int] = defaultdict(int)
        for row in found:
            begun[row.key.batch_id] += row.was_begun
        with self.database.write() as connection:
            for batch_id in sorted(begun):
                values = {"last_claim": db_now(), "resumed": batches.c.resumed + begun[batch_id]}
                connection.execute(update(batches).where(batches.c.id == batch_id).values(**values))


WAITING: dict[str, Any] = {"state": "waiting", "worker": None, "leased_until": None}


def _of(worker: str, key: Key) -> tuple[Any, ...]:
    return (rows.c.batch_id == key.batch_id, rows.c.number == key.number, rows.c.worker == worker)


def share_out(waiting: Iterable[tuple[Any, ...]], running: Iterable[tuple[Any, ...]], wanted: int) -> dict[str, int]:
    """Rows to take of each batch, one after another by `Turn`.

    `waiting` lists (batch, owner, when a row of it was last claimed), `running` (batch, owner, rows that run now).
    """
    of_owner: dict[str, int] = defaultdict(int)
    of_batch: dict[str, int] = defaultdict(int)
    for batch_id, owner, count in running:
        of_owner[owner] += count
        of_batch[batch_id] += count
    owners = {batch_id: owner for batch_id, owner, _ in waiting}
    last = {batch_id: float(at) for batch_id, _, at in waiting}
    owner_last: dict[str, float] = defaultdict(float)
    for batch_id, owner in owners.items():
        owner_last[owner] = max(owner_last[owner], last[batch_id])
    shares: dict[str, int] = defaultdict(int)
    for turn in range(wanted if owners else 0):
        due = min(
            Turn(of_owner[owner], owner_last[owner], of_batch[batch_id], last[batch_id], batch_id)
            for batch_id, owner in owners.items()
        )
        owner = owners[due.batch_id]
        shares[due.batch_id] += 1
        of_owner[owner] += 1
        of_batch[due.batch_id] += 1
        owner_last[owner] = last[due.batch_id] = 1e12 + turn
    return dict(shares)


def settle(connection: Connection, batch_id: str, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Turn rows into results, which are returned and which the batch counts. What is no row any more is dropped."""
    batch = connection.execute(select(batches).where(batches.c.id == batch_id).with_for_update()).first()
    if batch is None:
        return []
    usage = json.loads(batch.usage)
    done: dict[bool, list[Outcome]] = {True: [], False: []}
    for outcome in outcomes:
        place = (rows.c.batch_id == batch_id, rows.c.number == outcome.key.number)
        if connection.execute(delete(rows).where(*place)).rowcount != 1:
            continue
        line = {"batch_id": batch_id, "number": outcome.key.number, "ok": outcome.ok, "line": outcome.line}
        connection.execute(insert(results).values(**line))
        done[outcome.ok].append(outcome)
        for name in USAGE:
            usage[name] = usage.get(name, 0) + outcome.usage.get(name, 0)
    counts = {"completed": batches.c.completed + len(done[True]), "failed": batches.c.failed + len(done[False])}
    connection.execute(update(batches).where(batches.c.id == batch_id).values(**counts, usage=json.dumps(usage)))
    return done[True] + done[False]


def pack(saved: dict[str, Any]) -> bytes:
    """A checkpoint as it is stored. JSON with NaN and infinities, which come back as they were."""
    return zlib.compress(json.dumps(saved).encode(), 1)


def unpack(stored: bytes) -> dict[str, Any]:
    """What was packed."""
    found: dict[str, Any] = json.loads(zlib.decompress(stored))
    return found
