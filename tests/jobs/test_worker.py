"""What the worker makes of failing engines, of interactive requests beside it, of keys, and of metrics."""

import http.client
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from sampler.errors import EngineDead, EngineError, EngineOutOfMemory, EngineOverloaded
from service.cli import app
from service.jobs.worker import TRIES
from service.keys import new_key
from service.settings import Settings
from tests.jobs.servers import answers, ask, completion_row, content, create, finish, jsonl, look, submit, upload
from tests.service.checks import GOOD, assert_error
from tests.service.faulty import FaultyEngine
from tests.service.serving import metric, serving, wait_until
from tests.service.tables import letters_table

PLAIN: dict[str, Any] = {"power": None, "max_tokens": 4}


def settings(folder: Path, **given: Any) -> Settings:
    return Settings(data_dir=folder, batch_poll_s=0.05, **given)


def fails_until(calls: int, error: Callable[[], Exception]) -> Callable[[int], Exception | None]:
    return lambda call: error() if call <= calls else None


@pytest.mark.slow
@pytest.mark.parametrize(
    "error", [lambda: EngineError("flaky"), lambda: EngineOutOfMemory("full"), lambda: RuntimeError("a fault of ours")]
)
def test_a_row_on_which_the_engine_fails_is_tried_again(error: Callable[[], Exception], tmp_path: Path) -> None:
    engine = FaultyEngine(letters_table(), fail=fails_until(1, error))
    with serving(engine, settings(tmp_path)) as url:
        done = finish(url, submit(url, [completion_row(1, **PLAIN)]))
        assert done["request_counts"]["completed"] == 1
        assert engine.calls == 2


@pytest.mark.slow
def test_a_row_on_which_the_engine_always_fails_has_the_error_as_its_result(tmp_path: Path) -> None:
    engine = FaultyEngine(letters_table(), fail=lambda call: EngineError("always"))
    with serving(engine, settings(tmp_path)) as url:
        done = finish(url, submit(url, [completion_row(1, **PLAIN)]))
        assert done["request_counts"] == {"total": 1, "completed": 0, "failed": 1, "resumed": 0}
        (line,) = content(url, done["error_file_id"])
        assert line["response"]["status_code"] == 500
        assert line["response"]["body"]["error"]["code"] == "engine_error"
        assert engine.calls == TRIES


@pytest.mark.slow
def test_an_overloaded_engine_is_waited_for_as_long_as_it_takes(tmp_path: Path) -> None:
    engine = FaultyEngine(letters_table(), fail=fails_until(TRIES + 1, lambda: EngineOverloaded("later")))
    with serving(engine, settings(tmp_path)) as url:
        done = finish(url, submit(url, [completion_row(1, **PLAIN)]))
        assert done["request_counts"]["completed"] == 1


@pytest.mark.slow
def test_a_dead_engine_stops_the_batch_and_fails_no_row(tmp_path: Path) -> None:
    engine = FaultyEngine(letters_table(), fail=lambda call: EngineDead("gone"))
    engine.is_alive = False
    with serving(engine, settings(tmp_path)) as url:
        batch = submit(url, [completion_row(number, **PLAIN) for number in range(3)])
        wait_until(lambda: look(url, batch)["status"] == "in_progress", "the batch to begin")
        time.sleep(0.3)
        assert engine.calls == 0
        engine.is_alive = True  # a supervisor would start another server; here the engine itself comes back
        wait_until(lambda: engine.calls >= 3, "rows to be tried")
        engine.fail = lambda call: None
        done = finish(url, batch)
        assert done["request_counts"] == {"total": 3, "completed": 3, "failed": 0, "resumed": 0}


@pytest.mark.slow
def test_an_interactive_request_goes_before_the_rows_that_wait(tmp_path: Path) -> None:
    engine = FaultyEngine(letters_table(), delay_s=0.02)
    with serving(engine, settings(tmp_path, max_running_requests=2)) as url:
        batch = submit(url, [completion_row(number, **PLAIN) for number in range(100)])
        wait_until(lambda: look(url, batch)["request_counts"]["completed"] > 0, "the batch to run")
        assert ask("POST", f"{url}/v1/completions", json=GOOD).status_code == 200
        counts = look(url, batch)["request_counts"]
        assert counts["completed"] < 100, "it did not wait for the batch"
        assert finish(url, batch)["request_counts"]["completed"] == 100


@pytest.mark.slow
def test_each_key_has_its_own_files_and_batches(tmp_path: Path) -> None:
    (alice, first), (bob, second) = new_key("alice"), new_key("bob")
    engine = FaultyEngine(letters_table())
    with serving(engine, settings(tmp_path, keys=f"{first},{second}")) as url:
        mine, theirs = ({"Authorization": f"Bearer {key}"} for key in (alice, bob))
        file = upload(url, jsonl([completion_row(1, **PLAIN)]), **mine)["id"]
        asked = {"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"}
        assert_error(ask("POST", f"{url}/v1/batches", json=asked), 401)
        assert_error(ask("POST", f"{url}/v1/batches", json=asked, headers=theirs), 404)
        batch = ask("POST", f"{url}/v1/batches", json=asked, headers=mine).json()["id"]
        for path in (f"files/{file}", f"files/{file}/content", f"batches/{batch}"):
            assert ask("GET", f"{url}/v1/{path}", headers=mine).status_code == 200
            assert_error(ask("GET", f"{url}/v1/{path}", headers=theirs), 404)
            assert_error(ask("GET", f"{url}/v1/{path}"), 401)
        assert_error(ask("POST", f"{url}/v1/batches/{batch}/cancel", headers=theirs), 404)
        assert ask("GET", f"{url}/v1/batches", headers=theirs).json()["data"] == []
        assert ask("GET", f"{url}/v1/files", headers=theirs).json()["data"] == []


def test_metrics_count_rows(tmp_path: Path) -> None:
    with serving(FaultyEngine(letters_table()), settings(tmp_path)) as url:
        rows = [completion_row(number, **PLAIN) for number in range(4)] + [completion_row(9, model="another")]
        finish(url, submit(url, rows))
        assert metric(url, "powercut:batch_rows_total", event="done") == 4
        assert metric(url, "powercut:batch_rows_total", event="failed") == 1
        wait_until(lambda: metric(url, "powercut:batch_rows_now") == 0, "the gauge, of every state, to be read")


def test_chat_rows_are_answered_as_the_chat_route_does(tmp_path: Path) -> None:
    body = {"model": "letters", "messages": [{"role": "user", "content": "hi"}], "seed": 3, "max_tokens": 4}
    with serving(FaultyEngine(letters_table()), settings(tmp_path)) as url:
        direct = ask("POST", f"{url}/v1/chat/completions", json=body)
        row = {"custom_id": "one", "method": "POST", "url": "/v1/chat/completions", "body": body}
        done = finish(url, create(url, upload(url, jsonl([row]))["id"], "/v1/chat/completions")["id"])
        kind = "output_file_id" if direct.status_code == 200 else "error_file_id"
        (line,) = content(url, done[kind])
        assert line["response"]["status_code"] == direct.status_code
        same = {name: line["response"]["body"].get(name) for name in ("choices", "usage", "error")}
        assert same == {name: direct.json().get(name) for name in same}


@pytest.mark.slow
def test_rows_of_an_analysis_are_answered_as_its_route_does(tmp_path: Path) -> None:
    with serving(FaultyEngine(letters_table()), settings(tmp_path)) as url:
        known = ask("GET", f"{url}/v1/analysis").json()["data"]
        asked = next(each for each in known if each["name"] == "benchmark-bounds")
        direct = ask("POST", f"{url}{asked['path']}", json=asked["example"])
        assert direct.status_code == 200, direct.text
        rows = [
            {"custom_id": name, "method": "POST", "url": asked["path"], "body": body}
            for name, body in (("right", asked["example"]), ("wrong", {"nothing": 1}))
        ]
        batch = create(url, upload(url, jsonl(rows))["id"], asked["path"])
        assert batch["model"] is None, "any server may run it, whatever model it serves"
        done = finish(url, batch["id"])
        (right,), (wrong,) = content(url, done["output_file_id"]), content(url, done["error_file_id"])
        assert right["response"]["body"] == direct.json()
        assert wrong["response"]["status_code"] == 422


def test_a_server_without_batches_makes_nothing_on_the_disk(tmp_path: Path) -> None:
    with serving(FaultyEngine(letters_table()), settings(tmp_path / "data")) as url:
        assert ask("POST", f"{url}/v1/completions", json=GOOD).status_code == 200
        time.sleep(0.2)
        assert not (tmp_path / "data").exists()


def test_a_slow_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with serving(FaultyEngine(letters_table()), settings(tmp_path)) as url:
        boundary = "b"
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n{{}}\n'

        def pieces() -> Iterator[bytes]:
            yield head.encode()
            raise RuntimeError("the client is gone")

        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": "100000"}
        with pytest.raises(RuntimeError), httpx.Client() as client:
            client.post(f"{url}/v1/files", content=pieces(), headers=headers)
        wait_until(lambda: not list((tmp_path / "files").glob("*")), "the half file to be gone")
        assert ask("GET", f"{url}/v1/files").json()["data"] == []


FORMS: dict[str, tuple[str, bytes, int]] = {
    "JSON": ("application/json", b"{}", 400),
    "no boundary": ("multipart/form-data", b"", 400),
    "not a form": ("multipart/form-data; boundary=b", b"hello", 400),
    "cut off": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n{}',
        400,
    ),
    "no file": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n',
        422,
    ),
    "endless headers": (
        "multipart/form-data; boundary=b",
        b"--b\r\nContent-Disposition: " + b"x" * 20_000 + b"\r\n\r\n\r\n--b--\r\n",
        400,
    ),
    "endless field": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n' + b"x" * 20_000 + b"\r\n--b--\r\n",
        400,
    ),
}


def test_a_form_that_is_none_is_refused(tmp_path: Path) -> None:
    with serving(FaultyEngine(letters_table()), settings(tmp_path)) as url:
        for case, (kind, body, status) in FORMS.items():
            reply = ask("POST", f"{url}/v1/files", content=body, headers={"Content-Type": kind})
            assert reply.status_code == status, (case, reply.text)
            assert_error(reply, status)
        two = [("file", ("a", b"{}")), ("file", ("b", b"{}"))]
        assert_error(ask("POST", f"{url}/v1/files", data={"purpose": "batch"}, files=two), 400)
        extra = {"purpose": "batch", "turbo": "yes"}
        assert_error(ask("POST", f"{url}/v1/files", data=extra, files={"file": ("a", b"{}")}), 422)
        assert ask("GET", f"{url}/v1/files").json()["data"] == []


def test_a_gigabyte_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    with serving(FaultyEngine(letters_table()), settings(tmp_path)) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
        connection.putrequest("POST", "/v1/files")
        connection.putheader("Content-Type", "multipart/form-data; boundary=b")
        connection.putheader("Content-Length", str(1 << 30))
        connection.endheaders()
        reply = connection.getresponse()
        assert reply.status == 413
        assert json.loads(reply.read())["error"]["code"] == "file_too_large"
        connection.close()


def test_more_than_was_declared_is_refused_as_it_arrives(tmp_path: Path) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'

    def pieces() -> Iterator[bytes]:
        yield head
        for _ in range(64):
            yield b" " * (1 << 16)

    with serving(FaultyEngine(letters_table()), settings(tmp_path, max_upload_bytes=1 << 20)) as url:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        reply = ask("POST", f"{url}/v1/files", content=pieces(), headers=headers)  # in chunks, of no declared length
        assert_error(reply, 413)
        assert not list((tmp_path / "files").iterdir())


@pytest.mark.parametrize(
    ("url", "says"),
    [("mysql://x/y", "postgresql://"), ("sqlite:///x.db", "data_dir"), ("postgresql://[::1", "not a URL")],
)
def test_a_database_that_cannot_be_is_one_clear_line(url: str, says: str, table_file: Path) -> None:
    words = ["serve", "--engine", "tabular", "--model", str(table_file), "--database-url", url]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("powercut: database_url")
    assert says in line


def test_answers_of_a_batch_are_those_of_single_requests(tmp_path: Path) -> None:
    rows = [completion_row(number) for number in range(5)]
    with serving(FaultyEngine(letters_table()), settings(tmp_path, batch_rows=3)) as url:
        done = finish(url, submit(url, rows))
        found = answers(content(url, done["output_file_id"]))
        for row in rows:
            reply = ask("POST", f"{url}/v1/completions", json=row["body"]).json()
            assert found[row["custom_id"]][0] == reply["choices"]
