"""Everything durable of one server process, made from the settings; its calls run in threads of their own.

Nothing is opened before it is needed: a server whose users send no batches touches no disk.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from platformdirs import user_data_path

from sampler.errors import InvalidParams
from service.jobs.batches import Batches
from service.jobs.content import DatabaseBytes, DiskBytes
from service.jobs.database import Database
from service.jobs.files import FileLimits, Files
from service.jobs.presence import Presence
from service.jobs.rows import Rows
from service.jobs.tend import Tending
from service.settings import Settings, revealed

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 4
HOUR_S = 3600.0


class Store:
    """Files, batches and rows."""

    def __init__(self, settings: Settings) -> None:
        folder = settings.data_dir or Path(user_data_path("powercut"))
        try:
            self.database = Database(revealed(settings.database_url), folder)
        except ValueError as error:
            raise InvalidParams("database_url", str(error)) from None
        in_database = settings.file_store == "database" or (settings.file_store is None and self.database.is_postgres)
        content = DatabaseBytes(self.database) if in_database else DiskBytes(folder / "files")
        limits = FileLimits(
            settings.max_upload_bytes,
            settings.max_stored_bytes,
            settings.max_batch_lines,
            settings.max_body_bytes,
            settings.file_expiry_s,
            max(HOUR_S, 2 * settings.upload_timeout_s),  # one that may still arrive is no abandoned one
        )
        self.files = Files(self.database, content, limits)
        self.batches = Batches(self.database, self.files)
        self.rows = Rows(self.database, settings.lease_s)
        self.tending = Tending(self.database, self.files, settings.lease_s)
        self.places, self.checkpoint_s, self.poll_s = settings.batch_rows, settings.checkpoint_s, settings.batch_poll_s
        self.beat_s = settings.lease_s / 4
        self._presence = None if self.database.is_postgres else Presence(folder / "workers")
        self._calls = set[Future[Any]]()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="jobs")

    @property
    def exists(self) -> bool:
        """Whether there may be work."""
        return self.database.exists

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function of the store in one of its threads."""
        call = self._threads.submit(partial(function, *args, **kwargs))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return await asyncio.wrap_future(call)

    async def quiet(self) -> None:
        """Wait for the calls that run, and for those nobody waits for: a cancelled claim is made all the same."""
        await asyncio.gather(*map(asyncio.wrap_future, list(self._calls)), return_exceptions=True)

    def take_over(self, worker: str) -> None:
        """Say that this worker lives, and give back the rows of those of this folder that died."""
        if self._presence is not None:
            self._presence.enter(worker)
            for other in list(self._presence.dead()):
                self.rows.release(other, died=True)
                self._presence.bury(other)

    def leave(self, worker: str) -> None:
        """Give this worker's rows back: it stops."""
        self.rows.release(worker, died=False)
        if self._presence is not None:
            self._presence.leave(worker)

    def close(self) -> None:
        """Wait for the calls that run, and close the database."""
        self._threads.shutdown()
        self.database.close()
