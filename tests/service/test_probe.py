"""The image's health check, against a real server and against none."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from service.probe import answers
from tests.service.serving import ROOT, free_port


def probe(port: int, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command of the image, with nothing else in its environment."""
    command = [sys.executable, "-m", "service.probe"]
    told = {"POWERCUT_PORT": str(port)} | environment
    return subprocess.run(command, env=told, cwd=ROOT, capture_output=True, timeout=30, check=False)


def test_a_server_that_answers_is_healthy_whatever_proxy_is_set(server: str) -> None:
    port = int(server.rpartition(":")[2])
    done = probe(port, http_proxy=f"http://127.0.0.1:{free_port()}")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_no_server_is_unhealthy_and_said_without_a_traceback() -> None:
    done = probe(free_port())
    assert (done.returncode, done.stderr) == (1, b"")


def log_nothing(*_: object) -> None:
    """The handler would write to standard error."""


@pytest.fixture
def failing_port() -> Iterator[int]:
    class Failing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)

        log_message = log_nothing  # type: ignore[assignment]

    server = HTTPServer(("127.0.0.1", 0), Failing)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_another_answer_than_200_is_unhealthy(failing_port: int) -> None:
    assert not answers(failing_port)
