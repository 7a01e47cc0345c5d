"""Child processes that compute, so that a limit or a client's leaving truly stops the work: the process is killed."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from service.analysis.frame import About, Analysis, AnalysisError
from service.analysis.run import Outcome

LINE_LIMIT = 1 << 20
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""The serving engine keeps its cores, and sums do not depend on how many there are."""

Progress = Callable[[float, str], None]


class WorkerDied(Exception):
    """The process ended without an answer: killed by the system, or crashed in a library."""


class WorkFailed(Exception):
    """The process answered that it could not: `out_of_memory` or `internal_error`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Task(NamedTuple):
    """A valid request on its way to a process."""

    analysis: Analysis[Any, Any]
    request: bytes
    seed: int | None
    picture: bool
    about: About = About()


class Worker:
    """One child process; does one task at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.started = False
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout

    @classmethod
    async def start(cls, registry: str, memory_bytes: int) -> "Worker":
        """A new process with this one's modules, in a session of its own: Ctrl-C is its parent's business."""
        paths = [path or os.getcwd() for path in sys.path]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "service.analysis.worker"),
            *("--registry", registry, "--memory-bytes", str(memory_bytes)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(paths)},
            limit=LINE_LIMIT,
            start_new_session=True,
        )
        return cls(process)

    @property
    def alive(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return self.process.returncode is None

    async def do(self, task: Task, progress: Progress | None) -> Outcome:
        """The task's outcome.

        Raises:
            AnalysisError: The computation refused the request.
            WorkFailed: It failed.
            WorkerDied: The process ended.
        """
        self.started = False
        about = task.about.model_dump(mode="json")
        header = {"name": task.analysis.name, "seed": task.seed, "picture": task.picture, "about": about}
        header["length"] = len(task.request)
        try:
            self._stdin.write(json.dumps(header).encode() + b"\n" + task.request)
            await self._stdin.drain()
            return await self._answer(progress)
        except (ConnectionError, asyncio.IncompleteReadError):
            raise WorkerDied from None

    async def _answer(self, progress: Progress | None) -> Outcome:
        while line := await self._stdout.readline():
            header = json.loads(line)
            match header.pop("kind"):
                case "started":
                    self.started = True
                case "progress":
                    if progress is not None:
                        progress(header["fraction"], header["note"])
                case "refused":
                    raise AnalysisError(**header)
                case "failed":
                    raise WorkFailed(header["reason"])
                case "done":
                    reply = await self._stdout.readexactly(header["reply"])
                    return Outcome(reply, await self._stdout.readexactly(header["picture"]) or None)
        raise WorkerDied

    def kill(self) -> None:
        """End it now, in the middle of whatever it does."""
        if self.alive:
            with suppress(ProcessLookupError):
                self.process.kill()

    async def end(self) -> None:
        """Kill it and wait until nothing of it is left."""
        self.kill()
        self._stdin.close()
        with suppress(ConnectionError):
            await self._stdout.read()  # a pipe that is full and paused would never be seen to close
        await self.process.wait()


class Pool:
    """Processes that are started when first needed and used again.

    It does not limit how many work at once; its owner does. At most `keep` idle ones are kept.

    Args:
        registry: Where a process finds the analyses, as `module:name`.
        memory_bytes: Most address space of a process; 0 = any. Not for an analysis with a process of its own.
        keep: Idle processes kept for the next task.
    """

    def __init__(self, registry: str, memory_bytes: int, keep: int) -> None:
        self.registry, self.memory_bytes, self.keep = registry, memory_bytes, keep
        self.idle: list[Worker] = []
        self.busy: set[Worker] = set()

    async def run(self, task: Task, time_limit_s: float, progress: Progress | None = None) -> Outcome:
        """The task's outcome; raises what `Worker.do` raises, and TimeoutError.

        A process that died while it was idle never began the task, which then goes to a new one.
        """
        async with asyncio.timeout(time_limit_s):
            while True:
                worker, is_new = await self._take(task.analysis)
                try:
                    return await self._do(worker, task, progress)
                except WorkerDied:
                    if is_new or worker.started:
                        raise

    async def _take(self, analysis: Analysis[Any, Any]) -> tuple[Worker, bool]:
        while self.idle and not analysis.own_process:
            worker = self.idle.pop()
            if worker.alive:
                return worker, False
            await worker.end()
        return await Worker.start(self.registry, 0 if analysis.own_process else self.memory_bytes), True

    async def _do(self, worker: Worker, task: Task, progress: Progress | None) -> Outcome:
        """Run on this process, which is kept only if it is certain to be waiting for a next task."""
        self.busy.add(worker)
        reusable = False
        try:
            outcome = await worker.do(task, progress)
            reusable = True
        except AnalysisError:
            reusable = True
            raise
        finally:
            self.busy.discard(worker)
            if reusable and not task.analysis.own_process and len(self.idle) < self.keep:
                self.idle.append(worker)
            else:
                await worker.end()
        return outcome

    async def aclose(self) -> None:
        """End every process."""
        for worker in self.busy:
            worker.kill()  # its task reads the end and does the rest
        while self.idle:
            await self.idle.pop().end()
