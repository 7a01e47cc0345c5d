"""The analysis routes over a real socket."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from service.analysis import ANALYSES
from service.api.analysis import wants_picture
from tests.analysis.conftest import PATIENCE_S
from tests.analysis.test_pool import is_running
from tests.service.checks import assert_error
from tests.service.serving import wait_until

Start = Callable[..., AbstractContextManager[str]]
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def test_the_list_has_every_analysis_with_an_example(http: httpx.Client) -> None:
    listed = http.get("/v1/analysis").json()
    assert listed["object"] == "list"
    assert [one["name"] for one in listed["data"]] == list(ANALYSES)
    for one in listed["data"]:
        assert one["path"] == f"/v1/analysis/{one['name']}"
        assert one["paper"]["title"]
        assert one["summary"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, one in ANALYSES.items() if not one.job_only])
def test_every_example_of_the_list_can_be_posted_and_drawn(http: httpx.Client, name: str) -> None:
    example = next(one for one in http.get("/v1/analysis").json()["data"] if one["name"] == name)
    body = example["example"]
    reply = http.post(example["path"], json=body)
    assert reply.status_code == 200, reply.text[:500]
    assert reply.headers["content-type"] == "application/json"
    found = json.loads(reply.text, parse_constant=lambda word: pytest.fail(f"{word} in a reply"))
    ANALYSES[name].response.model_validate_json(reply.content)
    assert found["method"]
    assert found["seed"] is not None if example["seeded"] else found["seed"] == body.get("seed")
    picture = http.post(example["path"], json=body, headers={"Accept": "image/png"})
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(PNG_MAGIC)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ANALYSES))
def test_openapi_has_the_exact_schemas_and_errors(http: httpx.Client, name: str) -> None:
    document = http.get("/openapi.json").json()
    route = document["paths"][f"/v1/analysis/{name}"]["post"]
    asked = route["requestBody"]["content"]["application/json"]
    assert asked["schema"]["$ref"].endswith(f"/{ANALYSES[name].request.__name__}")
    assert asked["examples"]["example"]["value"] == ANALYSES[name].example
    given = route["responses"]["200"]["content"]
    assert given["application/json"]["schema"]["$ref"].endswith(f"/{ANALYSES[name].response.__name__}")
    assert given["image/png"]["schema"]["format"] == "binary"
    for status in ("400", "413", "422", "429", "500", "503", "504"):
        assert route["responses"][status]["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorReply")


def test_an_unknown_name_is_not_found(http: httpx.Client) -> None:
    assert_error(http.post("/v1/analysis/no-such", json={}), 404)


def test_bodies_that_are_no_requests(http: httpx.Client) -> None:
    path = f"/v1/analysis/{next(iter(ANALYSES))}"
    json_header = {"content-type": "application/json"}
    assert_error(http.post(path, content=b"{", headers=json_header), 400)
    assert_error(http.post(path, content=b"[]", headers=json_header), 422)
    assert_error(http.post(path, json={"seed": -1}), 422)
    assert assert_error(http.post(path, json={"colour": 1}), 422)["message"]


def test_too_large_a_body_is_refused_as_it_arrives(start_probes: Start) -> None:
    with start_probes(max_body_bytes=1024) as url:
        body = json.dumps({"pid_file": "x" * 5000})
        reply = httpx.post(f"{url}/v1/analysis/probe", content=body, headers={"content-type": "application/json"})
        assert_error(reply, 413)


@pytest.mark.slow
def test_refusals_failures_and_deaths_each_have_their_status(start_probes: Start) -> None:
    with start_probes() as url, httpx.Client(base_url=url, timeout=PATIENCE_S) as http:
        for action, status, code in (
            ("refuse", 422, "invalid_value"),
            ("conflict", 409, "inconsistent_oracle"),
            ("die", 503, "worker_died"),
            ("raise", 500, "internal_error"),
            ("not_a_number", 500, "internal_error"),
            ("much_memory", 503, "out_of_memory"),
        ):
            error = assert_error(http.post("/v1/analysis/probe", json={"action": action}), status)
            assert error["code"] == code
        assert assert_error(http.post("/v1/analysis/probe/long", json={}), 422)["code"] == "job_only"
        assert http.post("/v1/analysis/probe", json={"seed": 4}).json()["seed"] == 4


def test_a_not_a_number_in_a_body_is_refused(start_probes: Start) -> None:
    with start_probes() as url:
        header = {"content-type": "application/json"}
        for word in ("NaN", "Infinity", "-Infinity"):
            reply = httpx.post(f"{url}/v1/analysis/probe", content=f'{{"scale": {word}}}', headers=header)
            assert assert_error(reply, 422)["param"] == "scale"


@pytest.mark.slow
def test_the_time_limit_is_a_504(start_probes: Start) -> None:
    with start_probes(analysis_time_limit_s=1.5) as url:
        reply = httpx.post(f"{url}/v1/analysis/probe", json={"action": "hang"}, timeout=PATIENCE_S)
        error = assert_error(reply, 504)
        assert error["code"] == "analysis_timeout"
        assert "1.5 s" in error["message"]


@contextmanager
def hanging(url: str, pid_file: Path) -> Iterator[None]:
    """A request whose computation has begun and will not end; at the exit its client leaves."""
    address = urlsplit(url)
    content = json.dumps({"action": "hang", "pid_file": str(pid_file)}).encode()
    head = f"POST /v1/analysis/probe HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n"
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=30) as raw:
        raw.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + content)
        wait_until(pid_file.exists, "the work to begin", PATIENCE_S)
        yield


@pytest.mark.slow
def test_a_client_that_leaves_kills_the_process_and_frees_its_place(start_probes: Start, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with start_probes(analysis_workers=1) as url:
        with hanging(url, pid_file):
            pass
        wait_until(lambda: not is_running(int(pid_file.read_text())), "the process to end")
        reply = httpx.post(f"{url}/v1/analysis/probe", json={}, timeout=PATIENCE_S)
        assert reply.status_code == 200


@pytest.mark.slow
def test_one_more_than_may_run_hears_429_and_health_answers(start_probes: Start, tmp_path: Path) -> None:
    with start_probes(analysis_workers=1) as url, hanging(url, tmp_path / "pid"):
        reply = httpx.post(f"{url}/v1/analysis/probe", json={}, timeout=PATIENCE_S)
        error = assert_error(reply, 429)
        assert (error["type"], error["code"]) == ("rate_limit_error", "analysis_busy")
        assert int(reply.headers["retry-after"]) >= 1
        assert httpx.get(f"{url}/livez").status_code == 200


@pytest.mark.parametrize(
    ("accept", "picture"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("image/png", True),
        ("IMAGE/PNG", True),
        ("image/*", True),
        ("application/json, image/png", False),
        ("application/json;q=0.5, image/png", True),
        ("image/png;q=0", False),
        ("image/png;q=nonsense", False),
        ("image/png, */*;q=0.1", True),
        ("text/html", False),
    ],
)
def test_the_picture_is_for_those_who_like_it_better(accept: str, picture: bool) -> None:
    assert wants_picture(accept) is picture
