"""Joins the batch jobs to an application: its store, its worker, and the handlers of its rows."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from fastapi import FastAPI

from service.jobs.handlers import generated_rows
from service.jobs.store import Store
from service.jobs.unavailable import StoreUnavailable
from service.jobs.worker import Worker
from service.runner import Runner

log = logging.getLogger("powercut")

SWEEP_S = 3600.0
"""How often expired files are looked for."""


def install_jobs(app: FastAPI, runner: Runner) -> Callable[[], AbstractAsyncContextManager[None]]:
    """Put store, worker and handlers on the application; what is returned runs them while it serves.

    Other families add their handlers to `app.state.row_handlers` before the application starts.
    """
    house = runner.house
    store = Store(house.settings)
    handlers = generated_rows(runner)
    app.state.store, app.state.row_handlers = store, handlers
    model, telemetry = runner.engine.info.model, house.telemetry

    def open_for_rows() -> bool:
        return runner.engine.alive and not house.drain.stopping

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        worker = app.state.worker = Worker(store, handlers, model, telemetry, open_for_rows)
        telemetry.observe_rows(lambda state: worker.counted.get(state, 0))
        worker.start()
        sweeping = asyncio.create_task(_sweep(store))
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
            await worker.stop()
            await asyncio.to_thread(store.close)

    return running


async def _sweep(store: Store) -> None:
    while True:
        if store.exists:
            with suppress(StoreUnavailable):  # the worker says so
                await store.call(store.files.sweep)
        await asyncio.sleep(SWEEP_S)
