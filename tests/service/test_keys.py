"""Keys: who is let in, what is said to the others, and that every route says whether it needs one."""

import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from typer.testing import CliRunner

from sampler.errors import InvalidParams
from service.app import create_app
from service.auth import KeyedRoute, is_loopback
from service.cli import app as cli
from service.keys import Keys, new_key, read_keys
from service.settings import Settings
from tests.service.checks import GOOD, assert_error
from tests.service.faulty import FaultyEngine
from tests.service.serving import serving
from tests.service.tables import letters_table

ALICE, ALICE_LINE = new_key("alice")
BOB, BOB_LINE = new_key("bob")
PROBES = {"/livez", "/readyz", "/version"}
PAGES = {
    "/ui",
    "/ui/",
    "/ui/analysis",
    "/ui/analysis/",
    "/ui/api",
    "/ui/api/",
    "/ui/saved.html",
    "/ui/static/{path:path}",
}
OPEN_ROUTES = PROBES | PAGES
"""What probes and deployers ask without a key, and the pages, whose calls need one. Everything else needs one."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    keys = f"{ALICE_LINE},{BOB_LINE}"
    with serving(FaultyEngine(letters_table()), Settings(keys=keys)) as url:  # type: ignore[arg-type]
        yield url


def ask(url: str, *headers: tuple[str, str | bytes], path: str = "/v1/completions", **more: Any) -> httpx.Response:
    """One completion with these headers."""
    return httpx.post(url + path, json=GOOD, headers=list(headers), timeout=30, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [ALICE, BOB], ids=["alice", "bob"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_right_key_is_let_in(url: str, key: str, scheme: str) -> None:
    assert ask(url, ("Authorization", f"{scheme} {key}")).status_code == 200


WRONG: dict[str, list[tuple[str, str | bytes]]] = {
    "none": [],
    "empty": [("Authorization", "")],
    "scheme alone": [("Authorization", "Bearer")],
    "quoted nothing": [("Authorization", 'Bearer ""')],
    "wrong": [("Authorization", f"Bearer {new_key('eve')[0]}")],
    "prefix": [("Authorization", f"Bearer {ALICE[:-1]}")],
    "longer": [("Authorization", f"Bearer {ALICE}x")],
    "two keys": [("Authorization", f"Bearer {ALICE} {BOB}")],
    "other case": [("Authorization", f"Bearer {ALICE.swapcase()}")],
    "its hash": [("Authorization", f"Bearer {ALICE_LINE.split(':')[1]}")],
    "its name": [("Authorization", "Bearer alice")],
    "basic": [("Authorization", f"Basic {ALICE}")],
    "no scheme": [("Authorization", ALICE)],
    "not ASCII": [("Authorization", "Bearer ключ".encode())],
    "not text": [("Authorization", b"Bearer \xff\xfe\x01")],
    "huge": [("Authorization", "Bearer " + "x" * 30_000)],
    "two headers, both right": [("Authorization", f"Bearer {ALICE}"), ("Authorization", f"Bearer {ALICE}")],
    "two headers, one right": [("Authorization", f"Bearer {ALICE}"), ("Authorization", "Bearer x")],
    "other header": [("X-Api-Key", ALICE)],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_key_is_401_in_the_error_shape(url: str, name: str) -> None:
    reply = ask(url, *WRONG[name])
    error = assert_error(reply, 401)
    assert error["code"] == "invalid_api_key"
    assert reply.headers["www-authenticate"] == "Bearer"
    assert ALICE not in reply.text
    assert ask(url, ("Authorization", f"Bearer {ALICE}")).status_code == 200


@pytest.mark.parametrize("query", ["?api_key={}", "?key={}", "?authorization=Bearer%20{}", "?token={}"])
def test_a_key_in_the_query_lets_nobody_in(url: str, query: str) -> None:
    assert_error(ask(url, path="/v1/completions" + query.format(ALICE)), 401)


def test_a_forged_host_or_path_lets_nobody_in(url: str) -> None:
    for host in ("127.0.0.1/livez", "x@/livez?", "livez", "localhost:8000/livez#"):
        assert ask(url, ("Host", host)).status_code == 401
    for path in ("/livez/../v1/completions", "//v1/completions", "/v1/completions/", "/%761/completions"):
        reply = httpx.post(url + path, json=GOOD, timeout=30, follow_redirects=False)
        assert reply.status_code in {401, 404, 307}
    forwarded = (("X-Forwarded-For", "127.0.0.1"), ("X-Original-URL", "/livez"), ("X-Forwarded-Prefix", "/livez"))
    assert ask(url, *forwarded).status_code == 401


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"x" * 100_000], ids=["empty", "cut", "deep", "long"])
def test_the_key_is_asked_for_before_the_body_is_looked_at(url: str, content: bytes) -> None:
    reply = httpx.post(f"{url}/v1/completions", content=content, headers={"content-type": "application/json"})
    assert_error(reply, 401)


def test_the_official_client_raises_its_own_error(url: str) -> None:
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()
    with openai.OpenAI(base_url=f"{url}/v1", api_key=BOB, max_retries=0) as client:
        assert client.models.list().data
        assert client.completions.create(model="letters", prompt="a", max_tokens=2).choices


# Every route.


def routes(app: FastAPI) -> dict[str, bool]:
    """Path → whether it needs a key, of every route of the application."""
    found: dict[str, bool] = {}
    for route in app.routes:
        assert isinstance(route, APIRoute), f"{route} is no route of ours and would be open"
        found[route.path] = isinstance(route, KeyedRoute)
    return found


def test_every_route_needs_a_key_but_those_listed_here() -> None:
    found = routes(create_app(FaultyEngine(letters_table()), Settings(keys=ALICE_LINE)))  # type: ignore[arg-type]
    assert {path for path, keyed in found.items() if not keyed} <= OPEN_ROUTES
    assert {"/v1/completions", "/v1/models", "/metrics", "/openapi.json", "/docs", "/redoc"} <= found.keys()


@pytest.mark.slow
def test_every_route_asks_for_the_key_or_does_not(url: str) -> None:
    """The same by asking: no route that should be closed does anything without a key."""
    app = create_app(FaultyEngine(letters_table()), Settings(keys=ALICE_LINE))  # type: ignore[arg-type]
    for route in app.routes:
        assert isinstance(route, APIRoute)
        path = route.path.replace("{", "").replace("}", "")
        for method in route.methods:
            status = httpx.request(method, url + path, timeout=30).status_code
            assert (status == 401) == (route.path not in OPEN_ROUTES), (method, path, status)


def test_the_schema_says_which_routes_need_a_key(url: str) -> None:
    document = httpx.get(f"{url}/openapi.json", headers={"Authorization": f"Bearer {ALICE}"}, timeout=30).json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == (path not in OPEN_ROUTES)
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_settings_open_metrics_and_pages() -> None:
    opened = Settings(keys=ALICE_LINE, open_metrics=True, open_docs=True)  # type: ignore[arg-type]
    found = routes(create_app(FaultyEngine(letters_table()), opened))
    assert {path for path, keyed in found.items() if not keyed} - OPEN_ROUTES == {
        "/metrics", "/openapi.json", "/docs", "/redoc",
    }  # fmt: skip


@pytest.mark.slow
def test_without_keys_everybody_is_let_in_and_a_key_does_no_harm() -> None:
    with serving(FaultyEngine(letters_table())) as url:
        schema = httpx.get(f"{url}/openapi.json", timeout=30).text
        assert "security" not in schema, "no key is wanted, so the schema asks for none"
        assert ask(url).status_code == 200
        assert ask(url, ("Authorization", "Bearer whatever")).status_code == 200
        assert httpx.get(f"{url}/metrics").status_code == 200


def test_no_other_site_may_read_a_reply(url: str) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    preflight = httpx.options(f"{url}/v1/completions", headers=headers)
    assert preflight.status_code in {401, 405}
    reply = ask(url, ("Authorization", f"Bearer {ALICE}"), ("Origin", "https://evil.example"))
    for each in (preflight, reply):
        assert not [name for name in each.headers if name.startswith("access-control")]


# Keys by themselves.


def test_a_key_is_long_random_and_kept_as_its_hash_alone() -> None:
    keys = {new_key("a")[0] for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) >= 43 + len("pck-") for key in keys), "256 bits"
    assert f"alice:{hashlib.sha256(ALICE.encode()).hexdigest()}" == ALICE_LINE
    assert ALICE not in ALICE_LINE


def test_every_key_is_compared_whole_and_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []
    compare = hmac.compare_digest

    def counted(a: str, b: str) -> bool:
        seen.append((a, b))
        return compare(a, b)

    monkeypatch.setattr("service.keys.hmac.compare_digest", counted)
    made = [new_key(f"k{i}") for i in range(5)]
    keys = read_keys("\n".join(line for _, line in made), None)
    for key, expected in ((made[0][0], "k0"), (made[4][0], "k4"), ("x", None)):
        seen.clear()
        assert keys.name_of(key.encode()) == expected
        assert len(seen) == 5
    assert not Keys()


def test_keys_come_from_a_setting_and_a_file_together(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# who may call\n\n  {BOB_LINE}  \n")
    keys = read_keys(ALICE_LINE, file)
    assert (keys.name_of(ALICE.encode()), keys.name_of(BOB.encode())) == ("alice", "bob")
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("alice", "NAME:HASH"),
        ("alice:", "NAME:HASH"),
        (f"alice:{ALICE}", "NAME:HASH"),
        (":" + "0" * 64, "name is"),
        ("a b:" + "0" * 64, "name is"),
        ("anonymous:" + "0" * 64, "name is"),
        (f"{ALICE_LINE},{ALICE_LINE}", "named alice"),
        (f"{ALICE_LINE},bob:123", "entry 2"),
    ],
    ids=["name alone", "no hash", "key itself", "no name", "two words", "anonymous", "twice", "second"],
)
def test_a_bad_line_is_refused_and_not_shown(text: str, says: str) -> None:
    with pytest.raises(InvalidParams, match=says) as caught:
        read_keys(text, None)
    assert ALICE not in str(caught.value)


def test_a_bad_file_is_refused(tmp_path: Path) -> None:
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.write_text("# nobody\n")
    binary.write_bytes(b"\xff\xfe")
    for file, says in (
        (tmp_path / "none", "No such file"),
        (empty, "no key"),
        (binary, "not text"),
        (tmp_path, "directory"),
    ):
        with pytest.raises(InvalidParams, match=says):
            read_keys(None, file)


# The commands.


def test_the_command_prints_a_key_once_and_its_line() -> None:
    result = CliRunner().invoke(cli, ["key", "carol"])
    assert result.exit_code == 0
    key = next(line for line in result.stdout.splitlines() if line.startswith("pck-"))
    line = result.stdout.strip().splitlines()[-1]
    assert read_keys(line, None).name_of(key.encode()) == "carol"
    assert CliRunner().invoke(cli, ["key", "two words"]).exit_code == 2


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_a_public_address_without_keys_is_refused_in_words(host: str, table_file: Path) -> None:
    line = ["serve", "--engine", "tabular", "--model", str(table_file), "--host", host]
    result = CliRunner().invoke(cli, line)
    assert result.exit_code == 2
    assert "--host" in result.stderr if not host else "--allow-public-without-keys" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("[::1]", True), ("localhost", True),
     ("LOCALHOST", True), ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("localhost.evil.example", False),
     ("127.0.0.1.evil.example", False), ("2130706433", False)],
)  # fmt: skip
def test_which_addresses_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
