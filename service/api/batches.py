"""`/v1/batches`: OpenAI's batches. Everybody sees the batches of their own key only."""

from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticKnownError

from service.api.files import as_list, store_of
from service.api.job_replies import MORE_ERRORS, BatchList, BatchReply
from service.api.schema import RequestModel
from service.auth import WatchingRoute, keyed_router
from service.call import call_of
from service.errors import ApiError
from service.jobs.handlers import NEEDS_MODEL, RowHandlers
from service.jobs.worker import Worker

router = keyed_router()
reading = keyed_router(WatchingRoute)
MetadataKey = Annotated[str, Field(min_length=1, max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]
METADATA_LIMIT = 16


def _is_not_crowded(given: Any) -> Any:
    """Refuse too many entries before each of them is looked at and reported."""
    if isinstance(given, dict) and len(given) > METADATA_LIMIT:
        limits = {"field_type": "Dictionary", "max_length": METADATA_LIMIT, "actual_length": len(given)}
        raise PydanticKnownError("too_long", limits)
    return given


Metadata = Annotated[
    dict[MetadataKey, MetadataValue], Field(max_length=METADATA_LIMIT), BeforeValidator(_is_not_crowded)
]


class BatchRequest(RequestModel):
    """OpenAI's request for a batch."""

    input_file_id: Annotated[str, Field(max_length=64)]
    """an uploaded file with the purpose batch"""
    endpoint: Annotated[str, Field(max_length=128)]
    """the route of all its lines"""
    completion_window: Annotated[str, Field(max_length=16)]
    """until when it must be done, such as 24h"""
    metadata: Metadata | None = None
    """up to 16 pairs of your own"""


@router.post("/v1/batches", response_model=BatchReply, responses=MORE_ERRORS)
async def create_batch(body: BatchRequest, request: Request) -> dict[str, Any]:
    """Run the requests of an uploaded file, each of them exactly once whatever happens to the server."""
    handlers: RowHandlers = request.app.state.row_handlers
    if body.endpoint not in handlers:
        message = f"endpoint: batches are run for {', '.join(sorted(handlers))}"
        raise ApiError(422, message, param="endpoint")
    store, worker = store_of(request), worker_of(request)
    model = worker.model if body.endpoint in NEEDS_MODEL else None
    made = await store.call(
        store.batches.create,
        call_of(request).key,
        body.endpoint,
        model,
        body.input_file_id,
        body.completion_window,
        body.metadata or {},
    )
    worker.poke()
    return made


def worker_of(request: Request) -> Worker:
    """The application's worker."""
    return request.app.state.worker


@reading.get("/v1/batches", response_model=BatchList, responses=MORE_ERRORS)
async def list_batches(
    request: Request,
    after: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> dict[str, Any]:
    """The batches of this key, newest first."""
    store = store_of(request)
    return as_list(*await store.call(store.batches.page, call_of(request).key, after, limit))


@reading.get("/v1/batches/{batch_id}", response_model=BatchReply, responses=MORE_ERRORS)
async def get_batch(batch_id: str, request: Request) -> dict[str, Any]:
    """How far a batch has come."""
    store = store_of(request)
    return await store.call(store.batches.get, call_of(request).key, batch_id)


@router.post("/v1/batches/{batch_id}/cancel", response_model=BatchReply, responses=MORE_ERRORS)
async def cancel_batch(batch_id: str, request: Request) -> dict[str, Any]:
    """Stop a batch; what is finished is in its files."""
    store = store_of(request)
    cancelled = await store.call(store.batches.cancel, call_of(request).key, batch_id)
    worker_of(request).poke()
    return cancelled
