"""`/v1/analysis`: one typed route an analysis, built from the registry, and the list of them."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from fastapi.openapi.models import Example
from fastapi.responses import Response
from pydantic import BaseModel

from service.analysis import ANALYSES
from service.analysis.analyst import PREFIX, Analyst, Busy
from service.analysis.frame import Analysis
from service.analysis.run import Outcome
from service.api.replies import ErrorReply
from service.auth import keyed_router
from service.call import Call, call_of
from service.errors import ApiError
from service.runner import until_disconnect

RETRY_AFTER_S = 1
PNG = "image/png"


CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {"model": ErrorReply, "description": "The request's parts contradict one another"}
}
"""What an analysis may answer beside the errors that every route has."""


class PaperInfo(BaseModel):
    """Where a method comes from."""

    title: str
    arxiv: str


class AnalysisInfo(BaseModel):
    """One analysis of the list."""

    name: str
    path: str
    summary: str
    paper: PaperInfo
    job_only: bool
    seeded: bool
    example: dict[str, Any]


class AnalysisList(BaseModel):
    """All analyses."""

    object: str = "list"
    data: list[AnalysisInfo]


def describe(analysis: Analysis[Any, Any]) -> AnalysisInfo:
    """How the list shows it."""
    return AnalysisInfo(
        name=analysis.name,
        path=PREFIX + analysis.name,
        summary=analysis.summary,
        paper=PaperInfo(title=analysis.paper.title, arxiv=analysis.paper.arxiv),
        job_only=analysis.job_only,
        seeded=analysis.seeded,
        example=analysis.example,
    )


def wants_picture(accept: str) -> bool:
    """Whether an Accept header likes a PNG better than JSON, by its q values (RFC 9110, 12.5.1)."""
    likes = {"png": 0.0, "json": 0.0}
    for part in accept.lower().split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((_quality(one[2:]) for one in parameters if one.startswith("q=")), 1.0)
        if media in {PNG, "image/*"}:
            likes["png"] = max(likes["png"], quality)
        if media in {"application/json", "application/*", "*/*"}:
            likes["json"] = max(likes["json"], quality)
    return likes["png"] > likes["json"]


def _quality(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0


async def until_cut(call: Call, work: Coroutine[Any, Any, Outcome]) -> Outcome:
    """The work's outcome; 503, with its process killed, if the server stops before it ends."""
    task = asyncio.ensure_future(work)

    def stop() -> None:
        task.cancel()

    call.at_cut(stop)
    try:
        return await task
    except asyncio.CancelledError:
        if call.is_cut:
            raise ApiError(503, "the server stopped before the analysis ended", code="shutting_down") from None
        raise


def _handler(analysis: Analysis[Any, Any]) -> Callable[..., Awaitable[Response]]:
    async def handle(body: Any, request: Request) -> Response:
        analyst: Analyst = request.app.state.analyst
        picture = wants_picture(request.headers.get("accept", ""))
        try:
            work = until_cut(call_of(request), analyst.run(analysis, body, picture=picture))
            outcome = await until_disconnect(request, work)
        except Busy:
            message = f"{analyst.settings.analysis_workers} analyses run already; try again"
            raise ApiError(
                429, message, code="analysis_busy", kind="rate_limit_error", retry_after_s=RETRY_AFTER_S
            ) from None
        if outcome is None:
            return Response(status_code=499)  # nobody reads it
        if outcome.picture is not None:
            return Response(outcome.picture, media_type=PNG)
        return Response(outcome.reply, media_type="application/json")

    example: dict[str, Example] = {"example": {"summary": analysis.summary, "value": analysis.example}}
    handle.__annotations__["body"] = Annotated[analysis.request, Body(openapi_examples=example)]
    return handle


def make_router(analyses: Mapping[str, Analysis[Any, Any]]) -> APIRouter:
    """The list, and a route for each line of the registry."""
    router = keyed_router()

    @router.get(PREFIX.rstrip("/"))
    async def list_analyses() -> AnalysisList:
        """Every analysis, with its paper and an example that can be posted as it is."""
        return AnalysisList(data=[describe(analysis) for analysis in analyses.values()])

    for analysis in analyses.values():
        content = {"model": analysis.response, "content": {PNG: {"schema": {"type": "string", "format": "binary"}}}}
        router.add_api_route(
            PREFIX + analysis.name,
            _handler(analysis),
            methods=["POST"],
            response_model=None,
            responses={200: content, **CONFLICT},
            summary=analysis.summary,
            description=f"{analysis.paper.title} (arXiv {analysis.paper.arxiv}).",
            operation_id="analyse_" + analysis.name.replace("-", "_").replace("/", "_"),
        )
    return router


router = make_router(ANALYSES)
