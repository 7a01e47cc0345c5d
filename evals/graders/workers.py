"""Killable worker processes: each answers one request at a time, and one that is late is killed and replaced."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import evals

START_S = 120.0
"""A worker imports computer algebra; on a machine that is busy this takes its time."""


class WorkerLate(Exception):
    """A request was not answered in time; its worker is dead."""


class WorkerDied(Exception):
    """A worker ended by itself: out of memory, or it could not start."""


class Workers:
    """A pool of maths workers, started when first needed.

    Args:
        count: How many run at the most.
        limit_s: Seconds that one request may take.
    """

    def __init__(self, count: int, limit_s: float) -> None:
        self.limit_s = limit_s
        self._free = asyncio.Semaphore(count)
        self._idle: list[asyncio.subprocess.Process] = []

    async def ask(self, grader: str, gold: str, given: str) -> dict[str, Any]:
        """Have a worker grade.

        Raises:
            WorkerLate: It took longer than the limit.
            WorkerDied: It ended before it answered.
        """
        request = {"grader": grader, "gold": gold, "given": given, "limit_s": self.limit_s}
        async with self._worker() as worker:
            return await exchange(worker, json.dumps(request) + "\n", self.limit_s)

    async def aclose(self) -> None:
        """End all workers."""
        while self._idle:
            await kill(self._idle.pop())

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """A worker of one's own: put back after an answer, killed after anything else, cancellation included."""
        async with self._free:
            worker = self._idle.pop() if self._idle else await start()
            try:
                yield worker
            except BaseException:
                await kill(worker)
                raise
            self._idle.append(worker)


async def start() -> asyncio.subprocess.Process:
    """A worker that has said it is ready."""
    home = str(Path(evals.__file__).parents[1])
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "evals.graders.math_worker"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": os.defpath, "PYTHONPATH": home},
        start_new_session=True,
    )
    try:
        await exchange(worker, "", START_S)
    except BaseException:
        await kill(worker)
        raise
    return worker


async def exchange(worker: asyncio.subprocess.Process, line: str, limit_s: float) -> dict[str, Any]:
    """Send a line and read one."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        async with asyncio.timeout(limit_s):
            worker.stdin.write(line.encode())
            await worker.stdin.drain()
            answer = await worker.stdout.readline()
    except TimeoutError:
        raise WorkerLate(f"not done within {limit_s:g} s") from None
    except (BrokenPipeError, ConnectionResetError):
        answer = b""
    if not answer:
        raise WorkerDied("the worker ended before it answered")
    return json.loads(answer)


async def kill(worker: asyncio.subprocess.Process) -> None:
    """Kill a worker and see it gone."""
    with suppress(ProcessLookupError):
        worker.kill()
    if worker.stdin is not None:
        worker.stdin.close()
        with suppress(BrokenPipeError, ConnectionResetError):
            await worker.stdin.wait_closed()
    await worker.wait()
