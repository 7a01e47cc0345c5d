"""Servers to test against: the real command in its own process, and an app on any engine in a thread."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from sampler.engine import Engine
from service.app import create_app
from service.settings import Settings

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
"""Far longer than anything takes; only a failing test waits so long."""
PORTS = (20_000, 32_000)
"""Below those that Linux and macOS hand out, above Ray's."""


def wait_until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Poll until the condition holds, ever less often: asking may cost what is waited for."""
    deadline, pause_s = time.monotonic() + patience_s, 0.005
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience_s} s for {what}"
        time.sleep(pause_s)
        pause_s = min(0.2, pause_s * 1.5)


def free_port() -> int:
    """A port that nobody listens on, and that the system gives to no connection or server that asks for any."""
    while True:
        port = random.SystemRandom().randrange(*PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def is_ready(url: str) -> bool:
    """Whether a server answers and its engine takes work."""
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def metric(url: str, name: str, **labels: str) -> float:
    """A metric of a running server, summed over the labels that are not given."""
    text = httpx.get(f"{url}/metrics", timeout=30, verify=False).text  # loading certificates takes longer than the rest
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples if s.name == name]
    return sum(s.value for s in samples if labels.items() <= s.labels.items())


def command(*arguments: str) -> list[str]:
    """The `powercut` command line in this environment."""
    return [sys.executable, "-m", "service", *arguments]


@contextmanager
def command_server(
    options: Sequence[str], log: Path, patience_s: float = PATIENCE_S, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`powercut serve` as a process, once it is ready; killed at the end if it still runs."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command("serve", "--port", str(port), *options),
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        )
        try:
            wait_until(lambda: process.poll() is not None or is_ready(url), "the server to get ready", patience_s)
            assert process.poll() is None, log.read_text()
            yield process, url
        finally:
            process.kill()
            process.wait()


@contextmanager
def serving_command(
    options: Sequence[str], log: Path, patience_s: float = PATIENCE_S, exit_code: int = 0
) -> Iterator[str]:
    """`powercut serve` as a process, from ready to an end by SIGTERM: a clean one, unless told otherwise."""
    with command_server(options, log, patience_s) as (process, url):
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == exit_code, log.read_text()[-2000:]


@contextmanager
def serving(engine: Engine, settings: Settings | None = None) -> Iterator[str]:
    """The application on an engine of this process, behind a real socket."""
    with serving_app(create_app(engine, settings)) as url:
        yield url


@contextmanager
def serving_app(app: FastAPI) -> Iterator[str]:
    """Any application of this process, behind a real socket."""
    config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=5, http="h11", loop="asyncio")
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
