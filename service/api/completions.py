"""`POST /v1/completions`: a base model's own endpoint, plain or by power sampling."""

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from service.api.requests import CompletionRequest
from service.api.stream import sse
from service.auth import keyed_router
from service.complete import complete, completion_chunks
from service.runner import runner_of, until_disconnect

router = keyed_router()


@router.post("/v1/completions", response_model=None)
async def create_completion(body: CompletionRequest, request: Request) -> Response:
    """Complete each prompt `n` times."""
    runner = runner_of(request)
    if body.stream:
        chunks = completion_chunks(runner, body, await runner.plan(body))
        return StreamingResponse(sse(chunks, runner.settings.keepalive_s), media_type="text/event-stream")
    reply = await until_disconnect(request, complete(runner, body))
    return Response(status_code=499) if reply is None else JSONResponse(reply)  # nobody reads a 499
