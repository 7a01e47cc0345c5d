"""What a batch needs beside running its rows: its file read on, its end noticed, its results written down.

Any worker may do it. A lease keeps two from doing the same work; that neither does harm if they do, the conditions in
each transaction see to: the file's position must be what it was, the status must be what it was.
"""

import json
import logging
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update
from sqlalchemy.engine import Row

from service.jobs.batches import OPEN, change
from service.jobs.database import Database, db_now
from service.jobs.files import Files, Upload
from service.jobs.lines import Line, parse_line, problem, read_window
from service.jobs.outcome import error_outcome
from service.jobs.rows import Key, settle
from service.jobs.tables import batches, files, results, rows
from service.jobs.unavailable import StoreUnavailable

log = logging.getLogger("powercut")

WINDOW_LINES = 500
"""Lines of a file that become rows at once, so that a batch of any length takes little space while it runs."""
WINDOW_BYTES = 4 << 20
PAGE = 500
"""Results read at once, if they are short."""
PAGE_CHARS = 8 << 20
UNREADABLE_S = 3600.0
"""How long after its end a batch waits for a file that cannot be read."""
LATE = problem("batch_expired", "the completion window ended before this request could be executed")


class Tending:
    """Looks after open batches for one worker."""

    def __init__(self, database: Database, store: Files, lease_s: float) -> None:
        self.database, self.files, self.lease_s = database, store, lease_s

    def tend(self, worker: str, model: str) -> bool:
        """Do for each open batch what is due; whether anything was."""
        ends = or_(batches.c.status.in_(("cancelling", "finalizing")), batches.c.expires_at < db_now())
        mine = or_(batches.c.model == model, batches.c.model.is_(None), ends)
        free = or_(batches.c.tended_until.is_(None), batches.c.tended_until < db_now(), batches.c.tended_by == worker)
        with self.database.read() as connection:
            found = connection.execute(select(batches.c.id).where(batches.c.status.in_(OPEN), mine, free)).scalars()
            waiting = list(found)
        done, trouble = False, None
        for batch_id in waiting:
            try:
                done = self._tend(worker, batch_id) or done
            except StoreUnavailable as error:  # perhaps of this batch's file alone
                trouble = error
        if trouble is not None and not done:
            raise trouble
        return done

    def _tend(self, worker: str, batch_id: str) -> bool:
        free = or_(batches.c.tended_until.is_(None), batches.c.tended_until < db_now(), batches.c.tended_by == worker)
        with self.database.read() as connection:
            due = self._due(connection, batch_id)
        if due is None:
            return False
        lease = {"tended_by": worker, "tended_until": db_now() + self.lease_s}
        with self.database.write() as connection:
            leased = update(batches).where(batches.c.id == batch_id, free).values(**lease)
            if connection.execute(leased).rowcount != 1:
                return False
        try:
            due_now = {"read": self._read, "expire": self._expire, "complete": self._complete, "cancel": self._cancel}
            due_now[due](batch_id)
        finally:
            with self.database.write() as connection:
                done = update(batches).where(batches.c.id == batch_id, batches.c.tended_by == worker)
                connection.execute(done.values(tended_by=None, tended_until=None))
        return True

    def _due(self, connection: Connection, batch_id: str) -> str | None:
        batch = self._batch(connection, batch_id)
        if batch is None:
            return None
        if batch.status == "cancelling":
            return "cancel"
        if batch.status == "finalizing":
            return "complete"
        if batch.is_late:
            return "expire"
        states = select(rows.c.state, func.count()).where(rows.c.batch_id == batch_id).group_by(rows.c.state)
        counts = {str(state): int(count) for state, count in connection.execute(states)}
        if batch.read_bytes < batch.file_bytes:
            return "read" if counts.get("waiting", 0) < WINDOW_LINES // 2 else None
        return "complete" if not counts else None

    def _batch(self, connection: Connection, batch_id: str) -> Row[Any] | None:
        late = (batches.c.expires_at < db_now()).label("is_late")
        overdue = (batches.c.expires_at < db_now() - UNREADABLE_S).label("is_overdue")
        query = select(batches, files.c.bytes.label("file_bytes"), late, overdue)
        query = query.join(files, files.c.id == batches.c.input_file_id)
        return connection.execute(query.where(batches.c.id == batch_id, batches.c.status.in_(OPEN))).first()

    def _read(self, batch_id: str) -> bool:
        """Turn the next lines of the file into rows; False at its end."""
        with self.database.read() as connection:
            batch = self._batch(connection, batch_id)
        if batch is None or batch.read_bytes >= batch.file_bytes:
            return False
        pieces = self.files.content.read(batch.input_file_id, batch.read_bytes)
        window = read_window(pieces, batch.read_lines, WINDOW_LINES, WINDOW_BYTES)
        at = batch.file_bytes if window.ended else batch.read_bytes + window.taken
        new = [_new_row(batch_id, parse_line(number, raw)) for number, raw in window.lines]
        with self.database.write() as connection:
            change(connection, batch_id, ("validating",), "in_progress")
            if not self._advance(connection, batch, at, window.number):
                return False
            if new:
                connection.execute(insert(rows), new)
        return True

    def _advance(self, connection: Connection, batch: Row[Any], at: int, number: int) -> bool:
        """Note how far the file is read; False if somebody else has, or the batch has been stopped."""
        unmoved = (batches.c.id == batch.id, batches.c.read_bytes == batch.read_bytes)
        still_open = batches.c.status.in_(("validating", "in_progress"))
        moved = update(batches).where(*unmoved, still_open).values(read_bytes=at, read_lines=number)
        return connection.execute(moved).rowcount == 1

    def _expire(self, batch_id: str) -> None:
        """Everything without a result gets an error as its result, and the batch has expired.

        What a file holds that has not been readable for long is given up: the batch ends with what was read.
        """
        readable = True
        while self._settle_expired(batch_id) or readable:
            readable = readable and self._read_late(batch_id)
        with self.database.write() as connection:
            change(connection, batch_id, ("validating",), "in_progress")
            batch = self._batch(connection, batch_id)
            left = connection.execute(select(rows.c.number).where(rows.c.batch_id == batch_id).limit(1)).first()
        unread = batch is not None and batch.read_bytes < batch.file_bytes and not batch.is_overdue
        if batch is None or unread or left is not None:
            return  # somebody else reads it too: the next turn goes on
        self._write_down(batch_id, ("in_progress",), "expired")

    def _read_late(self, batch_id: str) -> bool:
        try:
            return self._read(batch_id)
        except StoreUnavailable:
            with self.database.read() as connection:
                batch = self._batch(connection, batch_id)
            if batch is not None and not batch.is_overdue:
                raise
            log.exception("the file of an expired batch cannot be read: the batch ends without the rest of it")
            return False

    def _settle_expired(self, batch_id: str) -> bool:
        with self.database.write() as connection:
            query = select(rows.c.number, rows.c.custom_id).where(rows.c.batch_id == batch_id).limit(PAGE)
            left = connection.execute(query).all()
            settle(
                connection, batch_id, [error_outcome(Key(batch_id, row.number), row.custom_id, LATE) for row in left]
            )
        return bool(left)

    def _complete(self, batch_id: str) -> None:
        with self.database.write() as connection:
            change(connection, batch_id, ("in_progress",), "finalizing")
        self._write_down(batch_id, ("finalizing",), "completed")

    def _cancel(self, batch_id: str) -> None:
        with self.database.write() as connection:
            connection.execute(delete(rows).where(rows.c.batch_id == batch_id))
        self._write_down(batch_id, ("cancelling",), "cancelled")

    def _write_down(self, batch_id: str, before: tuple[str, ...], after: str) -> None:
        """Results to files, and the batch has ended; nothing is left behind where somebody else has ended it."""
        with self.database.read() as connection:
            owner = connection.execute(select(batches.c.owner).where(batches.c.id == batch_id)).scalar_one()
        written: dict[bool, Upload | None] = {}
        try:
            for ok in (True, False):
                written[ok] = self._write_file(owner, batch_id, ok)
        except BaseException:
            for upload in written.values():
                if upload is not None:
                    upload.drop()
            raise
        try:
            with self.database.write() as connection:
                ids = {ok: None if upload is None else upload.id for ok, upload in written.items()}
                named = {"output_file_id": ids[True], "error_file_id": ids[False]}
                if not change(connection, batch_id, before, after, **named):
                    raise _EndedElsewhere
                for ok, upload in written.items():
                    if upload is not None:
                        kind = "output" if ok else "error"
                        upload.record(connection, f"{batch_id}_{kind}.jsonl", "batch_output")
                connection.execute(delete(results).where(results.c.batch_id == batch_id))
        except _EndedElsewhere:
            for upload in written.values():
                if upload is not None:
                    upload.drop()
        # After any other failure it may have been written nevertheless. What was not is swept away later.

    def _write_file(self, owner: str, batch_id: str, ok: bool) -> Upload | None:
        upload: Upload | None = None
        try:
            for line in self._results(batch_id, ok):
                upload = upload or self.files.begin(owner, is_input=False)
                upload.write(f"{line}\n".encode())
            if upload is not None:
                upload.keep()
        except BaseException:
            if upload is not None:
                upload.drop()
            raise
        return upload

    def _results(self, batch_id: str, ok: bool) -> Iterator[str]:
        """Result lines in the order of the input, a few in memory at a time: one may hold a chain of megabytes."""
        mine = (results.c.batch_id == batch_id, results.c.ok == ok)
        last, share = 0, 1
        while True:
            query = select(results.c.number, results.c.line).where(*mine, results.c.number > last)
            with self.database.read() as connection:
                page = connection.execute(query.order_by(results.c.number).limit(share)).all()
            if not page:
                return
            yield from (row.line for row in page)
            last, longest = page[-1].number, max(len(row.line) for row in page)
            share = max(1, min(PAGE, 2 * share, PAGE_CHARS // longest))


class _EndedElsewhere(Exception):
    """Another worker ended the batch."""


def _new_row(batch_id: str, line: Line) -> dict[str, Any]:
    return {
        "batch_id": batch_id,
        "number": line.number,
        "custom_id": line.custom_id,
        "body": json.dumps(line.body),
        "state": "waiting",
        "losses": 0,
        "failures": 0,
    }
