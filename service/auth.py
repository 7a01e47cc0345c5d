"""Who may call: a key check that hangs on routers, never on a path, and comes before a body is read.

FastAPI reads a request's body before it looks at dependencies, so the check is in the route's own handler; the
dependency beside it only tells the schema that a key is wanted.
"""

import ipaddress
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from service.call import Call, call_of
from service.errors import ApiError
from service.keys import ANONYMOUS, Keys

BEARER = HTTPBearer(auto_error=False, description="a key made by `powercut key NAME`; not needed if none is set")
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


def keyed_router(route_class: type[KeyedRoute] = KeyedRoute) -> APIRouter:
    """A router all of whose routes need a key if any is set."""
    return APIRouter(route_class=route_class, dependencies=[Depends(BEARER)])


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
