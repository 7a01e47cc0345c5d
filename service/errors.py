"""One table: exception → HTTP status, OpenAI error type and code. Every error leaves in OpenAI's shape."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from sampler import errors

log = logging.getLogger("powercut")


class Kind(NamedTuple):
    """How an exception looks from outside."""

    status: int
    type: str
    code: str


TABLE: dict[type[Exception], Kind] = {
    errors.ContextExceeded: Kind(400, "invalid_request_error", "context_length_exceeded"),
    errors.InvalidParams: Kind(422, "invalid_request_error", "invalid_value"),
    errors.EngineOverloaded: Kind(429, "rate_limit_error", "engine_overloaded"),
    errors.EngineOutOfMemory: Kind(503, "server_error", "out_of_memory"),
    errors.EngineDead: Kind(503, "server_error", "engine_dead"),
    errors.EngineError: Kind(500, "server_error", "engine_error"),
    errors.NumericalError: Kind(500, "server_error", "numerical_error"),
}


class ApiError(Exception):
    """An error that the HTTP layer itself decides on."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code


def body(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    """OpenAI's error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def describe(error: Exception) -> tuple[int, dict[str, Any]]:
    """Status and body of any exception. What is not in the table says nothing of its insides."""
    if isinstance(error, ApiError):
        kind = "invalid_request_error" if error.status < 500 else "server_error"
        return error.status, body(error.message, kind, error.param, error.code)
    for ancestor in type(error).__mro__:
        if ancestor in TABLE:
            kind = TABLE[ancestor]
            return kind.status, body(str(error), kind.type, getattr(error, "field", None), kind.code)
    log.error("unexpected error", exc_info=error)
    return 500, body("the server failed on this request", "server_error", None, "internal_error")


def describe_validation(found: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, Any]]:
    """Status and body of a request that does not fit its schema: names the field and the limit, echoes nothing."""
    first = found[0]
    if first["type"] == "json_invalid":
        reason = first.get("ctx", {}).get("error", "")
        return 400, body(f"the body is not valid JSON: {reason}", "invalid_request_error", None, "invalid_json")
    param = ".".join(str(part) for part in first["loc"][1:] if not _is_branch(part)) or None
    message = str(first["msg"]).removeprefix("Value error, ")
    if len(found) > 1 and (others := {_name(e) for e in found[1:]} - {param, None}):
        message += f" (also wrong: {', '.join(sorted(str(o) for o in others))})"
    code = "unknown_field" if first["type"] == "extra_forbidden" else "invalid_value"
    return 422, body(f"{param}: {message}" if param else message, "invalid_request_error", param, code)


def _name(found: Mapping[str, Any]) -> str | None:
    return ".".join(str(part) for part in found["loc"][1:] if not _is_branch(part)) or None


def _is_branch(part: object) -> bool:
    """Pydantic names the branch of a union it tried, such as `list[int]`; a caller did not write that."""
    return isinstance(part, str) and (part in {"str", "int"} or part.startswith(("list[", "constrained-", "function-")))


def install(app: FastAPI) -> None:
    """Give every error the one shape."""

    async def validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        status, content = describe_validation(error.errors())
        return JSONResponse(content, status)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        content = body(str(error.detail), "invalid_request_error", None, None)
        return JSONResponse(content, error.status_code, headers=dict(error.headers or {}))

    async def known(request: Request, error: Exception) -> JSONResponse:
        status, content = describe(error)
        return JSONResponse(content, status)

    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, http)
    for kind in (ApiError, errors.SamplerError, Exception):
        app.add_exception_handler(kind, known)
