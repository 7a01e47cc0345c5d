"""`GET /v1/models`: the model, then an alias for each method, for clients that can only set a name."""

import time
from typing import Any

from fastapi import APIRouter, Request

from sampler.methods import METHODS
from service.runner import Runner

router = APIRouter()
STARTED = int(time.time())


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """The served model first, then `<model>:<method>`."""
    runner: Runner = request.app.state.runner
    served = runner.engine.info.model
    names = [served, *(f"{served}:{method}" for method in METHODS)]
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": STARTED, "owned_by": "powercut"} for name in names],
    }
