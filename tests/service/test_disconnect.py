"""A client that leaves frees the engine, whatever its request was waiting for."""

import asyncio
import json
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from service.settings import Settings
from tests.service.checks import GOOD, assert_still_answers
from tests.service.faulty import EncodingEngine, FaultyEngine, ThreadEngine
from tests.service.serving import command_server, metric, serving, serving_command, wait_until
from tests.service.tables import endless_table, letters_table

FREED_WITHIN_S = 20.0
HANGS_S = 600.0


def send(url: str, request: dict[str, Any]) -> socket.socket:
    """An open connection on which a request has been sent."""
    address = urlsplit(url)
    body = json.dumps(request).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    raw = socket.create_connection((address.hostname or "", address.port or 0), timeout=30)
    raw.sendall(head.encode() + b"\r\n" + body)
    return raw


def assert_freed(engine: FaultyEngine, url: str) -> None:
    """The engine works for nobody any more, and the server answers the next one."""
    wait_until(lambda: engine.in_flight == 0, "the engine to be freed", FREED_WITHIN_S)
    calls = engine.calls
    engine.delay_s = 0.0
    with httpx.Client(base_url=url, timeout=30) as http:
        assert_still_answers(http)
        assert engine.calls > calls


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("power", [None, GOOD["power"]], ids=["standard", "power"])
def test_a_client_that_leaves_frees_the_engine(stream: bool, power: dict[str, Any] | None) -> None:
    engine = FaultyEngine(letters_table(), delay_s=HANGS_S)
    with serving(engine) as url:
        with send(url, GOOD | {"n": 8, "stream": stream, "power": power}):
            wait_until(lambda: engine.in_flight == 8, "all chains to reach the engine")
        assert_freed(engine, url)


def test_a_client_that_leaves_between_two_steps_stops_the_chain() -> None:
    engine = FaultyEngine(letters_table(), delay_s=0.05)
    power = {"alpha": 1, "blocks": 1, "steps_per_block": 1000, "memo_tree": False}
    with serving(engine) as url:
        with send(url, GOOD | {"n": 4, "power": power}):
            wait_until(lambda: engine.calls > 20, "some steps")
        assert_freed(engine, url)
        assert engine.calls < 4 * 1000


def test_a_client_that_leaves_after_the_first_answer_of_a_stream_stops_the_others() -> None:
    engine = FaultyEngine(letters_table(), delay_s=0.0)
    request = GOOD | {"prompt": ["a", "b"], "stream": True, "max_tokens": 1, "power": None}
    with serving(engine) as url:
        hang = engine.propose

        async def propose(asked: Any) -> Any:
            engine.delay_s = HANGS_S if engine.calls else 0.0
            return await hang(asked)

        engine.propose = propose  # type: ignore[method-assign]
        with send(url, request) as raw:
            received = b""
            while b"data: " not in received:
                received += raw.recv(1 << 16)
            assert engine.in_flight == 1
        del engine.propose
        assert_freed(engine, url)


@pytest.mark.slow
@pytest.mark.parametrize("route", ["text", "chat"])
def test_the_official_client_that_closes_a_stream_frees_the_engine(route: str) -> None:
    engine = ThreadEngine(endless_table(), token_s=0.02)
    messages: Any = [{"role": "user", "content": "a"}]
    with serving(engine) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        options: Any = {"model": "letters", "max_tokens": 100_000, "n": 2, "stream": True}
        create = client.chat.completions.create if route == "chat" else client.completions.create
        options |= {"messages": messages} if route == "chat" else {"prompt": "a"}
        with create(**options) as stream:
            while not any(text_of(choice) for choice in next(stream).choices):
                pass
            assert engine.in_flight == 2, "text has come, and the answers go on"
        assert_freed(engine, url)


def text_of(choice: Any) -> str:
    """What a chunk's choice brings."""
    return choice.text if hasattr(choice, "text") else choice.delta.content or ""


@pytest.mark.slow
@pytest.mark.parametrize("power", [None, GOOD["power"]], ids=["plain", "power"])
def test_the_official_client_that_gives_up_waiting_frees_the_engine(power: dict[str, Any] | None) -> None:
    engine = FaultyEngine(letters_table(), delay_s=HANGS_S)
    with (
        serving(engine) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=0.5) as client,
    ):
        with pytest.raises(openai.APITimeoutError):
            client.completions.create(model="letters", prompt="a", n=3, extra_body={"power": power})
        assert_freed(engine, url)


@pytest.mark.slow
def test_a_client_that_leaves_while_its_prompt_is_scored_frees_the_engine() -> None:
    engine = HangingScores(letters_table())
    with serving(engine) as url:
        with send(url, GOOD | {"echo": True, "logprobs": 1, "power": None}):
            wait_until(lambda: engine.in_flight == 1, "the prompt to be scored")
        assert_freed(engine, url)


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_client_that_leaves_while_its_prompt_is_encoded_frees_its_place(stream: bool) -> None:
    engine = EncodingEngine(letters_table())

    def places() -> float:
        return metric(url, "vllm:num_requests_running") + metric(url, "vllm:num_requests_waiting")

    with serving(engine) as url:
        try:
            with send(url, GOOD | {"stream": stream}):
                wait_until(lambda: engine.held.waiting == 1, "the tokenizer to be asked")
                assert places() == 1
            wait_until(lambda: places() == 0, "the place to be free")
            assert engine.held.waiting == 1, "it did not wait for the tokenizer"
        finally:
            engine.held.let_go.set()


class HangingScores(FaultyEngine):
    """An engine whose scores never come."""

    async def score(self, ids: Sequence[int], start: int, head: int = 0) -> Any:
        """Wait for ever."""
        self.in_flight += 1
        try:
            await asyncio.sleep(HANGS_S)
        finally:
            self.in_flight -= 1


def test_a_client_that_shuts_its_sending_side_only_does_not_harm_the_server() -> None:
    engine = FaultyEngine(letters_table(), delay_s=0.05)
    with serving(engine) as url:
        with send(url, GOOD) as raw:
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(1 << 16):
                pass
        assert_freed(engine, url)


@pytest.mark.slow
def test_clients_that_leave_at_every_moment_leave_nothing_behind() -> None:
    engine = FaultyEngine(letters_table(), delay_s=0.001)
    request = GOOD | {"n": 4, "power": {"alpha": 1, "blocks": 4, "steps_per_block": 20}}
    with serving(engine) as url:
        for i in range(40):
            with send(url, request | {"stream": i % 2 == 0}):
                time.sleep(i / 1000)
        assert_freed(engine, url)


def test_a_stop_of_the_server_answers_or_ends_what_runs_and_closes_the_engine() -> None:
    engine = FaultyEngine(letters_table(), delay_s=1.0)
    with serving(engine, Settings(drain_s=20)) as url, send(url, GOOD | {"power": None}) as raw:
        wait_until(lambda: engine.in_flight == 1, "the request to reach the engine")
        raw.setblocking(True)
        leaving = raw.dup()
    with leaving:
        assert leaving.recv(1 << 16).startswith(b"HTTP/1.1 200")
    assert engine.closed
    assert engine.in_flight == 0


@pytest.mark.slow
def test_a_process_told_to_stop_ends_in_time_though_a_chain_still_runs(table_file: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    options = ["--engine", "tabular", "--model", str(table_file)]
    endless = GOOD | {"n": 128, "power": {"alpha": 1, "blocks": 4, "steps_per_block": 1000}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POWERCUT_DRAIN_S", "0")
        with serving_command(options, log, exit_code=1) as url, send(url, endless) as raw:
            wait_until(lambda: metric(url, "vllm:num_requests_running") == 1, "the request to run")
            kept = raw.dup()
    with kept:
        assert b" 503 " in kept.recv(1 << 16)


def sockets(process: int) -> set[str]:
    """The sockets that a process has open."""
    found = set[str]()
    for entry in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            found.add(str(entry.readlink()))
    return {name for name in found if name.startswith("socket:")}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to see another process's sockets")
def test_a_peer_that_never_reads_is_hung_up_on(table_file: Path, tmp_path: Path) -> None:
    options = ["--engine", "tabular", "--model", str(table_file), "--send-timeout-s", "0.5"]
    with command_server(options, tmp_path / "log.txt") as (process, url):
        address, before = urlsplit(url), sockets(process.pid)
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=30) as raw:
            wait_until(lambda: bool(sockets(process.pid) - before), "the connection")
            held = sockets(process.pid) - before
            raw.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 400)
            wait_until(lambda: not sockets(process.pid) & held, "the connection to be closed")
        with httpx.Client(base_url=url, timeout=30) as http:
            assert_still_answers(http)
