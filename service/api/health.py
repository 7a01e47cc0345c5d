"""`/livez`: the loop answers. `/readyz`: the engine takes work. Neither generates anything."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from service.runner import Runner

router = APIRouter()


@router.get("/livez")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", response_model=None)
async def ready(request: Request) -> JSONResponse:
    """The model is loaded and its engine alive."""
    runner: Runner = request.app.state.runner
    if not runner.engine.alive:
        return JSONResponse({"status": "the engine is dead"}, 503)
    return JSONResponse({"status": "ready"})
