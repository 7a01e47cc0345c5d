"""Who may call: a key check that hangs on routers, never on a path, and comes before a body is read.

FastAPI reads a request's body before it looks at dependencies, so the check is in the route's own handler, and
`publish_keys` tells the schema of it.
"""

import ipaddress
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute

from service.call import Call, call_of
from service.errors import ApiError
from service.keys import ANONYMOUS, Keys

SCHEME = "bearer"
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class KeyedRoute(APIRoute):
    """A route that needs a key if any is set, and that a server which is stopping does not begin."""

    needs_key = True

    def get_route_handler(self) -> Handler:
        """The route's handler behind the check."""
        handler = super().get_route_handler()

        async def checked(request: Request) -> Response:
            call = call_of(request)
            call.key = caller(request, request.app.state.runner.house.keys)
            self.begin(request, call)
            return await handler(request)

        return checked

    def begin(self, request: Request, call: Call) -> None:
        """A request that was let in begins; here it counts as work, which a stop waits for."""
        request.app.state.runner.house.drain.begin(call)


class WatchingRoute(KeyedRoute):
    """A route that needs a key but is no work: it answers while the server is stopping, and holds up no stop."""

    def begin(self, request: Request, call: Call) -> None:
        """Nothing to count."""


class StreamedRoute(WatchingRoute):
    """A route whose reply may take long to send: it begins while the server stops too, and a stop waits for it."""

    def begin(self, request: Request, call: Call) -> None:
        """Count it, and refuse nothing."""
        request.app.state.runner.house.drain.count(call)


def keyed_router(route_class: type[KeyedRoute] = KeyedRoute) -> APIRouter:
    """A router all of whose routes need a key if any is set."""
    return APIRouter(route_class=route_class)


def publish_keys(app: FastAPI) -> None:
    """Let the published schema say which routes need a key. Only for a server that has keys: others need none."""
    generate = app.openapi
    keyed = {route.path_format for route in app.routes if isinstance(route, KeyedRoute)}

    def openapi() -> dict[str, Any]:
        document = generate()
        description = "a key made by `powercut key NAME`"
        schemes = document["components"].setdefault("securitySchemes", {})
        schemes[SCHEME] = {"type": "http", "scheme": "bearer", "description": description}
        for path, operations in document["paths"].items():
            if path in keyed:
                for operation in operations.values():
                    operation["security"] = [{SCHEME: []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def caller(request: Request, keys: Keys) -> str:
    """The name of the caller's key; 401 without a valid one. Where no key is set, everybody is `ANONYMOUS`."""
    if not keys:
        return ANONYMOUS
    given = [value for name, value in request.scope["headers"] if name == b"authorization"]
    if len(given) > 1:
        raise unauthorised("give one Authorization header, not several")
    scheme, _, key = given[0].partition(b" ") if given else (b"", b"", b"")
    if scheme.lower() != b"bearer" or not key.strip():
        raise unauthorised("a key is needed, in the header Authorization: Bearer KEY")
    name = keys.name_of(key.strip())
    if name is None:
        raise unauthorised("the key is not valid")
    return name


def unauthorised(message: str) -> ApiError:
    """401 in OpenAI's shape."""
    return ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
