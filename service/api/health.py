"""What anybody may ask: `/livez` (the loop answers), `/readyz` (the engine takes work), `/version`.

None of them generates anything, waits or needs a key.
"""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from service.api.replies import VersionReply
from service.house import House
from service.version import VERSION

router = APIRouter()


@router.get("/livez")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", response_model=None, responses={503: {"model": dict[str, str]}})
async def ready(request: Request) -> JSONResponse:
    """The model is loaded, its engine alive, and the server not stopping."""
    house: House = request.app.state.runner.house
    if house.drain.stopping:
        return JSONResponse({"status": "the server is stopping"}, 503)
    if not house.engine.alive:
        return JSONResponse({"status": "the engine is dead"}, 503)
    return JSONResponse({"status": "ready"})


@router.get("/version")
async def version() -> VersionReply:
    """This service's version."""
    return VersionReply(version=VERSION)
