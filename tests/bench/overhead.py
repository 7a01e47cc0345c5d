"""`python -m tests.bench.overhead`: what HTTP and the chain cost beside the model, on an engine that costs nothing.

(a) µs and share of a generated token: the chain alone, and over HTTP. (b) completions ÷ the same through a bare FastAPI
echo, per second and by the processor time of the server, which a busy machine disturbs less.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from sampler.engine import Request, Support
from sampler.engines.tabular import TabularEngine
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PowerParams
from sampler.trace import End, Segment, Token
from service.app import create_app
from service.settings import Settings
from tests.service.serving import free_port, wait_until

ROOT = Path(__file__).parents[2]
VOCABULARY = 64
POWER = {"blocks": 4, "steps_per_block": 10, "prefetch": False}
AT_ONCE = 16
TICKS = os.sysconf("SC_CLK_TCK")


class FreeEngine(TabularEngine):
    """Returns tokens made beforehand. All rows are alike, so every step redraws everything and is accepted."""

    def __init__(self) -> None:
        logits = np.array([-0.1 * (3 * i % 7) for i in range(VOCABULARY)])
        super().__init__([f"t{i} " for i in range(VOCABULARY)], frozenset(), {}, logits, "free")
        row = self.row((), 4.0, Support.of(50))
        log_p = [row.log_p(i) for i in range(len(row.ids))]
        drawn = [Token(int(row.ids[i]), log_p[i], row.log_z, row.entropy, row.log_mass) for i in range(len(row.ids))]
        self._tokens = tuple(drawn[(7 * i * i + i) % len(drawn)] for i in range(1 << 14))
        self._rows = (row,) * (1 << 11)
        self._calls = 0

    async def propose(self, request: Request) -> Segment:
        """The next tokens of the list."""
        self._calls += 1
        start = self._calls * 97 % (len(self._tokens) - request.max_tokens)
        rows = self._rows[: request.max_tokens] if request.keep_rows else None
        return Segment(self._tokens[start : start + request.max_tokens], End.LENGTH, rows)


class Echo(BaseModel):
    """A completion request's fields, for the bare server."""

    model: str
    prompt: str
    max_tokens: int
    seed: int


def echo_app() -> FastAPI:
    """What FastAPI itself costs: a body parsed, a reply written."""
    app = FastAPI()

    @app.post("/v1/completions")
    async def echo(body: Echo) -> dict[str, Any]:
        choice = {"index": 0, "text": body.prompt, "logprobs": None, "finish_reason": "length"}
        usage = {"prompt_tokens": 1, "completion_tokens": body.max_tokens, "total_tokens": 2}
        head = {"id": "cmpl-0", "object": "text_completion", "created": 0, "model": body.model}
        return {**head, "choices": [choice], "usage": usage}

    @app.get("/livez")
    async def live() -> dict[str, str]:
        return {}

    return app


def serve(kind: str, port: int) -> None:
    """Run one of the two servers in this process."""
    app = echo_app() if kind == "echo" else create_app(FreeEngine(), Settings())
    uvicorn.run(app, port=port, log_level="critical", access_log=False)


@contextmanager
def server(kind: str) -> Iterator[tuple[int, int]]:
    """One of the servers in a process of its own: its port and its process."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.overhead", "--serve", kind, "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        wait_until(lambda: answers(port), "the server to start", 120)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    """Whether anybody listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def processor_s(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is kept alive; a plain socket costs the client less than a library."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: dict[str, Any]) -> bytes:
    """One request and its reply's body."""
    content = json.dumps(body).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    )
    writer.write(f"{head}\r\n\r\n".encode() + content)
    lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    assert lines[0].split()[1] == b"200", lines[0]
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))
    return await reader.readexactly(length)


async def ask_many(port: int, count: int, at_once: int, body: dict[str, Any]) -> list[bytes]:
    """So many requests over some connections, and their replies."""
    numbers, replies = iter(range(count)), list[bytes]()

    async def work() -> None:
        async with connection(port) as (reader, writer):
            for number in numbers:
                replies.append(await ask(reader, writer, body | {"seed": number}))

    await asyncio.gather(*(work() for _ in range(at_once)))
    return replies


def cost(port: int, pid: int, count: int, at_once: int, body: dict[str, Any]) -> tuple[float, float, list[bytes]]:
    """Seconds by the clock and by the server's processor for a request, and the replies."""
    begun, used = time.perf_counter(), processor_s(pid)
    replies = asyncio.run(ask_many(port, count, at_once, body))
    return (time.perf_counter() - begun) / count, (processor_s(pid) - used) / count, replies


def chain_alone(count: int, params: PowerParams) -> float:
    """Processor seconds of a generated token of chains without HTTP."""

    async def run() -> int:
        engine, tokens = FreeEngine(), 0
        for seed in range(count):
            answer = await METHODS["entropy_cut"](Job(engine, (0,), params, seed))
            tokens += answer.usage.generated_tokens
        return tokens

    begun = time.process_time()
    tokens = asyncio.run(run())
    return (time.process_time() - begun) / tokens


def median(values: Sequence[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def per_token(rounds: int, requests: int) -> None:
    """(a) The chain alone and over HTTP, µs of processor time a generated token."""
    for tree in (False, True):
        params = PowerParams(256, blocks=4, steps_per_block=10, memo_tree=tree, prefetch=False)
        body = {"model": "free", "prompt": "t", "max_tokens": 256, "power": POWER | {"memo_tree": tree}}
        alone: list[float] = []
        whole: list[float] = []
        with server("powercut") as (port, pid):
            cost(port, pid, 4, 1, body)
            for _ in range(rounds):
                alone.append(chain_alone(requests, params) * 1e6)
                _, used, replies = cost(port, pid, requests, 1, body)
                tokens = [json.loads(reply)["usage"]["power"]["generated_tokens"] for reply in replies]
                whole.append(used / statistics.mean(tokens) * 1e6)
        ratios = [a / b for a, b in zip(whole, alone, strict=True)]
        name = f"µs a generated token, memo tree {'on' if tree else 'off'}"
        print(f"| {name}: chain alone | {median(alone)} |\n| {name}: over HTTP | {median(whole)} |")
        print(f"| over HTTP ÷ chain alone, memo tree {'on' if tree else 'off'} | {median(ratios)} |", flush=True)


def per_request(rounds: int, requests: int) -> None:
    """(b) A completion of one token ÷ an echo."""
    body = {"model": "free", "prompt": "t", "max_tokens": 1}
    clock: list[float] = []
    used: list[float] = []
    micros: list[float] = []
    with server("powercut") as (port, pid), server("echo") as (echo_port, echo_pid):
        for target in ((port, pid), (echo_port, echo_pid)):
            cost(*target, 200, AT_ONCE, body)
        for _ in range(rounds):
            ours, ours_used, _ = cost(port, pid, requests, AT_ONCE, body)
            theirs, theirs_used, _ = cost(echo_port, echo_pid, requests, AT_ONCE, body)
            clock.append(theirs / ours)
            used.append(theirs_used / ours_used)
            micros.append(ours_used * 1e6)
    print(f"| completions/s ÷ echoes/s, by the clock | {median(clock)} |")
    print(f"| the same by the server's processor time | {median(used)} |")
    print(f"| µs of processor time a completion of one token | {median(micros)} |", flush=True)


def main() -> None:
    """Run both, or one of the servers."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1000, help="of one token; chains are a fiftieth")
    parser.add_argument("--serve", choices=["powercut", "echo"])
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.port)
        return
    print("| figure | median (range) |\n|---|---|")
    per_token(options.rounds, max(1, options.requests // 50))
    per_request(options.rounds, options.requests)


if __name__ == "__main__":
    main()
