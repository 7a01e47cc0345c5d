"""One replica: the application on an engine of its own, and what Ray Serve asks of it besides requests."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from fastapi import FastAPI
from prometheus_client import Metric

from sampler.engine import Engine
from service.app import create_app
from service.call import Call
from service.errors import ApiError
from service.house import House
from service.jobs.worker import Worker
from service.logs import configure
from service.replicas.metrics import PATIENCE_S, labelled, page
from service.replicas.scaling import QUEUED, ROWS, SHARE
from service.server import CLOSING_S
from service.settings import Settings

LoadEngine = Callable[[], Engine]


class Replica:
    """Made by Serve in a process of its own, anew whenever its engine has died.

    `load` loads the engine; it and the settings travel to the replica's machine.
    """

    def __init__(self, load: LoadEngine, settings: Settings) -> None:
        self._load, self._settings = load, settings
        self._app: FastAPI | None = None

    async def __serve_build_asgi_app__(self) -> FastAPI:
        """The application. The engine is loaded in a thread: loading may take minutes, and may want a loop itself."""
        configure(self._settings.log_level)
        engine = await asyncio.to_thread(self._load)
        self._app = create_app(engine, self._settings)
        self._house.telemetry.everywhere = self.everywhere
        return self._app

    @property
    def _house(self) -> House:
        assert self._app is not None, "Serve builds the application first"
        return self._app.state.runner.house

    async def check_health(self) -> None:
        """Fail, upon which Serve makes a new replica, once the engine is dead."""
        if not self._house.engine.alive:
            raise RuntimeError("the engine is dead")

    async def about(self) -> dict[str, Any]:
        """What the engine is."""
        info = self._house.engine.info
        return {"model": info.model, "engine": info.name, "details": dict(info.details)}

    async def drain(self) -> int:
        """Let nothing new begin, give what runs its time, and cut off the rest; how many requests that were."""
        drain = self._house.drain
        drain.stop()
        await all_ended(drain.calls, drain.drain_s)
        cut = drain.cut()
        await all_ended(drain.calls, CLOSING_S)
        return cut

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What the number of replicas is decided by (`service.replicas.scaling`)."""
        account, limits = self._house.admission, self._settings
        tokens = account.running_tokens / limits.max_running_tokens
        requests = account.running_requests / limits.max_running_requests
        return {QUEUED: account.queued_tokens, SHARE: max(tokens, requests), ROWS: self._replicas_for_rows()}

    def _replicas_for_rows(self) -> float:
        """How many replicas would run all rows of batches at once that wait or run, wherever; 0 where none are run."""
        assert self._app is not None
        worker: Worker = self._app.state.worker
        return sum(worker.counted.values()) / self._settings.batch_rows if self._settings.batch_rows else 0.0

    async def families(self) -> list[Metric]:
        """This replica's counters, with its name."""
        return labelled(self._house.telemetry.registry.collect(), _context().replica_tag)

    async def everywhere(self) -> bytes:
        """The counters of all replicas.

        Raises:
            ApiError: 503 if they do not tell in time.
        """
        from ray import serve

        context = _context()
        handle = serve.get_deployment_handle(context.deployment, app_name=context.app_name)
        try:
            told = await handle.broadcast("families").results_async(timeout_s=PATIENCE_S, return_exceptions=True)
        except TimeoutError:
            raise ApiError(503, "not all replicas tell their counters now", code="replicas_silent") from None
        heard = [each for each in told if isinstance(each, list)]
        return page(heard, len(told) - len(heard))


async def all_ended(calls: Iterable[Call], longest_s: float) -> None:
    """Wait until these requests are over, but not for ever."""
    ends = []
    for call in calls:
        ends.append(asyncio.Event())
        call.at_end(ends[-1].set)
    with suppress(TimeoutError):
        async with asyncio.timeout(longest_s):
            for end in ends:
                await end.wait()


def _context() -> Any:
    """Who this replica is."""
    from ray import serve

    return serve.get_replica_context()
