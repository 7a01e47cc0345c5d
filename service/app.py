"""The only wiring: settings and an engine become an application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from sampler.engine import Engine
from service import errors
from service.analysis.analyst import Analyst
from service.api import analysis, batches, completions, files, health, models, operation, tokenize, ui
from service.api.models import model_names
from service.api.replies import ERRORS
from service.auth import publish_keys
from service.closing import close_all
from service.jobs.ledger import StoreLedger
from service.jobs.outcome import row_seed
from service.jobs.wiring import install_jobs
from service.middleware import BodyLimit, Calls, UnexpectedErrors
from service.openapi import publish
from service.runner import Runner
from service.settings import Settings
from service.version import VERSION


def create_app(engine: Engine, settings: Settings | None = None) -> FastAPI:
    """The service on a loaded engine, which it closes when it stops.

    No cross-origin headers are sent: a page of another site cannot read a reply.
    """
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        running = jobs()
        await running.__aenter__()
        try:
            yield
        finally:
            parts = {"jobs": lambda: running.__aexit__(None, None, None), "analyses": analyst.aclose}
            runner.house.drain.unclosed = await close_all({**parts, "engine": engine.aclose})

    app = FastAPI(
        title="powercut",
        description="Draws from a base model's power distribution",
        version=VERSION,
        lifespan=lifespan,
        responses=ERRORS,
        openapi_url=None,  # the schema and its pages are routes of ours, behind a key
    )
    app.state.runner = runner = Runner(engine, settings)
    app.state.analyst = analyst = Analyst(settings, checkpoint=engine.info.checkpoint)
    jobs = install_jobs(app, runner, analyst.row_handlers(lambda context: row_seed(context.key, 0)))
    analyst.ledger = StoreLedger(app.state.store.database, settings)
    upload = (settings.max_upload_bytes + files.OVERHEAD_BYTES, settings.upload_timeout_s)
    app.add_middleware(
        BodyLimit,
        max_bytes=settings.max_body_bytes,
        timeout_s=settings.body_timeout_s,
        others={"/v1/files": upload},
    )
    app.add_middleware(UnexpectedErrors)
    app.add_middleware(Calls, settings=settings, telemetry=runner.house.telemetry)
    for family in (completions, models, tokenize, health, analysis, files, batches, ui):
        app.include_router(family.router)
    for family in (files, batches):
        app.include_router(family.reading)
    app.include_router(files.sending)
    for router in operation.routers(settings):
        app.include_router(router)
    errors.install(app)
    publish(app, model_names(engine.info.model), engine.info.vocabulary, empty_text=bool(engine.tokenizer.encode("")))
    if runner.house.keys:
        publish_keys(app)
    return app
