"""A server that is told to stop: nothing new begins, what runs gets its time, and the exit code says which it was."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.drain import Drain
from service.errors import ApiError
from tests.service.checks import GOOD
from tests.service.serving import PATIENCE_S, ROOT, command_server, free_port, is_ready, metric, wait_until

pytestmark = pytest.mark.slow  # each starts a server to stop it

ENDLESS: dict[str, Any] = {"power": {"alpha": 1, "blocks": 4, "steps_per_block": 1000}, "n": 64}
FINISHES: dict[str, Any] = ENDLESS | {"power": ENDLESS["power"] | {"deadline_s": 10.0}}
"""Runs until its own deadline, so for a known time."""


@contextmanager
def running(table_file: Path, tmp_path: Path, drain_s: float) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The real command."""
    options = ["--engine", "tabular", "--model", str(table_file), "--drain-s", str(drain_s)]
    with command_server(options, tmp_path / "log.txt") as (process, url):
        yield process, url


class Asked:
    """A request in a thread of its own."""

    def __init__(self, url: str, fields: dict[str, Any]) -> None:
        self.reply: httpx.Response | Exception | None = None
        self._url, self._fields = url, GOOD | fields
        before = metric(url, "vllm:num_requests_running")
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        wait_until(lambda: metric(url, "vllm:num_requests_running") > before, "the request to run")

    def _run(self) -> None:
        try:
            self.reply = httpx.post(f"{self._url}/v1/completions", json=self._fields, timeout=60)
        except httpx.TransportError as error:
            self.reply = error

    def answer(self) -> httpx.Response:
        """Its reply."""
        self._thread.join(60)
        assert isinstance(self.reply, httpx.Response), self.reply
        return self.reply


def stops(url: str) -> bool:
    """Whether a server says that it is stopping."""
    return httpx.get(f"{url}/readyz", timeout=10).status_code == 503


def test_what_runs_finishes_and_what_comes_is_sent_away(table_file: Path, tmp_path: Path) -> None:
    with running(table_file, tmp_path, 30) as (process, url):
        asked = [Asked(url, FINISHES), Asked(url, FINISHES | {"stream": True})]
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: stops(url), "readyz to say so")
        late = httpx.post(f"{url}/v1/completions", json=GOOD, timeout=10)
        assert (late.status_code, late.json()["error"]["code"]) == (503, "shutting_down")
        assert int(late.headers["retry-after"]) >= 1
        assert httpx.get(f"{url}/livez", timeout=10).status_code == 200
        assert httpx.get(f"{url}/metrics", timeout=10).status_code == 200
        whole, stream = (each.answer() for each in asked)
        assert whole.status_code == 200
        assert {c["power"]["ended_by"] for c in whole.json()["choices"]} == {"deadline"}
        assert stream.text.strip().endswith("data: [DONE]")
        assert process.wait(PATIENCE_S) == 0


def test_what_takes_too_long_is_cut_off_and_told_so(table_file: Path, tmp_path: Path) -> None:
    with running(table_file, tmp_path, 0.5) as (process, url):
        asked = [Asked(url, ENDLESS), Asked(url, ENDLESS | {"stream": True})]
        process.send_signal(signal.SIGTERM)
        whole, stream = (each.answer() for each in asked)
        error = whole.json()["error"]
        assert (whole.status_code, error["code"]) == (503, "shutting_down")
        assert error["reached"]["steps"] > 0
        assert int(whole.headers["retry-after"]) >= 1
        assert '"shutting_down"' in stream.text.strip().splitlines()[-1]
        assert process.wait(PATIENCE_S) == 1


def test_a_second_signal_ends_it_at_once(table_file: Path, tmp_path: Path) -> None:
    with running(table_file, tmp_path, 3600) as (process, url):
        asked = Asked(url, ENDLESS)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: stops(url), "readyz to say so")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 1
        asked._thread.join(60)


def test_a_download_is_waited_for(table_file: Path, tmp_path: Path) -> None:
    """It is larger than what the two sockets hold, so it is not sent before it is read."""
    row = {"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": GOOD | {"prompt": "x" * (1 << 20)}}
    lines = b"".join(json.dumps(row | {"custom_id": str(i)}).encode() + b"\n" for i in range(24))
    options = ["--engine", "tabular", "--model", str(table_file), "--data-dir", str(tmp_path / "data")]
    with (
        command_server(options, tmp_path / "log.txt") as (process, url),
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        made = http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", lines)})
        assert made.status_code == 200, made.text
        with http.stream("GET", f"/v1/files/{made.json()['id']}/content") as reply:
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: stops(url), "readyz to say so")
            for _ in range(5):
                time.sleep(0.1)
                assert stops(url), "it is still there"
            assert reply.read() == lines
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_at_once_with_code_0(table_file: Path, tmp_path: Path, sent: int) -> None:
    with running(table_file, tmp_path, 3600) as (process, url), httpx.Client(base_url=url) as idle:
        assert idle.get("/livez").status_code == 200  # a connection that stays open holds up nothing
        process.send_signal(sent)
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("again", [False, True], ids=["by itself", "by a second signal"])
def test_an_engine_that_never_closes_does_not_keep_the_process(again: bool, tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log.txt"
    with log.open("wb") as output:
        words = [sys.executable, "-m", "tests.service.stuck", str(port), "3600" if again else "0.5"]
        process = subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: process.poll() is not None or is_ready(f"http://127.0.0.1:{port}"), "the server")
        process.send_signal(signal.SIGTERM)
        if again:
            wait_until(lambda: "closing" in log.read_text(), "the engine to be closed")
            process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 1, log.read_text()
        assert again or '"engine"' in log.read_text(), log.read_text()
    finally:
        process.kill()
        process.wait()


def test_the_retry_after_of_a_stop_is_bounded() -> None:
    for drain_s, expected in ((0.0, "1"), (2.5, "3"), (3600.0, "30")):
        drain = Drain(drain_s)
        drain.stop()
        with pytest.raises(ApiError) as caught:
            drain.begin(None)  # type: ignore[arg-type]
        assert str(caught.value.retry_after_s) == expected
