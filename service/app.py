"""The only wiring: settings and an engine become an application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from sampler.engine import Engine
from service import errors
from service.analysis.analyst import Analyst
from service.api import analysis, completions, health, models
from service.middleware import BodyLimit, UnexpectedErrors
from service.runner import Runner
from service.settings import Settings


def create_app(engine: Engine, settings: Settings | None = None) -> FastAPI:
    """The service on a loaded engine, which it closes when it stops."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await app.state.analyst.aclose()
        await engine.aclose()

    app = FastAPI(title="powercut", description="Draws from a base model's power distribution", lifespan=lifespan)
    app.state.runner = Runner(engine, settings)
    app.state.analyst = Analyst(settings)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(UnexpectedErrors)
    for family in (completions, models, health, analysis):
        app.include_router(family.router)
    errors.install(app)
    return app
