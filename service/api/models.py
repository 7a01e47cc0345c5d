"""What is served: the model, then an alias for each method, for clients that can only set a name."""

import time
from typing import Annotated

from fastapi import Path, Request

from sampler.engine import EngineInfo
from sampler.methods import METHODS
from service.api.power import split_model
from service.api.replies import ModelList, ModelReply
from service.auth import WatchingRoute, keyed_router
from service.runner import runner_of

router = keyed_router(WatchingRoute)
STARTED = int(time.time())


@router.get("/v1/models")
async def list_models(request: Request) -> ModelList:
    """The served model first, then `<model>:<method>`."""
    runner = runner_of(request)
    info = runner.engine.info
    return ModelList(object="list", data=[_model(name, info) for name in model_names(info.model)])


@router.get("/v1/models/{model}")
@router.get("/v1/models/{model:path}", include_in_schema=False)
async def get_model(model: Annotated[str, Path(max_length=512)], request: Request) -> ModelReply:
    """The model or alias of this name, which may hold slashes."""
    runner = runner_of(request)
    split_model(model, runner.engine.info.model)
    return _model(model, runner.engine.info)


def model_names(served: str) -> list[str]:
    """The served name, then its alias for each method."""
    return [served, *(f"{served}:{method}" for method in METHODS)]


def _model(name: str, info: EngineInfo) -> ModelReply:
    return ModelReply(id=name, object="model", created=STARTED, owned_by="powercut", max_model_len=info.context)
