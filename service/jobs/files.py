"""Files: what they are in the database, their bytes elsewhere (`content`), and nobody sees another's."""

import json
import re
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update
from sqlalchemy.engine import Row

from service.errors import ApiError
from service.jobs.content import Bytes, Writer
from service.jobs.database import Database, db_now
from service.jobs.lines import LineChecker, Summary
from service.jobs.tables import batches, files

FILE_ID = re.compile(r"file-[0-9a-f]{32}")
OPEN = ("validating", "in_progress", "finalizing", "cancelling")
"""Statuses of batches that still need their input."""


def new_id(kind: str) -> str:
    """An id that nobody can guess."""
    return f"{kind}-{secrets.token_hex(16)}" if kind == "file" else f"{kind}_{secrets.token_hex(16)}"


def no_such_file(file_id: str) -> ApiError:
    """404, whatever the id is: missing, another's, or no id at all."""
    return ApiError(404, f"there is no file {file_id[:64]!r}", param="file_id", code="file_not_found")


@dataclass(frozen=True, slots=True)
class FileLimits:
    """How much a file, and all files of one key together, may hold; and how long files are kept."""

    max_bytes: int
    max_stored_bytes: int
    max_lines: int
    max_line_bytes: int
    keep_s: int
    abandoned_s: float
    """Age in seconds at which a file that was never finished is swept away."""


class Files:
    """The files of all owners."""

    def __init__(self, database: Database, content: Bytes, limits: FileLimits) -> None:
        self.database, self.content, self.limits = database, content, limits

    def begin(self, owner: str, *, is_input: bool = True) -> "Upload":
        """A file to be written. One that a caller sends is refused where the owner's space is used up."""
        file_id = new_id("file")
        with self.database.write() as connection:
            used = connection.execute(select(func.sum(files.c.bytes)).where(files.c.owner == owner)).scalar() or 0
            if is_input and used >= self.limits.max_stored_bytes:
                message = f"your files hold {used} bytes of {self.limits.max_stored_bytes}: delete some first"
                raise ApiError(413, message, code="storage_limit_exceeded")
            connection.execute(insert(files).values(**_blank(file_id, owner)))
        try:
            return Upload(self, file_id, self.content.writer(file_id), is_input=is_input)
        except BaseException:
            self.forget(file_id)
            raise

    def get(self, owner: str, file_id: str) -> dict[str, Any]:
        """OpenAI's file object; raises 404."""
        return file_object(self.find(owner, file_id))

    def find(self, owner: str, file_id: str, connection: Connection | None = None) -> Row[Any]:
        """The row of a file that is whole; raises 404."""
        if FILE_ID.fullmatch(file_id) is None:
            raise no_such_file(file_id)
        query = select(files).where(files.c.id == file_id, files.c.owner == owner, files.c.status != "uploading")
        if connection is not None:  # who begins a batch on it, and who deletes it, take turns
            found = connection.execute(query.with_for_update()).first()
        else:
            with self.database.read() as reading:
                found = reading.execute(query).first()
        if found is None:
            raise no_such_file(file_id)
        return found

    def page(
        self, owner: str, purpose: str | None, after: str | None, limit: int, *, newest_first: bool
    ) -> tuple[list[dict[str, Any]], bool]:
        """File objects after one of them, and whether there are more."""
        query = select(files).where(files.c.owner == owner, files.c.status != "uploading")
        if purpose is not None:
            query = query.where(files.c.purpose == purpose)
        if after is not None:
            last = self.find(owner, after)
            key, place = (files.c.created_at, files.c.id), (last.created_at, last.id)
            first, second = (key[0] < place[0], key[1] < place[1])
            if not newest_first:
                first, second = (key[0] > place[0], key[1] > place[1])
            query = query.where(or_(first, (key[0] == place[0]) & second))
        order = [files.c.created_at, files.c.id]
        query = query.order_by(*(column.desc() if newest_first else column for column in order)).limit(limit + 1)
        with self.database.read() as connection:
            found = connection.execute(query).all()
        return [file_object(row) for row in found[:limit]], len(found) > limit

    def delete(self, owner: str, file_id: str) -> None:
        """Delete a file that no open batch reads; raises 404 or 409."""
        with self.database.write() as connection:
            self.find(owner, file_id, connection)
            user = connection.execute(
                select(batches.c.id).where(batches.c.input_file_id == file_id, batches.c.status.in_(OPEN))
            ).scalar()
            if user is not None:
                raise ApiError(409, f"the batch {user} still reads this file: cancel it first", code="file_in_use")
            connection.execute(delete(files).where(files.c.id == file_id))
        self.content.delete(file_id)

    def sweep(self) -> None:
        """Delete what has expired and what was never finished, but for what open batches read."""
        in_use = select(batches.c.input_file_id).where(batches.c.status.in_(OPEN))
        with self.database.write() as connection:
            now = float(connection.execute(select(db_now())).scalar_one())
            abandoned = (files.c.status == "uploading") & (files.c.created_at < now - self.limits.abandoned_s)
            doomed = or_(files.c.expires_at < now, abandoned)
            connection.execute(select(files.c.id).where(doomed).order_by(files.c.id).with_for_update()).all()
            # A statement of its own: it sees the batches begun while the files' locks were waited for.
            connection.execute(delete(files).where(doomed, files.c.id.not_in(in_use)))
            known = frozenset(connection.execute(select(files.c.id)).scalars())
        self.content.sweep(known, self.limits.abandoned_s)

    def forget(self, file_id: str) -> None:
        """Drop what is known of a file."""
        with self.database.write() as connection:
            connection.execute(delete(files).where(files.c.id == file_id))


class Upload:
    """A file while it arrives or is written: kept whole, or dropped without a trace."""

    def __init__(self, store: Files, file_id: str, writer: Writer, *, is_input: bool) -> None:
        self.id, self.bytes = file_id, 0
        self._store, self._writer, self._limits = store, writer, store.limits
        self._checker = LineChecker(self._limits.max_lines, self._limits.max_line_bytes) if is_input else None

    def write(self, data: bytes) -> None:
        """Take the next bytes. What a caller sends is checked as it comes, and refused with 413 beyond the limit."""
        self.bytes += len(data)
        if self._checker is not None:
            if self.bytes > self._limits.max_bytes:
                message = f"the file is larger than {self._limits.max_bytes} bytes"
                raise ApiError(413, message, param="file", code="file_too_large")
            self._checker.feed(data)
        self._writer.write(data)

    def finish(self, filename: str, purpose: str, expires_s: int | None) -> dict[str, Any]:
        """Make it last and say so; OpenAI's file object."""
        self.keep()
        with self._store.database.write() as connection:
            return file_object(self.record(connection, filename, purpose, expires_s))

    def keep(self) -> None:
        """Make the bytes last; `record` says so."""
        self._writer.keep()

    def record(self, connection: Connection, filename: str, purpose: str, expires_s: int | None = None) -> Row[Any]:
        """Say within a transaction that the file is whole."""
        found = self._checker.finish() if self._checker is not None else Summary()
        problems = found.all_problems()
        values = {
            "filename": filename,
            "purpose": purpose,
            "status": "error" if problems else "processed",
            "bytes": self.bytes,
            "lines": found.lines,
            "urls": json.dumps(found.urls),
            "problems": json.dumps(problems),
            "created_at": db_now(),
            "expires_at": db_now() + float(expires_s or self._limits.keep_s),
        }
        connection.execute(update(files).where(files.c.id == self.id).values(**values))
        return connection.execute(select(files).where(files.c.id == self.id)).one()

    def drop(self) -> None:
        """Forget it."""
        self._writer.drop()
        self._store.forget(self.id)


def _blank(file_id: str, owner: str) -> dict[str, Any]:
    return {
        "id": file_id,
        "owner": owner,
        "filename": "",
        "purpose": "",
        "status": "uploading",
        "bytes": 0,
        "lines": 0,
        "urls": "{}",
        "problems": "[]",
        "created_at": db_now(),
    }


def file_object(row: Row[Any]) -> dict[str, Any]:
    """OpenAI's file object."""
    problems = json.loads(row.problems)
    found: dict[str, Any] = {
        "id": row.id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": int(row.created_at),
        "expires_at": None if row.expires_at is None else int(row.expires_at),
        "filename": row.filename,
        "purpose": row.purpose,
        "status": row.status,
    }
    if problems:
        first = problems[0]
        place = f"line {first['line']}: " if first["line"] is not None else ""
        found["status_details"] = f"{len(problems)} problems, the first: {place}{first['message']}"
    return found
