"""`POST /v1/completions` and `POST /v1/chat/completions`: plain or by power sampling."""

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from service.api.replies import STREAM, ChatReply, CompletionReply
from service.api.requests import ChatRequest, CompletionRequest
from service.api.stream import sse
from service.auth import keyed_router
from service.complete import complete, reply_chunks
from service.errors import LEFT
from service.runner import runner_of, until_disconnect

router = keyed_router()


@router.post("/v1/completions", response_model=CompletionReply, responses=STREAM)
async def create_completion(body: CompletionRequest, request: Request) -> Response:
    """Complete each prompt `n` times."""
    return await answer(body, request)


@router.post("/v1/chat/completions", response_model=ChatReply, responses=STREAM)
async def create_chat_completion(body: ChatRequest, request: Request) -> Response:
    """Answer a conversation `n` times, in the model's own template."""
    return await answer(body, request)


async def answer(body: CompletionRequest | ChatRequest, request: Request) -> Response:
    """The reply, whole or as a stream. What is wrong with the request is said before a stream begins."""
    runner = runner_of(request)
    if body.stream:
        plan = await until_disconnect(request, runner.plan(body))
        if plan is None:
            return Response(status_code=LEFT)
        chunks = reply_chunks(runner, body, plan)
        return StreamingResponse(sse(chunks, runner.settings.keepalive_s), media_type="text/event-stream")
    reply = await until_disconnect(request, complete(runner, body))
    return Response(status_code=LEFT) if reply is None else JSONResponse(reply)
