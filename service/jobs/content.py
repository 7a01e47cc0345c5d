"""Bytes of files: in a folder, or in the database where several replicas share nothing else. Whole or not there."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from sqlalchemy import delete, insert, select

from service.jobs.database import Database
from service.jobs.tables import chunks, files
from service.jobs.unavailable import StoreUnavailable, unavailable

CHUNK_BYTES = 1 << 18


class Bytes(Protocol):
    """Where the bytes of files are."""

    def writer(self, file_id: str) -> "Writer":
        """Begin a file that nobody sees before it is kept."""
        ...

    def read(self, file_id: str, offset: int = 0) -> Iterator[bytes]:
        """The bytes from an offset on, in pieces."""
        ...

    def delete(self, file_id: str) -> None:
        """Free the space; nothing happens if the file is not there."""
        ...

    def sweep(self, known: frozenset[str], abandoned_s: float) -> None:
        """Free what was left behind by processes that died: what is not `known`, and so many seconds old."""
        ...


class Writer(Protocol):
    """A file being written: kept whole, or dropped."""

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        ...

    def keep(self) -> None:
        """Make it last: from here on it survives a power cut."""
        ...

    def drop(self) -> None:
        """Forget it."""
        ...


class DiskBytes:
    """A folder with one file each, written beside its place and moved there whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def writer(self, file_id: str) -> "DiskWriter":
        """See `Bytes`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return DiskWriter(self.folder / file_id)
        except OSError as error:
            raise unavailable(error) from error

    def read(self, file_id: str, offset: int = 0) -> Iterator[bytes]:
        """See `Bytes`."""
        try:
            with (self.folder / file_id).open("rb") as file:
                file.seek(offset)
                while piece := file.read(CHUNK_BYTES):
                    yield piece
        except OSError as error:
            raise unavailable(error) from error

    def delete(self, file_id: str) -> None:
        """See `Bytes`."""
        try:
            (self.folder / file_id).unlink(missing_ok=True)
        except OSError as error:
            raise unavailable(error) from error

    def sweep(self, known: frozenset[str], abandoned_s: float) -> None:
        """See `Bytes`."""
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if path.name not in known:
                with suppress(OSError):  # another process was quicker
                    if time.time() - path.stat().st_mtime > abandoned_s:
                        path.unlink()


class DiskWriter:
    """`<file>.part` until it is kept."""

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(f"{path.name}.part")
        self._file = self._part.open("wb")

    def write(self, data: bytes) -> None:
        """See `Writer`."""
        try:
            self._file.write(data)
        except OSError as error:
            raise unavailable(error) from error

    def keep(self) -> None:
        """See `Writer`."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._part.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # the name too must be on the disk
            finally:
                os.close(folder)
        except OSError as error:
            raise unavailable(error) from error

    def drop(self) -> None:
        """See `Writer`."""
        with suppress(OSError):  # closing flushes, and the disk may be full
            self._file.close()
        with suppress(OSError):
            self._part.unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)  # kept, but of no use


class DatabaseBytes:
    """Chunks in a table, for replicas that share nothing but the database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def writer(self, file_id: str) -> "DatabaseWriter":
        """See `Bytes`."""
        return DatabaseWriter(self.database, file_id)

    def read(self, file_id: str, offset: int = 0) -> Iterator[bytes]:
        """See `Bytes`. All chunks but the last have the same size."""
        number, skipped = divmod(offset, CHUNK_BYTES)
        while True:
            with self.database.read() as connection:
                place = (chunks.c.file_id == file_id, chunks.c.number == number)
                data = connection.execute(select(chunks.c.data).where(*place)).scalar()
            if data is None:
                if number * CHUNK_BYTES + skipped < self._bytes_of(file_id):
                    raise StoreUnavailable("a stored file is not whole")
                return
            if piece := bytes(data)[skipped:]:
                yield piece
            number, skipped = number + 1, 0

    def _bytes_of(self, file_id: str) -> int:
        with self.database.read() as connection:
            return connection.execute(select(files.c.bytes).where(files.c.id == file_id)).scalar() or 0

    def delete(self, file_id: str) -> None:
        """See `Bytes`."""
        with self.database.write() as connection:
            connection.execute(delete(chunks).where(chunks.c.file_id == file_id))

    def sweep(self, known: frozenset[str], abandoned_s: float) -> None:
        """See `Bytes`. The files table says which were abandoned."""
        with self.database.write() as connection:
            # One statement, one snapshot: a file is known before its first chunk, also one begun after `known`.
            connection.execute(delete(chunks).where(chunks.c.file_id.not_in(select(files.c.id))))


class DatabaseWriter:
    """Writes each chunk as it is full, so that a large file never is in memory or in one transaction."""

    def __init__(self, database: Database, file_id: str) -> None:
        self._database, self._file_id = database, file_id
        self._kept, self._number = bytearray(), 0

    def write(self, data: bytes) -> None:
        """See `Writer`."""
        self._kept += data
        while len(self._kept) >= CHUNK_BYTES:
            self._store(bytes(self._kept[:CHUNK_BYTES]))
            del self._kept[:CHUNK_BYTES]

    def keep(self) -> None:
        """See `Writer`."""
        if self._kept:
            self._store(bytes(self._kept))
            self._kept.clear()

    def drop(self) -> None:
        """See `Writer`."""
        with self._database.write() as connection:
            connection.execute(delete(chunks).where(chunks.c.file_id == self._file_id))

    def _store(self, data: bytes) -> None:
        with self._database.write() as connection:
            connection.execute(insert(chunks).values(file_id=self._file_id, number=self._number, data=data))
        self._number += 1
