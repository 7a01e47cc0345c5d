"""One table: exception → HTTP status, OpenAI error type and code. Every error leaves in OpenAI's shape."""

import logging
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from sampler import errors
from service.jobs.unavailable import StoreFull, StoreUnavailable

log = logging.getLogger("powercut")


class Kind(NamedTuple):
    """How an exception looks from outside."""

    status: int
    type: str
    code: str


TABLE: dict[type[Exception], Kind] = {
    errors.ContextExceeded: Kind(400, "invalid_request_error", "context_length_exceeded"),
    errors.NoChatTemplate: Kind(400, "invalid_request_error", "no_chat_template"),
    errors.InvalidParams: Kind(422, "invalid_request_error", "invalid_value"),
    errors.EngineOverloaded: Kind(429, "rate_limit_error", "engine_overloaded"),
    errors.EngineOutOfMemory: Kind(503, "server_error", "out_of_memory"),
    errors.EngineDead: Kind(503, "server_error", "engine_dead"),
    errors.EngineError: Kind(500, "server_error", "engine_error"),
    errors.NumericalError: Kind(500, "server_error", "numerical_error"),
    StoreFull: Kind(507, "server_error", "insufficient_storage"),
    StoreUnavailable: Kind(503, "server_error", "store_unavailable"),
}


RETRY_AFTER_S: dict[type[Exception], int] = {
    errors.EngineOverloaded: 1,
    errors.EngineOutOfMemory: 5,
    StoreFull: 60,
    StoreUnavailable: 5,
}
"""Failures that may be over soon: seconds until it is worth another try."""
FRAMES = 12
"""Innermost calls that the log shows of an unexpected error."""

BODY_REASONS: dict[type[BaseException], str] = {
    UnicodeDecodeError: "it is not UTF-8",
    RecursionError: "it is nested too deeply",
    ValueError: "it holds a number of too many digits",
}
"""Why a body could not be read, for the failures that FastAPI does not name itself."""

LEFT = 499
"""Status of a request whose client left before the reply; only log lines and metrics see it."""
NAME_LIMIT = 64
"""Characters of a caller's own field name that an error may repeat."""
NAMES_LIMIT = 5
"""Further wrong fields that an error may name."""


class ApiError(HTTPException):
    """An error that the HTTP layer itself decides on. FastAPI lets an HTTPException through while it reads a body.

    `retry_after_s` tells the client when to come back, `reached` how far work had come that was cut off.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str = "invalid_value",
        kind: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry_after_s: int | None = None,
        reached: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.status, self.message, self.param, self.code = status, message, param, code
        self.kind = kind or ("invalid_request_error" if status < 500 else "server_error")
        self.retry_after_s, self.reached = retry_after_s, reached


def body(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def describe(error: Exception) -> tuple[int, dict[str, Any]]:
    """Status and body of any exception. What is not in the table says nothing of its insides."""
    if isinstance(error, ApiError):
        content = body(error.message, error.kind, error.param, error.code)
        if error.reached is not None:
            content["error"]["reached"] = dict(error.reached)
        return error.status, content
    for ancestor in type(error).__mro__:
        if ancestor in TABLE:
            kind = TABLE[ancestor]
            return kind.status, body(str(error), kind.type, getattr(error, "field", None), kind.code)
    log.error("unexpected error", extra={"failure": where(error)})
    return 500, body("the server failed on this request", "server_error", None, "internal_error")


def headers_of(error: Exception) -> dict[str, str]:
    """Headers that an error's reply has beside the usual."""
    given = dict(getattr(error, "headers", None) or {})
    wait_s = getattr(error, "retry_after_s", None)
    if wait_s is None:
        wait_s = next((RETRY_AFTER_S[kind] for kind in type(error).__mro__ if kind in RETRY_AFTER_S), None)
    return given if wait_s is None else given | {"Retry-After": str(wait_s)}


def where(error: BaseException) -> dict[str, Any]:
    """Type and place of an error, without its message: that could hold a prompt."""
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    at = [f"{code.co_filename}:{line} {code.co_qualname}" for code, line in frames[-FRAMES:]]
    return {"type": type(error).__name__, "at": at}


def describe_validation(found: Sequence[Mapping[str, Any]], sent: object) -> tuple[int, dict[str, Any]]:
    """Status and body of a request that does not fit its schema: names the field and the limit, echoes nothing.

    `found` are Pydantic's errors, each `loc` with "body" before it; `sent` is the body as it was parsed, which tells
    the caller's own names from those of branches that Pydantic tried.
    """
    if found[0]["type"] == "json_invalid":
        return unreadable(str(found[0].get("ctx", {}).get("error", "")))
    if found[0]["loc"] == ("body",) and found[0]["type"] in {"missing", "model_attributes_type"}:
        message = "the body must be a JSON object, sent with the header content-type: application/json"
        return 422, body(message, "invalid_request_error", None, "invalid_value")
    # A union reports each branch it tried: the one that got furthest says most.
    field = [error for error in found if error["loc"][1:2] == found[0]["loc"][1:2]]
    first = max(field, key=lambda error: (not error["type"].endswith("_type"), len(error["loc"])))
    param = _name(written := _written(first, sent))
    message = str(first["msg"]).removeprefix("Value error, ")
    others = {_name(_without_indices(_written(error, sent))) for error in found}
    others -= {_name(_without_indices(written)), None}
    if others:
        shown = sorted(str(other) for other in others)
        message += f" (also wrong: {', '.join(shown[:NAMES_LIMIT])}{' …' if len(shown) > NAMES_LIMIT else ''})"
    code = "unknown_field" if first["type"] == "extra_forbidden" else "invalid_value"
    return 422, body(f"{param}: {message}" if param else message, "invalid_request_error", param, code)


def unreadable(reason: str) -> tuple[int, dict[str, Any]]:
    """Status and body of a request whose body is not JSON."""
    return 400, body(f"the body is not valid JSON: {reason}", "invalid_request_error", None, "invalid_json")


def _written(error: Mapping[str, Any], sent: object) -> list[object]:
    """The path to a field as the caller wrote it: Pydantic adds the branch of a union, such as `list[int]` or a tag."""
    place, *loc = error["loc"]
    if place != "body":
        return loc
    written: list[object] = []
    for at, part in enumerate(loc):
        is_key = isinstance(sent, Mapping) and part in sent
        is_tag = isinstance(sent, Mapping) and part == sent.get("type") and 0 < at < len(loc) - 1
        is_index = isinstance(sent, list) and isinstance(part, int) and part < len(sent)
        if (is_key and not is_tag) or is_index:
            sent = cast(Any, sent)[part]
            written.append(part)
    return [*written, loc[-1]] if error["type"] == "missing" else written


def _name(parts: Sequence[object]) -> str | None:
    name = ".".join(map(str, parts))
    return (name if len(name) <= NAME_LIMIT else f"{name[:NAME_LIMIT]}…") or None


def _without_indices(parts: Sequence[object]) -> list[object]:
    return [part for part in parts if not isinstance(part, int)]


def methods_of(request: Request) -> set[str]:
    """The methods of a path over all its routes; Starlette names those of the first."""
    found: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return found


def install(app: FastAPI) -> None:
    """Give every error the one shape."""

    async def validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        status, content = describe_validation(error.errors(), error.body)
        return JSONResponse(content, status)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, StarletteHTTPException)
        if isinstance(error.__cause__, ClientDisconnect):
            return JSONResponse(None, LEFT)  # nobody reads it
        for kind, reason in BODY_REASONS.items():
            if isinstance(error.__cause__, kind):  # FastAPI failed to read the body
                status, content = unreadable(reason)
                return JSONResponse(content, status)
        content, headers = body(str(error.detail), "invalid_request_error", None, None), dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(sorted(methods_of(request)))
        return JSONResponse(content, error.status_code, headers=headers)

    async def known(request: Request, error: Exception) -> JSONResponse:
        status, content = describe(error)
        return JSONResponse(content, status, headers_of(error))

    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(StarletteHTTPException, http)
    for kind in (ApiError, errors.SamplerError, StoreUnavailable):
        app.add_exception_handler(kind, known)
