"""Bodies, headers and routes that no client should send: each a 4xx that says why, and the server lives on."""

import gzip
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.service.checks import GOOD, assert_error, assert_still_answers

JSON = {"content-type": "application/json"}
LIMIT = 4 << 20
DEPTH = 100_000
HEAD = b'{"model": "letters", "prompt": '

UNREADABLE = {
    "broken": (b'{"model": "letters", "prompt": "a"', "delimiter"),
    "text": (b"hello", "Expecting value"),
    "single quotes": (b"{'model': 'letters'}", "double quotes"),
    "trailing garbage": (HEAD + b'"a"} x', "Extra data"),
    "two objects": (HEAD + b'"a"}{}', "Extra data"),
    "control character": (HEAD + b'"a\n"}', "control character"),
    "invalid UTF-8": (HEAD + b'"\xff\xfe"}', "UTF-8"),
    "cut UTF-8": (HEAD + b'"\xf0\x9f"}', "UTF-8"),
    "gzip": (gzip.compress(json.dumps(GOOD).encode()), "UTF-8"),
    "open brackets": (b"[" * DEPTH, "nested too deeply"),
    "deep list": (b"[" * DEPTH + b"]" * DEPTH, "nested too deeply"),
    "deep prompt": (HEAD + b"[" * DEPTH + b"]" * DEPTH + b"}", "nested too deeply"),
    "deep object": (b'{"a":' * DEPTH + b"1" + b"}" * DEPTH, "nested too deeply"),
    "endless number": (HEAD + b'"a", "n": ' + b"1" * DEPTH + b"}", "too many digits"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_body_that_is_not_json_is_refused_with_the_reason(http: httpx.Client, name: str) -> None:
    content, reason = UNREADABLE[name]
    error = assert_error(http.post("/v1/completions", content=content, headers=JSON), 400)

    assert error["code"] == "invalid_json"
    assert reason in error["message"]
    assert_still_answers(http)


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"5", b'"text"', b"true"], ids=repr)
def test_json_that_is_no_object_is_refused(http: httpx.Client, content: bytes) -> None:
    error = assert_error(http.post("/v1/completions", content=content, headers=JSON), 422)

    assert "must be a JSON object" in error["message"]
    assert_still_answers(http)


@pytest.mark.parametrize(
    "request_parts",
    [
        {"content": json.dumps(GOOD)},
        {"content": json.dumps(GOOD), "headers": {"content-type": "text/plain"}},
        {"content": json.dumps(GOOD), "headers": {"content-type": "nonsense"}},
        {"data": {"model": "letters", "prompt": "a"}},
        {"files": {"model": b"letters"}},
    ],
    ids=["none", "text", "nonsense", "form", "multipart"],
)
def test_a_wrong_content_type_is_refused_by_name(http: httpx.Client, request_parts: dict[str, Any]) -> None:
    error = assert_error(http.post("/v1/completions", **request_parts), 422)

    assert "content-type: application/json" in error["message"]
    assert_still_answers(http)


@pytest.mark.parametrize("content", [HEAD + b"[" * 900 + b"]" * 900 + b"}", b'{"a":' * 900 + b"1" + b"}" * 900])
def test_nesting_that_python_can_read_is_refused_too(http: httpx.Client, content: bytes) -> None:
    assert_error(http.post("/v1/completions", content=content, headers=JSON), 422)
    assert_still_answers(http)


@pytest.mark.parametrize(
    ("content", "param"),
    [
        (HEAD + rb'"\ud800"}', "prompt"),
        (HEAD + rb'["a", "\udfff"]}', "prompt"),
        (HEAD + rb'"a", "stop": "\ud800"}', "stop"),
        (HEAD + rb'"a", "power": {"method": "\ud800"}}', "power.method"),
        (rb'{"prompt": "a", "model": "\ud800"}', "model"),
    ],
)
def test_a_lone_surrogate_is_refused_by_name(http: httpx.Client, content: bytes, param: str) -> None:
    error = assert_error(http.post("/v1/completions", content=content, headers=JSON), 422)

    assert error["param"] == param
    assert_still_answers(http)


def test_a_lone_surrogate_in_a_key_is_refused(http: httpx.Client) -> None:
    assert_error(http.post("/v1/completions", content=HEAD + rb'"a", "\ud800": 1}', headers=JSON), 422)
    assert_still_answers(http)


def test_of_duplicate_keys_the_last_holds(http: httpx.Client) -> None:
    reply = http.post("/v1/completions", content=HEAD + b'"a", "n": 0, "n": 2}', headers=JSON)

    assert reply.status_code == 200
    assert len(reply.json()["choices"]) == 2


def fields(count: int) -> bytes:
    """So many unknown fields."""
    return b", ".join(b'"k%d": 1' % i for i in range(count))


UNKNOWN_FIELDS = {
    "long": (b'"' + b"k" * 1_000_000 + b'": 1', "not permitted"),
    "sixty": (fields(60), "not permitted"),
    "hundred thousand": (fields(100_000), "at most 64 fields"),
    "hundred thousand in power": (b'"power": {' + fields(100_000) + b"}", "power: an object has at most 64 fields"),
}


@pytest.mark.parametrize("name", UNKNOWN_FIELDS)
def test_huge_unknown_fields_are_not_echoed(http: httpx.Client, name: str) -> None:
    extra, says = UNKNOWN_FIELDS[name]
    reply = http.post("/v1/completions", content=HEAD + b'"a", ' + extra + b"}", headers=JSON)

    assert says in assert_error(reply, 422)["message"]
    assert_still_answers(http)


@pytest.mark.slow
@pytest.mark.parametrize("one", ["-1", '""', "[-1]", "[[]]", "{}"])
def test_a_million_wrong_prompts_are_neither_echoed_nor_looked_at_one_by_one(http: httpx.Client, one: str) -> None:
    content = HEAD + b"[" + ",".join([one] * (LIMIT // 6)).encode() + b"]}"
    assert_error(http.post("/v1/completions", content=content, headers=JSON, timeout=60), 422)
    assert_still_answers(http)


def test_a_body_of_10_mb_is_refused_with_the_limit(http: httpx.Client) -> None:
    content = HEAD + b'"' + b"x" * 10_000_000 + b'"}'
    assert_too_large(http.post("/v1/completions", content=content, headers=JSON))
    assert_still_answers(http)


def test_a_chunked_body_without_a_length_is_counted_as_it_arrives(http: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(160):
            yield b"x" * 65_536

    assert_too_large(http.post("/v1/completions", content=chunks(), headers=JSON))
    assert_still_answers(http)


def test_a_chunked_body_within_the_limit_is_answered(http: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for byte in json.dumps(GOOD).encode():
            yield bytes([byte])

    assert http.post("/v1/completions", content=chunks(), headers=JSON).status_code == 200


def test_an_endless_body_is_cut_off(server: str, http: httpx.Client) -> None:
    """The caller promises a gigabyte: the server answers after the limit and hangs up, and does not read on."""
    address = urlsplit(server)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=30) as raw:
        raw.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        raw.sendall(b"Content-Length: 1000000000\r\n\r\n")
        raw.sendall(b"x" * (LIMIT + 1))
        assert b" 413 " in raw.recv(1 << 16)
    assert_still_answers(http)


def assert_too_large(reply: httpx.Response) -> None:
    """413 with the limit."""
    error = assert_error(reply, 413)
    assert error["code"] == "body_too_large"
    assert str(LIMIT) in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/completions/../../etc/passwd", 404),
        ("GET", "/v1/completions", 405),
        ("DELETE", "/v1/completions", 405),
        ("POST", "/v1/models", 405),
        ("POST", "/readyz", 405),
    ],
)
def test_an_unknown_route_or_method_answers_in_the_error_shape(
    http: httpx.Client, method: str, path: str, status: int
) -> None:
    assert_error(http.request(method, path, follow_redirects=True), status)
    assert_still_answers(http)


def test_a_request_that_is_not_http_does_not_harm_the_server(server: str, http: httpx.Client) -> None:
    address = urlsplit(server)
    for nonsense in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\0" * 1000 + b"\r\n\r\n"):
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=30) as raw:
            raw.sendall(nonsense)
    assert_still_answers(http)
