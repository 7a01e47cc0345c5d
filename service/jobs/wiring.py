"""Joins the batch jobs to an application: its store, its worker, and the handlers of its rows."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from service.jobs.handlers import RowHandlers, generated_rows
from service.jobs.store import Store
from service.jobs.unavailable import StoreUnavailable
from service.jobs.worker import Worker
from service.runner import Runner

log = logging.getLogger("powercut")

SWEEP_S = 3600.0
"""How often expired files are looked for."""


def install_jobs(app: FastAPI, runner: Runner, others: RowHandlers) -> Callable[[], AbstractAsyncContextManager[None]]:
    """Put store, worker and handlers on the application; what is returned runs them while it serves.

    `others` are the handlers of rows that the engine does not answer.
    """
    house = runner.house
    store = Store(house.settings)
    handlers = {**generated_rows(runner), **others}
    app.state.store, app.state.row_handlers = store, handlers
    model, telemetry = runner.engine.info.model, house.telemetry

    def open_for_rows() -> bool:
        return runner.engine.alive and not house.drain.stopping

    worker = app.state.worker = Worker(store, handlers, model, telemetry, open_for_rows)
    telemetry.observe_rows(lambda state: worker.counted.get(state, 0))

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
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
            try:
                await store.call(store.files.sweep)
            except StoreUnavailable:  # the worker says so
                pass
            except Exception:  # a sweep that fails once is no reason never to sweep again
                log.exception("unexpected error while looking for expired files")
        await asyncio.sleep(SWEEP_S)
