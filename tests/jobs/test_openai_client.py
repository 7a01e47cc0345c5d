"""OpenAI's own client uploads, creates, polls, lists, cancels and downloads, and meets clear errors."""

import http.client
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch

from sampler.engines.tabular import from_table
from service.settings import Settings
from tests.jobs.servers import completion_row, jsonl
from tests.service.serving import serving
from tests.service.tables import letters_table


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """The official client of a server."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"), batch_poll_s=0.05, max_upload_bytes=1 << 20, max_batch_lines=400
    )
    with (
        serving(from_table(letters_table(), "letters"), settings) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as client,
    ):
        yield client


def upload(client: openai.OpenAI, content: bytes) -> str:
    return client.files.create(file=("in.jsonl", io.BytesIO(content)), purpose="batch").id


def run(client: openai.OpenAI, content: bytes, endpoint: str = "/v1/completions") -> Batch:
    """A batch that has ended."""
    batch = client.batches.create(
        input_file_id=upload(client, content),
        endpoint=endpoint,  # type: ignore[arg-type]
        completion_window="24h",
        metadata={"who": "test"},
    )
    while batch.status in {"validating", "in_progress", "finalizing", "cancelling"}:
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def lines(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def problems(batch: Batch) -> list[tuple[str | None, int | None]]:
    assert batch.errors is not None
    return [(error.code, error.line) for error in batch.errors.data or []]


def test_a_batch_goes_from_upload_to_download(client: openai.OpenAI) -> None:
    rows = [completion_row(number, n=2, logprobs=1) for number in range(5)]
    rows[3]["body"] |= {"power": {"include": ["chain", "diagnostics"], "blocks": 2, "steps_per_block": 3}}
    batch = run(client, jsonl(rows))
    assert batch.status == "completed"
    assert batch.metadata == {"who": "test"}
    assert batch.error_file_id is None
    counts = batch.request_counts
    assert counts is not None
    assert (counts.total, counts.completed, counts.failed) == (5, 5, 0)
    times = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at]
    assert all(at is not None for at in times)
    found = lines(client, batch.output_file_id)
    assert [line["custom_id"] for line in found] == [row["custom_id"] for row in rows]
    for row, line in zip(rows, found, strict=True):
        assert line.keys() == {"id", "custom_id", "response", "error"}
        assert line["error"] is None
        response = line["response"]
        assert response["status_code"] == 200
        reply = client.completions.create(**strip(row["body"]))  # the same seed at the endpoint itself
        same = json.loads(reply.model_dump_json())
        assert response["body"]["choices"] == [
            {name: choice.get(name) for name in response["body"]["choices"][0]} for choice in same["choices"]
        ]
    usage = batch.usage
    assert usage is not None
    assert usage.output_tokens == sum(line["response"]["body"]["usage"]["completion_tokens"] for line in found)


def strip(body: dict[str, Any]) -> dict[str, Any]:
    return {**{name: value for name, value in body.items() if name != "power"}, "extra_body": {"power": body["power"]}}


def test_a_row_that_is_wrong_is_in_the_error_file_with_the_endpoints_own_answer(client: openai.OpenAI) -> None:
    rows = [
        completion_row(0),
        completion_row(1, model="another"),
        completion_row(2, max_tokens=-1),
        completion_row(3, stream=True),
        completion_row(4, no_such_field=1),
    ]
    batch = run(client, jsonl(rows))
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 4)
    wrong = {line["custom_id"]: line["response"] for line in lines(client, batch.error_file_id)}
    assert {name: response["status_code"] for name, response in wrong.items()} == {
        "row-1": 404,
        "row-2": 422,
        "row-3": 422,
        "row-4": 422,
    }
    errors = {name: response["body"]["error"] for name, response in wrong.items()}
    assert errors["row-1"]["code"] == "model_not_found"
    assert errors["row-2"]["param"] == "max_tokens"
    assert errors["row-3"]["param"] == "stream"
    assert errors["row-4"]["code"] == "unknown_field"
    assert len(lines(client, batch.output_file_id)) == 1


BROKEN: dict[str, tuple[bytes, list[tuple[str, int | None]]]] = {
    "empty": (b"", [("empty_file", None)]),
    "blank lines only": (b"\n \n\r\n", [("empty_file", None)]),
    "not JSON": (jsonl([completion_row(0)]) + b"{nonsense\n" + jsonl([completion_row(1)]), [("invalid_json_line", 2)]),
    "cut off": (jsonl([completion_row(0)])[:-20], [("invalid_json_line", 1)]),
    "not UTF-8": (b'{"custom_id": "\xff"}\n', [("invalid_json_line", 1)]),
    "no object": (b"[1]\n7\n", [("invalid_json_line", 1), ("invalid_json_line", 2)]),
    "nested": (b"[" * 100_000 + b"\n", [("invalid_json_line", 1)]),
    "NaN": (b'{"custom_id": NaN}\n', [("invalid_json_line", 1)]),
    "twice": (jsonl([completion_row(0), completion_row(1), completion_row(0)]), [("duplicate_custom_id", 3)]),
    "no custom_id": (
        jsonl([{"method": "POST", "url": "/v1/completions", "body": {}}]),
        [("missing_required_parameter", 1)],
    ),
    "wrong custom_id": (jsonl([completion_row(0) | {"custom_id": 5}]), [("invalid_custom_id", 1)]),
    "NUL in custom_id": (jsonl([completion_row(0) | {"custom_id": "a\0b"}]), [("invalid_custom_id", 1)]),
    "GET": (jsonl([completion_row(0) | {"method": "GET"}]), [("invalid_method", 1)]),
    "body is a text": (jsonl([completion_row(0) | {"body": "hi"}]), [("invalid_body", 1)]),
    "another field": (jsonl([completion_row(0) | {"extra": 1}]), [("unknown_parameter", 1)]),
    "another route": (
        jsonl([completion_row(0), completion_row(1) | {"url": "/v1/nothing"}]),
        [("mismatched_url", 2)],
    ),
    "too many": (jsonl([completion_row(number) for number in range(401)]), [("too_many_lines", None)]),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_fails_the_batch_at_once_and_names_the_lines(client: openai.OpenAI, case: str) -> None:
    content, expected = BROKEN[case]
    batch = run(client, content)
    assert batch.status == "failed"
    assert batch.failed_at is not None
    assert problems(batch) == expected
    assert batch.errors is not None
    assert all(error.message and len(error.message) < 300 for error in batch.errors.data or [])


def test_hundreds_of_wrong_lines_are_named_up_to_a_limit_and_then_counted(client: openai.OpenAI) -> None:
    batch = run(client, b"x\n" * 300)
    assert [line for _, line in problems(batch)] == [*range(1, 101), None]
    assert batch.errors is not None
    assert "200 more" in str((batch.errors.data or [])[-1].message)


def test_a_file_with_windows_line_ends_a_mark_and_blank_lines_is_fine(client: openai.OpenAI) -> None:
    content = b"\xef\xbb\xbf" + jsonl([completion_row(0)]).replace(b"\n", b"\r\n") + b"\n" + jsonl([completion_row(1)])
    batch = run(client, content[:-1])  # and without a line end at its end
    assert batch.status == "completed"
    assert len(lines(client, batch.output_file_id)) == 2


@pytest.mark.slow
def test_files_are_listed_described_and_deleted(client: openai.OpenAI) -> None:
    ids = [upload(client, jsonl([completion_row(number)])) for number in range(3)]
    listed = [file.id for file in client.files.list(purpose="batch", limit=2)]  # follows the pages
    assert [file_id for file_id in listed if file_id in ids] == ids[::-1]
    found = client.files.retrieve(ids[0])
    assert (found.filename, found.purpose, found.status) == ("in.jsonl", "batch", "processed")
    assert found.bytes == len(jsonl([completion_row(0)]))
    assert client.files.content(ids[0]).content == jsonl([completion_row(0)])
    assert client.files.delete(ids[0]).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(ids[0])
    with pytest.raises(openai.NotFoundError):
        client.files.content(ids[0])
    with pytest.raises(openai.NotFoundError):
        client.files.delete(ids[0])


def test_an_expiry_is_taken_or_refused(client: openai.OpenAI) -> None:
    file = io.BytesIO(jsonl([completion_row(0)]))
    made = client.files.create(
        file=("in.jsonl", file), purpose="batch", expires_after={"anchor": "created_at", "seconds": 7200}
    )
    assert made.expires_at == made.created_at + 7200
    with pytest.raises(openai.UnprocessableEntityError, match="expires_after"):
        client.files.create(
            file=("in.jsonl", file), purpose="batch", expires_after={"anchor": "created_at", "seconds": 5}
        )


@pytest.mark.slow
def test_batches_are_listed_in_pages(client: openai.OpenAI) -> None:
    made = [run(client, jsonl([completion_row(number)])).id for number in range(3)]
    listed = [batch.id for batch in client.batches.list(limit=2)]
    assert listed[:3] == made[::-1]
    page = client.batches.list(after=made[1], limit=1)
    assert [batch.id for batch in page.data] == [made[0]]


SLOW: dict[str, Any] = {"power": {"blocks": 256, "steps_per_block": 1000, "memo_tree": False}, "max_tokens": 256}


@pytest.mark.slow
def test_a_batch_can_be_cancelled_in_the_middle(client: openai.OpenAI) -> None:
    rows = [completion_row(0), *[completion_row(number, **SLOW) for number in range(1, 40)]]
    batch = client.batches.create(
        input_file_id=upload(client, jsonl(rows)), endpoint="/v1/completions", completion_window="24h"
    )
    while (counts := client.batches.retrieve(batch.id).request_counts) is None or not counts.completed:
        time.sleep(0.05)
    assert client.batches.retrieve(batch.id).output_file_id is None, "nothing to download before the end"
    with pytest.raises(openai.ConflictError, match="still reads"):
        client.files.delete(batch.input_file_id)
    assert client.batches.cancel(batch.id).status == "cancelling"
    while (found := client.batches.retrieve(batch.id)).status == "cancelling":
        time.sleep(0.05)
    assert found.status == "cancelled"
    assert found.cancelled_at is not None
    assert [line["custom_id"] for line in lines(client, found.output_file_id)] == ["row-0"], "what was done is kept"
    with pytest.raises(openai.ConflictError, match="cannot be cancelled"):
        client.batches.cancel(batch.id)
    assert run(client, jsonl([completion_row(7)])).status == "completed", "the places are free again"


@pytest.mark.slow
def test_a_batch_whose_window_ends_has_expired_and_says_so_of_each_row(client: openai.OpenAI) -> None:
    rows = [completion_row(number, **SLOW) for number in range(40)]
    batch = client.batches.create(
        input_file_id=upload(client, jsonl(rows)),
        endpoint="/v1/completions",
        completion_window="1s",  # type: ignore[arg-type]
    )
    while batch.status in {"validating", "in_progress", "finalizing"}:
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    assert batch.status == "expired"
    late = lines(client, batch.error_file_id)
    assert [line["custom_id"] for line in late] == [row["custom_id"] for row in rows]
    assert {line["error"]["code"] for line in late} == {"batch_expired"}


REFUSED: dict[str, tuple[dict[str, Any], type[openai.APIStatusError], str]] = {
    "unknown endpoint": ({"endpoint": "/v1/embeddings"}, openai.UnprocessableEntityError, "endpoint"),
    "no such file": ({"input_file_id": f"file-{'0' * 32}"}, openai.NotFoundError, "no file"),
    "a path": ({"input_file_id": "../../etc/passwd"}, openai.NotFoundError, "no file"),
    "window": ({"completion_window": "soon"}, openai.UnprocessableEntityError, "completion_window"),
    "window too long": ({"completion_window": "31d"}, openai.UnprocessableEntityError, "completion_window"),
    "metadata": ({"metadata": {"a": "x" * 513}}, openai.UnprocessableEntityError, "metadata"),
    "unknown field": ({"extra_body": {"turbo": True}}, openai.UnprocessableEntityError, "turbo"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_request_for_a_batch_is_refused(client: openai.OpenAI, case: str) -> None:
    changes, kind, message = REFUSED[case]
    asked: dict[str, Any] = {
        "input_file_id": upload(client, jsonl([completion_row(0)])),
        "endpoint": "/v1/completions",
        "completion_window": "24h",
    }
    with pytest.raises(kind, match=message):
        client.batches.create(**asked | changes)


NAMES = ["..", "../secret", "%2e%2e%2fpasswd", "..%2f..%2fetc%2fpasswd", "file-..", "file-" + "G" * 32, "x" * 5000]


@pytest.mark.parametrize(
    "name", [*NAMES, "file-%00", "%c3%a9", "file-%ff", f"file-{'0' * 32}", "file-" + "0" * 32 + "%0a"]
)
def test_ids_that_are_no_ids_are_not_found(client: openai.OpenAI, name: str) -> None:
    address = client.base_url
    for method, path in (
        ("GET", f"/v1/files/{name}"),
        ("GET", f"/v1/files/{name}/content"),
        ("DELETE", f"/v1/files/{name}"),
        ("GET", f"/v1/batches/{name}"),
        ("POST", f"/v1/batches/{name}/cancel"),
        ("GET", f"/v1/batches?after={name}"),
        ("GET", f"/v1/files?after={name}"),
    ):
        connection = http.client.HTTPConnection(address.host, address.port or 80, timeout=60)
        connection.request(method, path)  # as it stands: other clients would tidy the path
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        assert reply.status in {404, 405, 422}, (path, reply.status, body)
        assert json.loads(body)["error"]["message"], path
        assert len(body) < 1200


def test_an_output_cannot_be_the_input_of_a_batch(client: openai.OpenAI) -> None:
    batch = run(client, jsonl([completion_row(0)]))
    assert batch.output_file_id is not None
    with pytest.raises(openai.UnprocessableEntityError, match="purpose"):
        client.batches.create(input_file_id=batch.output_file_id, endpoint="/v1/completions", completion_window="24h")
    assert client.files.retrieve(batch.output_file_id).purpose == "batch_output"


def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(client: openai.OpenAI) -> None:
    before = [file.id for file in client.files.list()]
    with pytest.raises(openai.APIStatusError, match="larger than") as error:
        client.files.create(file=("in.jsonl", io.BytesIO(b" " * (3 << 20))), purpose="batch")
    assert error.value.status_code == 413
    assert [file.id for file in client.files.list()] == before


def test_a_purpose_that_is_not_served_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="purpose"):
        client.files.create(file=("in.jsonl", io.BytesIO(b"{}\n")), purpose="fine-tune")


def test_nobody_wrote_outside_the_data_folder(client: openai.OpenAI, tmp_path: Path) -> None:
    made = client.files.create(
        file=("../../../" + str(tmp_path / "evil.jsonl"), io.BytesIO(jsonl([completion_row(0)]))), purpose="batch"
    )
    assert made.filename == "evil.jsonl"
    assert not list(tmp_path.iterdir())
