"""Clients that are slow, odd or hostile below the level of JSON: they hold up nobody but themselves."""

import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from service.settings import Settings
from tests.service.checks import GOOD, assert_error, assert_still_answers
from tests.service.faulty import FaultyEngine
from tests.service.serving import metric, serving, wait_until
from tests.service.tables import endless_table, letters_table

BODY = json.dumps(GOOD).encode()
BODY_TIMEOUT_S = 1.0


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    limits = Settings(body_timeout_s=BODY_TIMEOUT_S, max_body_bytes=100_000)
    with serving(FaultyEngine(letters_table()), limits) as url:
        yield url


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


def connect(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname or "", address.port or 0), timeout=30)


def head(*lines: str, length: int | None = None) -> bytes:
    """The start of a request."""
    given = ["POST /v1/completions HTTP/1.1", "Content-Type: application/json", *lines]
    if length is not None:
        given.append(f"Content-Length: {length}")
    return "\r\n".join([*given, "", ""]).encode()


def received(raw: socket.socket) -> bytes:
    """Everything until the server hangs up or is done with its first reply."""
    found = b""
    while chunk := raw.recv(1 << 16):
        found += chunk
        if b"\r\n\r\n" in found and b"}" in found.split(b"\r\n\r\n", 1)[1]:
            break
    return found


@pytest.mark.slow
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_of_one_byte_a_while_is_cut_off_in_time(url: str, http: httpx.Client, chunked: bool) -> None:
    start = head("Host: x", "Transfer-Encoding: chunked") if chunked else head("Host: x", length=len(BODY))
    with connect(url) as raw:
        raw.sendall(start)
        for byte in BODY[:3]:
            raw.sendall(b"1\r\n%c\r\n" % byte if chunked else bytes([byte]))
            time.sleep(0.02)
        reply = received(raw)
    assert b" 408 " in reply.split(b"\r\n")[0]
    assert b"body_timeout" in reply
    assert b"connection: close" in reply.lower()
    assert_still_answers(http)


@pytest.mark.slow
def test_a_body_that_never_begins_is_cut_off_in_time(url: str, http: httpx.Client) -> None:
    with connect(url) as raw:
        raw.sendall(head("Host: x", length=50))
        assert b" 408 " in received(raw)
    assert_still_answers(http)


@pytest.mark.slow
def test_many_slow_bodies_hold_up_nobody(url: str, http: httpx.Client) -> None:
    slow = [connect(url) for _ in range(50)]
    try:
        for raw in slow:
            raw.sendall(head("Host: x", length=50) + b"{")
        assert_still_answers(http)
        assert all(b" 408 " in received(raw) for raw in slow)
    finally:
        for raw in slow:
            raw.close()
    wait_until(lambda: metric(url, "vllm:num_requests_running") == 0, "nothing to run")


@pytest.mark.parametrize(("length", "status"), [(99_999, b" 422 "), (100_001, b" 413 ")])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_the_limit_counts_what_arrives(url: str, http: httpx.Client, length: int, status: bytes, chunked: bool) -> None:
    start = head("Host: x", "Transfer-Encoding: chunked") if chunked else head("Host: x", length=length)
    body = b'{"model": "letters", "prompt": "a", "user_field": "' + b"x" * length
    body = body[: length - 2] + b'"}'
    with connect(url) as raw:
        raw.sendall(start + (b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body))
        assert status in received(raw)
    assert_still_answers(http)


def test_a_length_that_lies_does_not_raise_the_limit(url: str, http: httpx.Client) -> None:
    """Two lengths, or a length beside chunks, are how a request is smuggled past a proxy."""
    for lines in (
        ("Host: x", "Content-Length: 5", "Content-Length: 500000"),
        ("Host: x", "Content-Length: -1"),
        ("Host: x", "Content-Length: 0x10"),
        ("Host: x", "Content-Length: 99999999999999999999999999"),
    ):
        with connect(url) as raw:
            raw.sendall(head(*lines) + b"{}")
            raw.shutdown(socket.SHUT_WR)
            assert b" 200 " not in received(raw)
    assert_still_answers(http)


@pytest.mark.parametrize(
    "lines",
    [
        ("Host: x", "X-Long: " + "x" * 100_000),
        ("Host: x", *(f"X-{i}: {'y' * 100}" for i in range(2000))),
        ("Host: x", "X" * 70_000 + ": 1"),
        ("Host: x", "Bad header"),
        ("Host: x", "Tab\tname: 1"),
        ("Host: x\x00y",),
    ],
    ids=["long value", "many", "long name", "no colon", "tab", "NUL"],
)
def test_monstrous_headers_are_refused_or_borne(url: str, http: httpx.Client, lines: tuple[str, ...]) -> None:
    with connect(url) as raw:
        try:
            raw.sendall(head(*lines, length=len(BODY)) + BODY)
            first = received(raw).split(b"\r\n")[0]
        except ConnectionError:
            first = b""
    assert first == b"" or any(code in first for code in (b" 200 ", b" 400 ", b" 431 ")), first
    assert_still_answers(http)


@pytest.mark.parametrize("host", ["", "x", "x/livez", "a b", "127.0.0.1:99999", "[::1", "x" * 5000, "évil"])
def test_an_odd_host_changes_nothing(url: str, http: httpx.Client, host: str) -> None:
    with connect(url) as raw:
        raw.sendall(head(f"Host: {host}", length=len(BODY)) + BODY)
        first = received(raw).split(b"\r\n")[0]
    assert b" 200 " in first or b" 400 " in first
    assert_still_answers(http)


def test_a_compressed_body_is_not_unpacked(http: httpx.Client) -> None:
    import gzip

    bomb = gzip.compress(b"[" * 10_000_000)
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert_error(http.post("/v1/completions", content=bomb, headers=headers), 400)
    assert_still_answers(http)


def test_a_range_is_ignored(http: httpx.Client) -> None:
    ranges = "bytes=" + ",".join(f"{i}-" for i in range(2000))
    assert http.get("/livez", headers={"Range": ranges}).status_code == 200


def test_an_upgrade_to_a_websocket_is_refused(url: str, http: httpx.Client) -> None:
    with connect(url) as raw:
        lines = ["GET /v1/completions HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket"]
        lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "", ""]
        raw.sendall("\r\n".join(lines).encode())
        assert b" 101 " not in raw.recv(1 << 16)
    assert_still_answers(http)


def test_a_request_sent_twice_with_one_id_is_two_requests(http: httpx.Client) -> None:
    headers = {"X-Request-Id": "again"}
    replies = [http.post("/v1/completions", json=GOOD, headers=headers) for _ in range(2)]
    assert [reply.headers["x-request-id"] for reply in replies] == ["again", "again"]
    assert replies[0].json()["choices"] == replies[1].json()["choices"]
    assert replies[0].json()["id"] != replies[1].json()["id"]


@pytest.mark.slow
def test_a_reader_of_one_byte_a_while_holds_no_place() -> None:
    """The reply is larger than what the sockets between hold, so the server cannot get rid of it: the work is done."""
    engine = FaultyEngine(endless_table())
    fields = {"prompt": "a", "max_tokens": 2500, "n": 8, "power": None, "logprobs": 4, "stream": True}
    body = json.dumps(GOOD | fields).encode()
    with serving(engine, Settings(max_running_requests=1)) as url, connect(url) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.sendall(head("Host: x", length=len(body)) + body)
        wait_until(lambda: engine.calls > 0, "the work to begin")
        assert raw.recv(1)
        wait_until(lambda: metric(url, "vllm:num_requests_running") == 0, "the place to be free again")
        assert httpx.post(f"{url}/v1/completions", json=GOOD, timeout=60).status_code == 200
        for _ in range(3):
            assert len(raw.recv(1)) == 1
