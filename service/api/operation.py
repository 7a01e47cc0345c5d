"""`/metrics`, and the schema with its pages: behind a key where keys are set, unless a setting opens them."""

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from service.auth import WatchingRoute, keyed_router
from service.house import House
from service.settings import Settings

SCHEMA = "/openapi.json"
BESIDE = SCHEMA.lstrip("/")
"""Its address from the pages of it, whatever path a proxy has put the service at."""


def routers(settings: Settings) -> list[APIRouter]:
    """The routers of both."""
    metrics = APIRouter() if settings.open_metrics else keyed_router(WatchingRoute)
    metrics.add_api_route("/metrics", tell, include_in_schema=False)
    pages = APIRouter() if settings.open_docs else keyed_router(WatchingRoute)
    for path, page in ((SCHEMA, schema), ("/docs", docs), ("/redoc", redoc)):
        pages.add_api_route(path, page, include_in_schema=False)
    return [metrics, pages]


async def tell(request: Request) -> Response:
    """All counters, in Prometheus' text form."""
    house: House = request.app.state.runner.house
    return Response(house.telemetry.text(), media_type=CONTENT_TYPE_LATEST)


async def schema(request: Request) -> JSONResponse:
    """The OpenAPI schema."""
    return JSONResponse(request.app.openapi())


async def docs(request: Request) -> HTMLResponse:
    """Swagger's page of the schema."""
    return get_swagger_ui_html(openapi_url=BESIDE, title=request.app.title)


async def redoc(request: Request) -> HTMLResponse:
    """Redoc's page of the schema."""
    return get_redoc_html(openapi_url=BESIDE, title=request.app.title)
