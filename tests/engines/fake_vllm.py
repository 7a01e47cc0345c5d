"""A scripted vLLM server on a real socket: the routes that `remote` uses, with the exact law of a table.

It draws by its own generator, seeded by the request, as vLLM does: from the tokens whose logits reach the k-th largest
one, ties included. It can be told to misbehave, one call at a time or for good.
"""

import asyncio
import json
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from sampler.engine import Support
from sampler.engines.tabular import TabularEngine

PROMPT = 1
"""Tokens of each prompt that are no response: the table's law starts after them."""
Fault = Callable[[Request], Any]


class Broken(Exception):
    """Raised inside an answer to close its connection in the middle."""


@dataclass(eq=False)
class FakeVLLM:
    """What the server does, and what it has seen."""

    table: TabularEngine
    model: str = "fake/model"
    context: int = 512
    key: str | None = None
    max_logprobs: int = 50
    interval: int | None = None
    delay_s: float = 0.0
    stop_ids: tuple[int, ...] = ()
    """Stop tokens of the server's own."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Fields of a choice to replace, or to leave out where None."""
    tempered: bool = False
    seeded: bool = True
    min_tokens: bool = True
    """Whether it knows the field."""
    names: str = "token_id:{}"
    faults: deque[Fault] = field(default_factory=deque)
    """What the next calls meet instead of an answer."""
    mid: deque[Callable[[], Any]] = field(default_factory=deque)
    """What happens in the next answers after `after` tokens."""
    after: int = 2
    calls: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0
    running: int = 0
    left_early: int = 0
    unauthorized: int = 0
    healthy: bool = True
    template: str | None = "{role}:{content};"
    turns: int = 8
    url: str = ""

    def row(self, ids: list[int], top_k: int, alpha: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids and log p, likeliest first, and the tempered mass that vLLM draws from."""
        whole = self.table.row(tuple(ids[PROMPT:]), 1.0, Support())
        size = whole.size if top_k <= 0 else min(top_k, whole.size)
        log_p = whole.logits.astype(np.float64) - whole.log_norm
        if np.isinf(alpha):
            mass = np.eye(len(log_p))[0]
        else:
            mass = np.where(log_p >= log_p[size - 1], np.exp(alpha * log_p), 0.0)
        return whole.ids, log_p, mass / mass.sum()

    def draw(
        self, ids: list[int], body: dict[str, Any], rng: np.random.Generator, drawn: int = 0
    ) -> tuple[int, dict[str, Any]]:
        """A token and its part of the logprobs."""
        alpha = 1 / body["temperature"] if body["temperature"] else np.inf
        order, log_p, mass = self.row(ids, body["top_k"], alpha)
        if self.min_tokens and drawn < body["min_tokens"]:
            mass = np.where(np.isin(order, body["stop_token_ids"]), 0.0, mass)
            mass = mass / mass.sum()
        index = min(int(np.searchsorted(np.cumsum(mass), rng.random())), len(mass) - 1)
        shown = [index, *(i for i in range(min(body["logprobs"], len(order))) if i != index)]
        values = alpha * log_p if self.tempered else log_p
        if self.tempered:
            values = values - np.log(np.exp(values).sum())
        top = {self.names.format(int(order[i])): max(float(np.float32(values[i])), -9999.0) for i in shown}
        return int(order[index]), top

    async def events(self, request: Request, body: dict[str, Any]) -> AsyncIterator[bytes]:
        """The answer as server-sent events."""
        rng = np.random.default_rng(body["seed"] if self.seeded else None)
        ids, limit, finish = list(body["prompt"]), body["max_tokens"], None
        interval, waiting, sent = self.interval or body.get("stream_interval", 1), [], 0
        trouble = self.mid.popleft() if self.mid else None
        self.running += 1
        try:
            while finish is None:
                if trouble is not None and sent >= self.after:
                    made = trouble()
                    if asyncio.iscoroutine(made):
                        await made
                    elif made is not None:
                        async for part in made:
                            yield part
                        return
                await asyncio.sleep(self.delay_s)
                token, top = self.draw(ids, body, rng, sent)
                ids.append(token)
                waiting.append((token, top))
                self.tokens += 1
                sent += 1
                stops = token in body["stop_token_ids"] or token in self.stop_ids
                finish = "stop" if stops else "length" if sent == limit else None
                if finish or sent == 1 or len(waiting) >= interval:
                    yield self.event(waiting, finish)
                    waiting = []
            yield b"data: [DONE]\n\n"
        finally:
            self.left_early += finish is None  # starlette cancels an answer whose reader is gone
            self.running -= 1

    def event(self, drawn: list[tuple[int, dict[str, Any]]], finish: str | None) -> bytes:
        """One chunk as vLLM writes it."""
        choice: dict[str, Any] = {
            "index": 0,
            "text": "",
            "finish_reason": finish,
            "token_ids": [token for token, _ in drawn],
            "logprobs": {
                "tokens": [self.names.format(token) for token, _ in drawn],
                "token_logprobs": [top[self.names.format(token)] for token, top in drawn],
                "top_logprobs": [top for _, top in drawn],
            },
        } | self.fields
        choice = {name: value for name, value in choice.items() if value is not None or name == "finish_reason"}
        return f"data: {json.dumps({'object': 'text_completion', 'choices': [choice]})}\n\n".encode()

    async def completions(self, request: Request) -> Response:
        """`POST /v1/completions`."""
        body = await request.json()
        if denied := self.denied(request):
            return denied
        self.calls.append(body)
        if self.faults:
            made = self.faults.popleft()(request)
            return await made if asyncio.iscoroutine(made) else made
        asked = max(body.get("logprobs") or 0, body.get("prompt_logprobs") or 0)
        if asked > self.max_logprobs:
            return error(400, f"Requested sample logprobs of {asked}, which is greater than max allowed: 20")
        if body.get("prompt_logprobs") is not None:
            return JSONResponse({"choices": [{"prompt_logprobs": self.scores(body)}]})
        return StreamingResponse(self.events(request, body), media_type="text/event-stream")

    def scores(self, body: dict[str, Any]) -> list[Any]:
        """Rows along the prompt, the first of which has none."""
        found: list[Any] = [None]
        ids = body["prompt"]
        for end in range(1, len(ids)):
            order, log_p, _ = self.row(ids[:end], 0, 1.0)
            shown = [i for i in range(len(order)) if i < body["prompt_logprobs"] or order[i] == ids[end]]
            found.append({str(int(order[i])): {"logprob": float(log_p[i]), "rank": i + 1} for i in shown})
        return found

    def denied(self, request: Request) -> Response | None:
        """401 without the right key."""
        if self.key is None or request.headers.get("authorization") == f"Bearer {self.key}":
            return None
        self.unauthorized += 1
        return JSONResponse({"error": "Unauthorized"}, 401)

    async def models(self, request: Request) -> Response:
        """`GET /v1/models`."""
        model = {"id": self.model, "object": "model", "max_model_len": self.context}
        return self.denied(request) or JSONResponse({"object": "list", "data": [model]})

    async def tokenize(self, request: Request) -> Response:
        """`POST /tokenize`: bytes stand for ids, after a start token 0."""
        body = await request.json()
        if "messages" in body:
            return self.denied(request) or self.chat(body)
        start = [0] if body["add_special_tokens"] else []
        return self.denied(request) or JSONResponse({"tokens": start + self.table.tokenizer.encode(body["prompt"])})

    def chat(self, body: dict[str, Any]) -> Response:
        """Messages in a template of the server's own, which may have none or refuse them."""
        if self.template is None:
            return error(400, "default chat template is no longer allowed, so you must provide a chat template")
        if len(body["messages"]) > self.turns:
            return error(400, f"at most {self.turns} turns")
        text = "".join(self.template.format(**message) for message in body["messages"])
        reply = "A:" if body["add_generation_prompt"] else ""
        return JSONResponse({"tokens": self.table.tokenizer.encode(text + reply)})

    async def detokenize(self, request: Request) -> Response:
        """`POST /detokenize`: the table's strings joined; ids beyond it are refused."""
        tokens = (await request.json())["tokens"]
        if any(token >= self.table.info.vocabulary for token in tokens):
            return error(400, f"Token id {max(tokens)} is out of vocabulary")
        return JSONResponse({"prompt": "".join(self.table.tokenizer.token_text(token) for token in tokens)})

    async def health(self, request: Request) -> Response:
        """`GET /health`."""
        return PlainTextResponse("", 200 if self.healthy else 503)

    def app(self) -> Starlette:
        """The application."""
        return Starlette(
            routes=[
                Route("/v1/completions", self.completions, methods=["POST"]),
                Route("/v1/models", self.models),
                Route("/tokenize", self.tokenize, methods=["POST"]),
                Route("/detokenize", self.detokenize, methods=["POST"]),
                Route("/health", self.health),
            ]
        )


def error(status: int, message: str, **headers: str) -> JSONResponse:
    """vLLM's error shape; underscores of header names are dashes."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": status}}
    return JSONResponse(body, status, headers={name.replace("_", "-"): value for name, value in headers.items()})


@contextmanager
def running(fake: FakeVLLM, port: int = 0) -> Iterator[FakeVLLM]:
    """The server in a thread of this process, from started to gone."""
    config = uvicorn.Config(fake.app(), log_level="critical", timeout_graceful_shutdown=1, lifespan="off")
    server = uvicorn.Server(config)
    # With another protocol number asyncio would leave Nagle's algorithm on: 40 ms for each small answer.
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.001)
            fake.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            yield fake
        finally:
            server.should_exit = True
            thread.join()
