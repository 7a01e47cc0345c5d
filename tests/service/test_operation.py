"""Probes, metrics, log lines and request ids: what an operator sees, and never a prompt."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.settings import Settings
from tests.service.checks import GOOD
from tests.service.faulty import FaultyEngine
from tests.service.serving import metric, serving, serving_command, wait_until
from tests.service.tables import letters_table

SECRET = "Zxq-secret-prompt-7f3a"
CHAIN = {"alpha": 1.5, "blocks": 2, "steps_per_block": 10, "cut_power": 0}


@pytest.fixture
def url() -> Iterator[str]:
    with serving(FaultyEngine(letters_table())) as url:
        yield url


def complete(url: str, **fields: Any) -> dict[str, Any]:
    """A completion's reply."""
    reply = httpx.post(f"{url}/v1/completions", json=GOOD | fields, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_probes_draw_nothing_and_wait_for_nobody() -> None:
    engine = FaultyEngine(letters_table(), delay_s=600.0)
    limits = Settings(max_running_requests=1, max_queued_requests=0)
    with serving(engine, limits) as url, httpx.Client(base_url=url, timeout=30) as http:
        with http.stream("POST", "/v1/completions", json=GOOD | {"stream": True}):
            wait_until(lambda: engine.in_flight == 1, "the server to be full")
            for path in ("/livez", "/readyz", "/metrics", "/v1/models"):
                assert http.get(path).status_code == 200
        assert engine.calls == 1


# Metrics.


def test_metrics_parse_and_carry_the_names_that_dashboards_of_vllm_use(url: str) -> None:
    complete(url, power=CHAIN)
    reply = httpx.get(f"{url}/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(reply.text)}
    assert families.keys() >= {
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:prompt_tokens",
        "vllm:generation_tokens",
        "vllm:e2e_request_latency_seconds",
        "vllm:request_queue_time_seconds",
        "vllm:request_success",
        "powercut:steps",
        "powercut:accepted",
        "powercut:moved",
        "powercut:rejected_early",
        "powercut:non_finite",
        "powercut:free_tokens",
        "powercut:prefetched_tokens",
        "powercut:discarded_tokens",
        "powercut:cut_position",
        "powercut:chains_in_flight",
        "powercut:engine_alive",
        "powercut:queued_tokens",
        "powercut:admission_rejections",
        "powercut:engine_failures",
    }
    assert all(s.labels["model_name"] == "letters" for family in families.values() for s in family.samples)
    assert all(family.documentation for family in families.values())


def test_counters_agree_with_what_replies_say(url: str) -> None:
    prompt = completion = 0
    usage: dict[str, float] = {}
    reasons = {"stop": 0, "length": 0}
    for seed in range(6):
        reply = complete(url, seed=seed, n=3, power=CHAIN, prompt=["abc", "d"])
        prompt += reply["usage"]["prompt_tokens"]
        completion += reply["usage"]["completion_tokens"]
        for choice in reply["choices"]:
            reasons[choice["finish_reason"]] += 1
        for name, value in reply["usage"]["power"].items():
            usage[name] = usage.get(name, 0) + value
    assert metric(url, "vllm:prompt_tokens_total") == prompt
    assert metric(url, "vllm:generation_tokens_total") == usage["generated_tokens"]
    assert metric(url, "powercut:answer_tokens_total", method="entropy_cut") == completion
    for name in ("steps", "accepted", "moved", "rejected_early", "non_finite", "free_tokens", "prefetched_tokens"):
        assert metric(url, f"powercut:{name}_total", method="entropy_cut") == usage[name]
    for reason, count in reasons.items():
        assert metric(url, "vllm:request_success_total", finished_reason=reason) == count
    assert metric(url, "powercut:answers_total", ended_by="completed") == 36
    assert metric(url, "powercut:discarded_tokens_total") > 0
    assert 0 < metric(url, "powercut:cut_position_count") <= usage["steps"]
    assert metric(url, "powercut:cut_position_bucket", le="+Inf") == metric(url, "powercut:cut_position_count")
    assert metric(url, "vllm:e2e_request_latency_seconds_count") == 6
    assert metric(url, "powercut:http_requests_total", route="/v1/completions", status="200") == 6


def test_a_plain_draw_is_counted_too(url: str) -> None:
    tokens = complete(url, power=None)["usage"]["completion_tokens"]
    assert metric(url, "vllm:generation_tokens_total") == tokens
    assert metric(url, "powercut:answer_tokens_total", method="standard") == tokens


@pytest.mark.slow
def test_work_that_was_cut_off_is_counted_as_far_as_it_came() -> None:
    engine = FaultyEngine(letters_table(), delay_s=0.01)
    with serving(engine, Settings(request_timeout_s=1)) as url:
        long = {"alpha": 1, "blocks": 1, "steps_per_block": 1000, "memo_tree": False}
        reply = httpx.post(f"{url}/v1/completions", json=GOOD | {"power": long}, timeout=60)
        assert reply.status_code == 504
        drawn = metric(url, "vllm:generation_tokens_total")
        assert drawn == reply.json()["error"]["reached"]["generated_tokens"] > 0
        assert metric(url, "powercut:http_requests_total", status="504") == 1


def test_odd_routes_and_methods_make_no_new_series(url: str) -> None:
    for i in range(5):
        httpx.get(f"{url}/nowhere/{i}")
        httpx.request(f"ODD{i}", f"{url}/livez")
    text = httpx.get(f"{url}/metrics").text
    assert "nowhere" not in text
    assert "ODD" not in text


@pytest.mark.slow
def test_two_applications_in_one_process_count_apart() -> None:
    with serving(FaultyEngine(letters_table())) as one, serving(FaultyEngine(letters_table())) as two:
        complete(one)
        assert metric(one, "vllm:generation_tokens_total") > 0
        assert metric(two, "vllm:generation_tokens_total") == 0


# Request ids.


@pytest.mark.parametrize("given", ["a", "req-1.2_3:4", "x" * 128, "00-4bf92f3577b34da6a3ce929d0e0e4736-01"])
def test_a_sane_request_id_is_given_back(url: str, given: str) -> None:
    for path, method in (("/livez", "GET"), ("/v1/completions", "POST"), ("/nowhere", "GET")):
        reply = httpx.request(method, url + path, headers={"X-Request-Id": given})
        assert reply.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "two words", 'quo"te', "a;b", "<script>", "naïve".encode(), b"\xff"])
def test_an_odd_request_id_is_not_repeated(url: str, given: str | bytes) -> None:
    reply = httpx.get(f"{url}/livez", headers=[("X-Request-Id", given)])  # type: ignore[list-item]
    assert re.fullmatch(r"[0-9a-f]{32}", reply.headers["x-request-id"])


def test_every_reply_has_an_id_of_its_own_errors_and_streams_too(url: str) -> None:
    replies = [
        httpx.get(f"{url}/livez"),
        httpx.get(f"{url}/nowhere"),
        httpx.post(f"{url}/v1/completions", content=b"{", headers={"content-type": "application/json"}),
        httpx.post(f"{url}/v1/completions", content=b"x" * (5 << 20)),
        httpx.post(f"{url}/v1/completions", json=GOOD | {"stream": True}),
        httpx.get(f"{url}/livez", headers=[("X-Request-Id", "a"), ("X-Request-Id", "b")]),
    ]
    assert len({reply.headers["x-request-id"] for reply in replies}) == len(replies)
    assert all(len(reply.headers.get_list("x-request-id")) == 1 for reply in replies)


# Log lines, of the real command.


@pytest.fixture(scope="module")
def logged(table_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the command logs of requests of every kind, all of them with the secret in their prompt."""
    log = tmp_path_factory.mktemp("log") / "log.txt"
    with serving_command(["--engine", "tabular", "--model", str(table_file)], log) as url:
        for i, change in enumerate(({}, {"power": None}, {"stream": True}, {"n": 0}, {"model": SECRET})):
            fields = GOOD | {"prompt": SECRET, "stop": [SECRET]} | change
            httpx.post(f"{url}/v1/completions", json=fields, headers={"X-Request-Id": f"id-{i}"}, timeout=60)
        typed = {"X-Request-Id": "id-5", "content-type": "application/json"}  # an id of the server's own may hold "bab"
        httpx.post(f"{url}/v1/completions", content=SECRET.encode(), headers=typed)
        odd = {"X-Request-Id": "id-6", "User-Agent": SECRET, "Authorization": f"Bearer {SECRET}"}
        httpx.get(f"{url}/{SECRET}?{SECRET}", headers=odd)
        httpx.get(f"{url}/livez")
    text = log.read_text()
    assert SECRET not in text
    assert "bab" not in text, "no answer either"
    return [json.loads(line) for line in text.splitlines()[1:]]


def test_each_line_is_json_and_says_when_and_how_bad(logged: list[dict[str, Any]]) -> None:
    for line in logged:
        assert line.keys() >= {"time", "level", "logger", "message"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert not [line for line in logged if line["logger"] == "uvicorn.access"]


def test_each_request_has_one_line_with_its_id_key_status_and_cost(logged: list[dict[str, Any]]) -> None:
    lines = {line["request"]["id"]: line["request"] for line in logged if line["message"] == "request"}
    power, plain, stream, bad, unknown = (lines[f"id-{i}"] for i in range(5))
    for each in (power, plain, stream):
        assert (each["status"], each["whole"], each["key"], each["model"]) == (200, True, "anonymous", "letters")
        assert each["seconds"] > 0
        assert each["generated_tokens"] > 0
        assert each["answers"] == 1
    assert (power["method"], plain["method"]) == ("entropy_cut", "standard")
    assert (bad["status"], unknown["status"]) == (422, 404)
    assert "model" not in unknown, "a caller's own words are not repeated"
    assert not [each for each in lines.values() if each["route"] == "/livez"], "probes are not worth a line"


@pytest.mark.slow
def test_an_unexpected_error_is_logged_by_type_and_place_without_its_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = FaultyEngine(letters_table(), fail=lambda call: ValueError(SECRET))
    with serving(engine) as url:
        assert httpx.post(f"{url}/v1/completions", json=GOOD | {"prompt": SECRET}).status_code == 500
    (record,) = [record for record in caplog.records if record.message == "unexpected error"]
    assert record.failure["type"] == "ValueError"  # type: ignore[attr-defined]
    assert any("propose" in place for place in record.failure["at"])  # type: ignore[attr-defined]
    assert SECRET not in str(vars(record))
