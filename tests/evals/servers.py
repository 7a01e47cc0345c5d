"""Servers for the evals to ask: one that behaves as told, call by call, and one with batches."""

import asyncio
import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.service.serving import wait_until

Behaviour = Callable[[dict[str, Any]], Response | None]
"""From a request's body to its answer; None breaks the connection."""


def completion(text: str = "a", tokens: int = 3, **more: Any) -> dict[str, Any]:
    """What a server without powercut's additions answers."""
    usage = {"prompt_tokens": 2, "completion_tokens": tokens, "total_tokens": 2 + tokens}
    return {"choices": [{"index": 0, "text": text, "finish_reason": "stop", **more}], "usage": usage}


def chat(text: str = "a") -> dict[str, Any]:
    """The same of a chat."""
    body = completion()
    body["choices"][0] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return body


def answers(body: dict[str, Any]) -> Response:
    """The ordinary behaviour: a text that depends on the seed alone."""
    return JSONResponse(chat("ab"[body["seed"] % 2]) if "messages" in body else completion("ab"[body["seed"] % 2]))


def refuses(status: int, message: str = "no", **headers: str) -> Behaviour:
    """An error in OpenAI's shape."""
    return lambda body: JSONResponse({"error": {"message": message}}, status, headers=headers)


def breaks(body: dict[str, Any]) -> None:
    """The connection ends without an answer."""


class Scripted:
    """An OpenAI server whose first calls go as `script` says and the others as `otherwise`."""

    def __init__(self, script: list[Behaviour] | None = None, otherwise: Behaviour = answers) -> None:
        self.script, self.otherwise = list(script or []), otherwise
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.models = ["base", "other"]
        self.cancelled = 0
        self.hold = 0.0
        routes = [
            Route("/v1/models", self.list_models),
            Route("/v1/completions", self.complete, methods=["POST"]),
            Route("/v1/chat/completions", self.complete, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes + self.more_routes())

    def more_routes(self) -> list[Route]:
        return []

    async def list_models(self, request: Request) -> Response:
        self.headers.append(dict(request.headers))
        return JSONResponse({"data": [{"id": name} for name in self.models]})

    async def complete(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        if self.hold:
            leaving = asyncio.ensure_future(request.receive())
            done, _ = await asyncio.wait({leaving}, timeout=self.hold)
            self.cancelled += bool(done)
            leaving.cancel()
        behave = self.script.pop(0) if self.script else self.otherwise
        response = behave(body)
        if response is None:
            request.scope["transport"].abort()  # put there by `Transported`
            return Response(status_code=500)
        return response


class WithBatches(Scripted):
    """The same with files and batches, which end after `polls` looks."""

    def __init__(self, polls: int = 1, otherwise: Behaviour = answers) -> None:
        super().__init__(otherwise=otherwise)
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.polls, self.end = polls, "completed"

    def more_routes(self) -> list[Route]:
        return [
            Route("/v1/files", self.upload, methods=["POST"]),
            Route("/v1/files/{file}/content", self.content),
            Route("/v1/batches", self.create, methods=["POST"]),
            Route("/v1/batches/{batch}", self.look),
        ]

    async def upload(self, request: Request) -> Response:
        async with request.form() as form:
            assert form["purpose"] == "batch"
            file = form["file"]
            assert not isinstance(file, str)
            return JSONResponse({"id": self._keep(await file.read()), "object": "file"})

    async def content(self, request: Request) -> Response:
        return Response(self.files[request.path_params["file"]])

    async def create(self, request: Request) -> Response:
        asked = await request.json()
        identity = f"batch_{uuid.uuid4().hex}"
        self.batches[identity] = {"id": identity, "status": "in_progress", "looks": 0, **asked}
        return JSONResponse(self.batches[identity])

    async def look(self, request: Request) -> Response:
        batch = self.batches.get(request.path_params["batch"])
        if batch is None:
            return JSONResponse({"error": {"message": "no such batch"}}, 404)
        batch["looks"] += 1
        if batch["looks"] >= self.polls and batch["status"] == "in_progress":
            self._finish(batch)
        return JSONResponse(batch)

    def _finish(self, batch: dict[str, Any]) -> None:
        batch["status"] = self.end
        if self.end != "completed":
            batch["errors"] = {"data": [{"message": "line 1: not a request"}]}
            return
        found: dict[str, list[bytes]] = {"output_file_id": [], "error_file_id": []}
        for line in self.files[batch["input_file_id"]].splitlines():
            call = json.loads(line)
            assert call["url"] == batch["endpoint"]
            assert call["method"] == "POST"
            self.bodies.append(call["body"])
            response = self.otherwise(call["body"])
            if response is None:
                continue
            reply = {"status_code": response.status_code, "body": json.loads(bytes(response.body))}
            name = "output_file_id" if response.status_code == 200 else "error_file_id"
            found[name].append(json.dumps({"custom_id": call["custom_id"], "response": reply}).encode())
        for name, lines in found.items():
            batch[name] = self._keep(b"\n".join(lines)) if lines else None

    def _keep(self, content: bytes) -> str:
        name = f"file_{uuid.uuid4().hex}"
        self.files[name] = content
        return name


class Transported:
    """uvicorn's protocol with the transport in the scope, so that a test can break the connection."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["transport"] = send.__self__.transport
        await self.app(scope, receive, send)


@contextmanager
def served(app: Any) -> Iterator[str]:
    """An ASGI application behind a real socket; its URL."""
    config = uvicorn.Config(Transported(app), log_level="critical", timeout_graceful_shutdown=2, http="h11")
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started, "the server to start")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
