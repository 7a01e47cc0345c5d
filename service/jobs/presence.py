"""Who is alive on a data folder: each worker holds a lock on a file of its name, which dies with its process.

So the rows of a killed server are taken over at once when it is started again, and not when its leases have run out.
Leases remain for what holds its lock but does nothing. Replicas on PostgreSQL share no folder and have leases alone.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from service.jobs.unavailable import unavailable

if sys.platform != "win32":
    import fcntl


class Presence:
    """The lock files in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}

    def enter(self, worker: str) -> None:
        """Say that a worker lives. The file appears locked: nobody can take it for a dead one's.

        Raises `StoreUnavailable` where the folder cannot be written.
        """
        if worker in self._held or sys.platform == "win32":
            return
        try:
            self._held[worker] = self._locked(worker)
        except OSError as error:
            raise unavailable(error) from error

    def _locked(self, worker: str) -> int:
        self._folder.mkdir(parents=True, exist_ok=True)
        made = self._folder / f"{worker}.part"
        handle = os.open(made, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            made.rename(self._folder / worker)
        except OSError:
            os.close(handle)
            raise
        return handle

    def leave(self, worker: str) -> None:
        """Say that it has gone."""
        handle = self._held.pop(worker, None)
        if handle is not None:
            (self._folder / worker).unlink(missing_ok=True)
            os.close(handle)

    def dead(self) -> Iterator[str]:
        """Workers that died; each is told of until `bury` is called."""
        if sys.platform == "win32" or not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            if path.name not in self._held and path.suffix != ".part" and not _is_locked(path):
                yield path.name

    def bury(self, worker: str) -> None:
        """A dead worker's rows have been given back."""
        (self._folder / worker).unlink(missing_ok=True)


def _is_locked(path: Path) -> bool:
    with suppress(FileNotFoundError):
        handle = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        return False
    return True  # somebody else has buried it
