"""Bringing and reading benchmark files: pinned, whole or not at all, and never a file that is another."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from evals.benchmarks import BENCHMARKS
from evals.benchmarks.aime import AIME24, AIME25, from_llm_eval, from_qwen
from evals.benchmarks.gpqa import GPQA
from evals.data import Source, as_json_lines, default_folder, json_lines, read, store
from evals.data_command import app
from evals.data_fetch import LARGEST_BYTES, from_folder, from_web
from evals.errors import DataError, DataMismatch, DataMissing

RAW = b'{"a": 1}\n'
SOURCE = Source("made-up", "rows.jsonl", hashlib.sha256(RAW).hexdigest(), "{hub}/rows", "me/rows", "1", gated="Ask me.")


class Hub(BaseHTTPRequestHandler):
    """A hub that serves what its server is given, and keeps what it was asked."""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))  # type: ignore[attr-defined]
        status, body = self.server.replies.get(self.path, (404, b""))  # type: ignore[attr-defined]
        self.send_response(status)
        if status == 302:
            self.send_header("Location", body.decode())
            body = b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing on standard error."""


class HubServer(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hub)
        self.replies: dict[str, tuple[int, bytes]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what one test is about."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    server = HubServer()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf_made_up")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=10.0) as made:
        yield made


def test_a_file_is_brought_with_the_token_and_verified(hub: HubServer, client: httpx.Client, tmp_path: Path) -> None:
    hub.replies["/rows"] = (200, RAW)
    path = from_web(SOURCE, tmp_path / "new", client)
    assert path.read_bytes() == RAW == read(SOURCE, tmp_path / "new")
    assert hub.asked == [("/rows", "Bearer hf_made_up")]
    assert list(path.parent.iterdir()) == [path]


def test_another_host_gets_no_token(hub: HubServer, client: httpx.Client, tmp_path: Path) -> None:
    other = f"http://localhost:{hub.server_port}/moved"
    hub.replies |= {"/rows": (302, other.encode()), "/moved": (200, RAW)}
    from_web(SOURCE, tmp_path, client)
    from_web(replace(SOURCE, url=f"{hub.url}/moved"), tmp_path, client)
    assert [token for _, token in hub.asked] == ["Bearer hf_made_up", None, None]


def test_another_file_is_refused_and_nothing_is_left(hub: HubServer, client: httpx.Client, tmp_path: Path) -> None:
    hub.replies["/rows"] = (200, RAW + b" ")
    with pytest.raises(DataMismatch, match=f"wanted {SOURCE.sha256}.*refused"):
        from_web(SOURCE, tmp_path, client)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_survives_a_bad_one(hub: HubServer, client: httpx.Client, tmp_path: Path) -> None:
    store(SOURCE, RAW, tmp_path)
    hub.replies["/rows"] = (200, b"another")
    with pytest.raises(DataMismatch):
        from_web(SOURCE, tmp_path, client)
    assert read(SOURCE, tmp_path) == RAW


@pytest.mark.parametrize("status", [401, 403])
def test_gated_data_says_how_to_get_it(
    hub: HubServer, client: httpx.Client, tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.replies["/rows"] = (status, b"")
    with pytest.raises(DataError, match=rf"with the token that was sent the hub answers {status}\. Ask me\."):
        from_web(SOURCE, tmp_path, client)
    monkeypatch.setattr("evals.data_fetch.get_token", lambda: None)
    with pytest.raises(DataError, match=r"no token was found.*Ask me\."):
        from_web(SOURCE, tmp_path, client)
    assert hub.asked[-1] == ("/rows", None)


def test_gpqa_says_all_three_ways() -> None:
    for word in ("accept the terms", "HF_TOKEN", "--from FOLDER", "gpqa_diamond.csv"):
        assert word in (GPQA.source.gated or "")


def test_a_hub_that_fails_or_is_not_there_is_a_clear_error(
    hub: HubServer, client: httpx.Client, tmp_path: Path
) -> None:
    hub.replies["/rows"] = (500, b"")
    with pytest.raises(DataError, match=r"answered 500.*--from FOLDER"):
        from_web(SOURCE, tmp_path, client)
    with pytest.raises(DataError, match=r"cannot be had.*--from FOLDER"):
        from_web(replace(SOURCE, url="http://127.0.0.1:1/rows"), tmp_path, client)


def test_a_server_that_sends_too_much_is_stopped(hub: HubServer, client: httpx.Client, tmp_path: Path) -> None:
    hub.replies["/rows"] = (200, bytes(LARGEST_BYTES + 1))
    with pytest.raises(DataError, match="more than 64 MiB"):
        from_web(SOURCE, tmp_path, client)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_gives_the_file_under_either_name(tmp_path: Path) -> None:
    given, folder = tmp_path / "given", tmp_path / "folder"
    given.mkdir()
    source = replace(SOURCE, upstream_names=("test.jsonl",))
    with pytest.raises(DataMissing, match=r"none of rows\.jsonl, test\.jsonl"):
        from_folder(source, given, folder)
    (given / "test.jsonl").write_bytes(RAW)
    assert from_folder(source, given, folder) == folder / "rows.jsonl"
    (given / "rows.jsonl").write_bytes(b"another")
    with pytest.raises(DataMismatch):
        from_folder(source, given, folder)


def test_upstream_files_are_made_into_ours(tmp_path: Path) -> None:
    upstream = b'{"b": 1}\n'
    digest = hashlib.sha256(upstream).hexdigest()
    source = replace(SOURCE, upstream_sha256=digest, convert=lambda raw: raw.replace(b"b", b"a"))
    assert store(source, upstream, tmp_path).read_bytes() == RAW
    with pytest.raises(DataMismatch):
        store(replace(source, convert=lambda raw: raw), upstream, tmp_path)


def test_the_conversions_of_aime() -> None:
    url = "https://example.org/2024_AIME_{}_Problems/Problem_{}"
    rows = [
        {"url": url.format(c, n), "problem": f"{c}{n}", "answer": f"0{n}", "solution": "s"}
        for c in ("II", "I")
        for n in (10, 2)
    ]
    made = json_lines(from_qwen(as_json_lines(rows)))
    assert [row["id"] for row in made] == ["2024-I-02", "2024-I-10", "2024-II-02", "2024-II-10"]
    assert made[0] == {"id": "2024-I-02", "problem": "I2", "answer": "2", "url": url.format("I", 2)}
    asked = "Q\nPlease reason step by step, and put your final answer within \\boxed{}."
    made = json_lines(from_llm_eval(2025)(as_json_lines([{"prompt": asked, "answer": n} for n in range(30)])))
    assert (made[0]["id"], made[14]["id"], made[15]["id"], made[29]["id"]) == (
        "2025-I-01",
        "2025-I-15",
        "2025-II-01",
        "2025-II-15",
    )
    assert made[3] == {"id": "2025-I-04", "problem": "Q", "answer": "3"}


def test_every_source_is_pinned() -> None:
    for name, benchmark in BENCHMARKS.items():
        source = benchmark.source
        assert len(source.sha256) == 64, name
        assert len(source.revision) == 40
        assert source.revision in source.url
        assert (source.convert is None) == (source.upstream_sha256 is None)
    assert len({benchmark.source.sha256 for benchmark in BENCHMARKS.values()}) == len(BENCHMARKS)


def test_the_command_brings_from_a_folder_and_lists(data_folder: Path, tmp_path: Path) -> None:
    runner, folder = CliRunner(), str(tmp_path / "data")
    done = runner.invoke(app, ["fetch", "aime24", "math500", "--from", str(data_folder), "--to", folder])
    assert done.exit_code == 0, done.output
    assert AIME24.load(tmp_path / "data").problems == AIME24.load(data_folder).problems
    again = runner.invoke(app, ["fetch", "aime24", "--to", folder])
    assert "is there already" in again.output
    listed = runner.invoke(app, ["list", "--to", folder])
    assert "aime24: there; from QwenLM/Qwen2.5-Math" in listed.output
    assert "\naime25: no aime2025.jsonl in" in listed.output
    lacking = runner.invoke(app, ["fetch", "gpqa", "aime25", "--from", str(data_folder), "--to", folder])
    assert lacking.exit_code == 1
    assert "gpqa: none of gpqa_diamond.csv is in" in lacking.output
    assert AIME25.load(tmp_path / "data").sha256 == AIME25.source.sha256


def test_an_unknown_name_is_refused_before_anything_is_brought(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["fetch", "aime24", "aime27", "--to", str(tmp_path)])
    assert done.exit_code == 2
    assert "no benchmark 'aime27'" in done.output
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "powercut" / "benchmarks"
    with pytest.raises(DataMissing, match="powercut-eval data fetch made-up"):
        read(SOURCE, None)
