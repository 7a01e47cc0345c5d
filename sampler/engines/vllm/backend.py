"""vLLM and the thread it lives in.

`AsyncLLM` belongs to one event loop. It gets one of its own, in a thread, so that it can be started before the
server's loop, used from any loop, and cannot be held up by the server's work, nor hold it up.

A dead engine must not leave anybody waiting. vLLM tells its waiters, but not from every death; so each call also
waits for a future that is set as soon as vLLM says, by whatever way, that it is dead.
"""

import asyncio
import itertools
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sampler.engines.vllm.library import AsyncLLM, EngineDeadError, GracefulHTTPError, VLLMClientError, tokens_input
from sampler.errors import EngineDead, EngineError, EngineOverloaded, InvalidParams, SamplerError

Result = TypeVar("Result")

DIED = "the vLLM engine has died"
CLOSED = "the engine has been closed"
PULSE_S = 0.25
"""Seconds between two looks at whether vLLM is alive."""


def translate(error: Exception) -> SamplerError:
    """The sampler's error for what vLLM, or a watcher, raised."""
    if isinstance(error, EngineDeadError):
        return EngineDead(DIED)
    if isinstance(error, VLLMClientError):
        return InvalidParams("request", f"vLLM refuses this request: {error}")
    if isinstance(error, GracefulHTTPError):
        return EngineOverloaded("vLLM has no room for this request now")
    return EngineError(f"vLLM failed on this request: {type(error).__name__}")


class Backend:
    """A running vLLM. `call` runs a coroutine beside it; `stream` is one of its requests."""

    def __init__(self, arguments: Any) -> None:
        self._numbers = itertools.count()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._death: asyncio.Future[str] = self._loop.create_future()
        self._calls: set[asyncio.Task[Any]] = set()
        started: Future[Any] = Future()
        self._thread = threading.Thread(target=self._run, args=(arguments, started), name="powercut-vllm", daemon=True)
        self._thread.start()
        self.llm: Any = started.result()

    @property
    def alive(self) -> bool:
        """Whether a call may still work."""
        return not (self._closed or self._death.done() or self.llm.errored) and self._thread.is_alive()

    async def call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Await work that runs on vLLM's loop; cancelling cancels it. Raises `EngineDead` if vLLM dies meanwhile."""
        if not self.alive:
            work.close()
            raise EngineDead(CLOSED if self._closed else DIED)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._guard(work), self._loop))

    @asynccontextmanager
    async def stream(
        self, ids: tuple[int, ...], params: Any, number: str, priority: int = 0, rank: int | None = None
    ) -> AsyncGenerator[AsyncIterator[Any]]:
        """One vLLM request and its outputs. Leaving early, for whatever reason, aborts it."""
        outputs = self.llm.generate(tokens_input(list(ids)), params, number, priority=priority, data_parallel_rank=rank)
        try:
            yield outputs
        finally:
            # By its number, not only by closing the generator: that aborts nothing while the request is being added.
            if not self.llm.errored:
                await self.llm.abort(number)
            await outputs.aclose()

    def number(self) -> str:
        """A name for a request."""
        return f"powercut-{next(self._numbers)}"

    async def abort(self, number: str) -> None:
        """End a request: its outputs end with finish reason abort."""
        await self.llm.abort(number)

    def close(self) -> None:
        """Answer whoever waits and stop vLLM."""
        if self._closed:
            return
        self._closed = True
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    async def _guard(self, work: Coroutine[Any, Any, Result]) -> Result:
        task = asyncio.ensure_future(work)
        self._calls.add(task)
        try:
            await asyncio.wait({task, self._death}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise EngineDead(self._death.result())
            return task.result()
        except SamplerError:
            raise
        except Exception as error:
            raise translate(error) from error
        finally:
            task.cancel()
            self._calls.discard(task)

    def _run(self, arguments: Any, started: "Future[Any]") -> None:
        asyncio.set_event_loop(self._loop)
        try:
            llm = AsyncLLM.from_engine_args(arguments)
        except BaseException as error:  # whoever starts the engine hears of it
            self._loop.close()
            started.set_exception(error)
            return
        started.set_result(llm)
        self._pulse = self._loop.create_task(self._watch_over(llm))
        self._loop.run_forever()

    async def _watch_over(self, llm: Any) -> None:
        while not llm.errored:  # noqa: ASYNC110 - vLLM has no event for it
            await asyncio.sleep(PULSE_S)
        self._die(DIED)

    def _die(self, reason: str) -> None:
        if not self._death.done():
            self._death.set_result(reason)

    async def _stop(self) -> None:
        self._die(CLOSED)
        if self._calls:
            await asyncio.wait(set(self._calls), timeout=1.0)
        self.llm.shutdown()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.wait(rest, timeout=5.0) if rest else None
