"""`GET /v1/models`: the model, then an alias for each method, for clients that can only set a name."""

import time
from typing import Any

from fastapi import Request

from sampler.methods import METHODS
from service.auth import WatchingRoute, keyed_router
from service.runner import runner_of

router = keyed_router(WatchingRoute)
STARTED = int(time.time())


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """The served model first, then `<model>:<method>`."""
    runner = runner_of(request)
    served = runner.engine.info.model
    names = [served, *(f"{served}:{method}" for method in METHODS)]
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": STARTED, "owned_by": "powercut"} for name in names],
    }
