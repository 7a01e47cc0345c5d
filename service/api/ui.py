"""`/ui`: the pages of the service, and what they are made of.

They answer without a key, since they hold no secret; the calls that they make carry the key that the page asked for.
Redirects are relative, because only the browser knows at which path a proxy has put the service.
"""

from collections.abc import Mapping

from fastapi import APIRouter, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles

from service.ui.saved import empty_page

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""A page runs the service's own scripts only, and talks to nobody else; a picture may be one that the page made."""

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # kept, but asked about each time by its ETag: a new version shows at once
}

PAGES = StaticFiles(packages=[("service.ui", ".")])
PARTS = StaticFiles(packages=[("service.ui", "static")])

router = APIRouter(prefix="/ui", include_in_schema=False)


async def sent(files: StaticFiles, path: str, request: Request) -> Response:
    """A file with the pages' headers, or 304 where the browser has it already. Raises 404 for what is not there."""
    reply = await files.get_response(path, request.scope)
    reply.headers.update(HEADERS)
    return reply


def see(address: str) -> Response:
    """A redirect to an address relative to the one that was asked for."""
    return Response(status_code=308, headers={**HEADERS, "Location": address})


@router.api_route("", methods=["GET", "HEAD"])
async def without_slash() -> Response:
    """To the page with the slash, from which relative addresses resolve."""
    return see("ui/")


@router.api_route("/analysis/", methods=["GET", "HEAD"])
async def analysis_with_slash() -> Response:
    """To the page without the slash, from which relative addresses resolve."""
    return see("../analysis")


@router.api_route("/api/", methods=["GET", "HEAD"])
async def api_with_slash() -> Response:
    """To the page without the slash, from which relative addresses resolve."""
    return see("../api")


@router.api_route("/", methods=["GET", "HEAD"])
async def explorer(request: Request) -> Response:
    """The chain explorer."""
    return await sent(PAGES, "index.html", request)


@router.api_route("/analysis", methods=["GET", "HEAD"])
async def analysis(request: Request) -> Response:
    """The page of the analyses."""
    return await sent(PAGES, "analysis.html", request)


@router.api_route("/saved.html", methods=["GET", "HEAD"])
async def saved() -> Response:
    """The page that a run is saved in, still without one. Inert here: the policy forbids what stands in the page."""
    return Response(empty_page(), media_type="text/html", headers=dict(HEADERS))


@router.api_route("/api", methods=["GET", "HEAD"])
async def api(request: Request) -> Response:
    """The page of the routes and their fields; unlike `/docs` it works behind a key and fetches nothing elsewhere."""
    return await sent(PAGES, "api.html", request)


@router.api_route("/static/{path:path}", methods=["GET", "HEAD"])
async def part(path: str, request: Request) -> Response:
    """A script, a style sheet or a picture of the pages."""
    return await sent(PARTS, path, request)
