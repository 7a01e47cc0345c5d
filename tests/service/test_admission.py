"""Who runs, who waits and who is sent away, counted in tokens; and that every place is given back exactly once."""

import asyncio
import random
from typing import Any

import httpx
import pytest
from fastapi import HTTPException
from hypothesis import given, settings
from hypothesis import strategies as st

from sampler.engine import Priority
from service.admission import Admission, State, Ticket
from service.app import create_app
from service.errors import ApiError, headers_of
from service.settings import Settings
from tests.service.checks import GOOD, assert_error
from tests.service.faulty import FaultyEngine
from tests.service.serving import metric, serving, serving_app, wait_until
from tests.service.tables import letters_table

BATCH = Priority.BATCH


def admission(**limits: Any) -> Admission:
    """An account with small limits."""
    small: dict[str, Any] = {"max_running_tokens": 10, "max_running_requests": 100, "max_running_requests_per_key": 100}
    return Admission(Settings(**small | limits))


def running(tickets: list[Ticket]) -> list[int]:
    """Which of them run."""
    return [i for i, ticket in enumerate(tickets) if ticket.state is State.RUNNING]


def test_what_fits_runs_at_once_and_the_rest_waits_in_order() -> None:
    account = admission()
    tickets = [account.enter("a", 4) for _ in range(5)]
    assert running(tickets) == [0, 1]
    assert (account.running_tokens, account.queued_tokens, account.queued_requests) == (8, 12, 3)
    tickets[1].release()
    assert running(tickets) == [0, 2]
    tickets[0].release()
    assert running(tickets) == [2, 3]


def test_nobody_overtakes_one_that_does_not_fit_yet() -> None:
    account = admission()
    small, large, late = account.enter("a", 6), account.enter("a", 10), account.enter("a", 1)
    assert running([small, large, late]) == [0], "the last would fit, but the large one would wait for ever"
    small.release()
    assert running([small, large, late]) == [1]
    large.release()
    assert running([small, large, late]) == [2]


def test_keys_take_turns_whoever_has_more_waiting() -> None:
    account = admission(max_running_tokens=1)
    busy = account.enter("x", 1)
    waiting = [account.enter(key, 1) for key in "aaaabbc"]
    served: list[int] = []
    busy.release()
    for _ in waiting:
        (now,) = running(waiting)
        served.append(now)
        waiting[now].release()
    assert ["aaaabbc"[i] for i in served] == list("abcabaa")


def test_a_key_at_its_own_limit_waits_and_lets_others_go_first() -> None:
    account = admission(max_running_requests_per_key=1)
    first, second, other = account.enter("a", 1), account.enter("a", 1), account.enter("b", 1)
    assert running([first, second, other]) == [0, 2]
    first.release()
    assert running([first, second, other]) == [1, 2]


def test_rows_of_batch_jobs_go_last_and_leave_room() -> None:
    account = admission(batch_share=0.5)
    first, second = account.enter("a", 4, BATCH), account.enter("a", 4, BATCH)
    assert running([first, second]) == [0], "half of ten is for interactive requests"
    interactive = [account.enter("b", 3), account.enter("b", 3)]
    assert running(interactive) == [0, 1]
    waiting = account.enter("b", 3)
    first.release()
    assert running([waiting, second]) == [0]
    for ticket in (*interactive, waiting):
        ticket.release()
    assert running([second]) == [0]


def test_a_large_row_of_a_batch_job_runs_when_it_is_alone() -> None:
    account = admission(batch_share=0.1)
    assert running([account.enter("a", 10, BATCH)]) == [0]


def refusal(account: Admission, tokens: int, key: str = "a") -> ApiError:
    with pytest.raises(HTTPException) as caught:
        account.enter(key, tokens)
    assert isinstance(caught.value, ApiError)
    return caught.value


def test_what_can_never_fit_is_refused_and_not_left_waiting() -> None:
    account = admission()
    error = refusal(account, 11)
    assert (error.status, error.param, error.code) == (422, "max_tokens", "request_too_large")
    assert "11" in error.message
    assert "10" in error.message
    assert account.queued_requests == account.running_requests == 0


@pytest.mark.parametrize(
    ("limits", "code", "names"),
    [
        ({"max_queued_requests": 2}, "queue_requests_limit", "max_queued_requests is 2"),
        ({"max_queued_tokens": 15}, "queue_tokens_limit", "max_queued_tokens is 15"),
        ({"max_queued_requests_per_key": 2}, "key_requests_limit", "max_queued_requests_per_key is 2"),
    ],
)
def test_a_full_queue_says_which_limit_and_when_to_come_back(limits: dict[str, int], code: str, names: str) -> None:
    refused: list[str] = []
    account = admission(**limits)
    account._refused = refused.append
    held = [account.enter("a", 7) for _ in range(3)]
    error = refusal(account, 7)
    assert (error.status, error.kind, error.code) == (429, "rate_limit_error", code)
    assert names in error.message
    assert int(headers_of(error)["Retry-After"]) >= 1
    assert [f"{reason}_limit" for reason in refused] == [code]
    assert account.queued_requests == 2, "the one refused is not counted"
    held[0].release()
    assert account.enter("a", 7).state is State.WAITING


@pytest.mark.parametrize("limit", ["max_queued_requests", "max_queued_tokens"])
def test_rows_of_batch_jobs_that_wait_leave_the_queue_to_others(limit: str) -> None:
    account = admission(**{limit: 10})
    running_now = account.enter("a", 10)
    rows = [account.enter("jobs", 10, BATCH) for _ in range(20)]
    assert (account.queued_requests, account.queued_tokens) == (20, 200), "what is shown counts all"
    assert account.enter("b", 10).state is State.WAITING
    running_now.release()
    assert running(rows) == []


def paced(now: list[float]) -> Admission:
    """An account that tells the time by `now` and has seen 20 requests of ten tokens run for two seconds each."""
    account = Admission(Settings(max_running_tokens=10), clock=lambda: now[0])
    for _ in range(20):
        ticket = account.enter("a", 10)
        now[0] += 2.0
        ticket.release(done=True)
    return account


def test_rows_of_batch_jobs_that_wait_are_no_reason_to_come_back_later() -> None:
    account = paced([0.0])
    account.enter("a", 10)
    alone = account.retry_after_s()
    for _ in range(20):
        account.enter("jobs", 10, BATCH)
    assert account.retry_after_s() == alone


def test_the_time_to_come_back_follows_the_pace() -> None:
    account = paced([0.0])
    waiting = [account.enter("a", 10) for _ in range(6)]
    assert account.retry_after_s() == 6 * 2
    for ticket in reversed(waiting):
        ticket.release()


def test_idle_time_is_no_slowness() -> None:
    account = paced(now := [0.0])
    now[0] += 3600.0
    for _ in range(6):
        account.enter("a", 10)
    assert account.retry_after_s() == 6 * 2


def test_what_was_given_up_is_no_work_done() -> None:
    account = paced([0.0])
    for _ in range(100):
        account.enter("a", 10).release()
    for _ in range(6):
        account.enter("a", 10)
    assert account.retry_after_s() == 6 * 2


def test_a_place_is_given_back_once_however_often_it_is_released() -> None:
    account = admission()
    ticket, waiting = account.enter("a", 10), account.enter("a", 10)
    waiting.release()
    ticket.release()
    for _ in range(3):
        ticket.release()
        waiting.release()
    assert (account.running_tokens, account.running_requests, account.queued_tokens) == (0, 0, 0)
    assert account.queued_requests == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 10), st.booleans()), max_size=40), st.randoms())
def test_in_any_order_of_arrival_and_leaving_the_account_is_right(
    arrivals: list[tuple[str, int, bool]], order: random.Random
) -> None:
    account = admission(max_running_requests_per_key=2, max_running_requests=5)
    live: list[Ticket] = []
    for key, tokens, batch in arrivals:
        live.append(account.enter(key, tokens, BATCH if batch else Priority.INTERACTIVE))
        if order.random() < 0.4:
            live.pop(order.randrange(len(live))).release()
        runs = [ticket for ticket in live if ticket.state is State.RUNNING]
        assert account.running_tokens == sum(ticket.tokens for ticket in runs) <= 10
        assert account.running_requests == len(runs) <= 5
        assert account.queued_requests == len(live) - len(runs)
        for name in "abc":
            assert sum(t.key == name and t.priority is Priority.INTERACTIVE for t in runs) <= 2
    while live:
        assert any(ticket.state is State.RUNNING for ticket in live), "nobody waits for ever"
        next(ticket for ticket in live if ticket.state is State.RUNNING).release()
        live = [ticket for ticket in live if ticket.state is not State.OVER]
    assert account.running_tokens == account.queued_tokens == account.queued_requests == account.batch_tokens == 0


def test_waiting_ends_when_the_turn_comes() -> None:
    async def run() -> None:
        account = admission()
        first, second = account.enter("a", 10), account.enter("a", 10)
        await asyncio.wait_for(first.granted(), 5)
        waiter = asyncio.ensure_future(second.granted())
        await asyncio.sleep(0)
        assert not waiter.done()
        first.release()
        await asyncio.wait_for(waiter, 5)

    asyncio.run(run())


# Over HTTP.


def test_a_request_too_large_for_this_server_is_refused_though_each_field_is_legal() -> None:
    limits = Settings(max_running_tokens=1000)
    with serving(FaultyEngine(letters_table()), limits) as url, httpx.Client(base_url=url) as http:
        wide = {"n": 20, "max_tokens": 4, "power": {"blocks": 4, "steps_per_block": 10}}
        error = assert_error(http.post("/v1/completions", json=GOOD | wide), 422)
        assert (error["param"], error["code"]) == ("max_tokens", "request_too_large")
        wide["power"]["max_generated_tokens"] = 40  # type: ignore[index]
        assert http.post("/v1/completions", json=GOOD | wide).status_code == 200
        reached = metric(url, "powercut:admission_rejections_total", reason="too_large")
        assert reached == 1


def test_a_full_server_says_429_and_recovers() -> None:
    engine = FaultyEngine(letters_table(), delay_s=600.0)
    limits = Settings(max_running_requests=1, max_queued_requests=1, request_timeout_s=60)
    with serving(engine, limits) as url, httpx.Client(base_url=url, timeout=60) as http:
        with (
            http.stream("POST", "/v1/completions", json=GOOD | {"stream": True}),
            http.stream("POST", "/v1/completions", json=GOOD | {"stream": True}) as second,
        ):
            wait_until(lambda: engine.in_flight == 1, "the first to run")
            assert second.status_code == 200, "a stream begins while its request waits"
            assert metric(url, "vllm:num_requests_waiting") == 1
            refused = http.post("/v1/completions", json=GOOD)
            error = assert_error(refused, 429)
            assert error["type"] == "rate_limit_error"
            assert int(refused.headers["retry-after"]) >= 1
        wait_until(lambda: metric(url, "powercut:running_tokens") == 0, "the places of those who left")
        engine.delay_s = 0.0
        assert http.post("/v1/completions", json=GOOD).status_code == 200


def test_only_requests_that_end_well_tell_of_the_pace() -> None:
    engine = FaultyEngine(letters_table())
    app = create_app(engine)
    finished = app.state.runner.house.admission._finished
    with serving_app(app) as url, httpx.Client(base_url=url, timeout=60) as http:
        for stream in (False, True):
            assert http.post("/v1/completions", json=GOOD | {"stream": stream}).status_code == 200
        assert len(finished) == 1 + 2, "the first tells since when they count"
        engine.delay_s = 600.0
        with http.stream("POST", "/v1/completions", json=GOOD | {"stream": True}):
            wait_until(lambda: engine.in_flight == 1, "the request to run")
        wait_until(lambda: metric(url, "powercut:running_tokens") == 0, "the place of one who left")
        assert len(finished) == 1 + 2


@pytest.mark.slow
def test_a_client_that_leaves_while_it_waits_frees_its_place() -> None:
    engine = FaultyEngine(letters_table(), delay_s=600.0)
    with (
        serving(engine, Settings(max_running_requests=1)) as url,
        httpx.Client(base_url=url, timeout=60) as http,
        http.stream("POST", "/v1/completions", json=GOOD | {"stream": True}),
    ):
        wait_until(lambda: engine.in_flight == 1, "the first to run")
        for stream in (True, False):
            with (
                pytest.raises(httpx.ReadTimeout),
                http.stream("POST", "/v1/completions", json=GOOD | {"stream": stream}, timeout=0.3) as waiting,
            ):
                waiting.read()
            wait_until(lambda: metric(url, "vllm:num_requests_waiting") == 0, "the place of one who left")
        assert engine.calls == 1


def test_a_refused_prompt_takes_no_place() -> None:
    engine = FaultyEngine(letters_table(), context=32)
    limits = Settings(max_running_requests=1, max_queued_requests=0)
    with serving(engine, limits) as url, httpx.Client(base_url=url, timeout=60) as http:
        for prompt in ("x" * 100, "", "\ud800", [5]):
            content = (
                httpx.Request("POST", url, json=GOOD | {"prompt": prompt}).content
                if prompt != "\ud800"
                else (b'{"model": "letters", "prompt": "\\ud800"}')
            )
            reply = http.post("/v1/completions", content=content, headers={"content-type": "application/json"})
            assert reply.status_code in {400, 422}
            assert metric(url, "powercut:running_tokens") == 0
        assert http.post("/v1/completions", json=GOOD).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "change", "param"),
    [
        ({"max_n": 2}, {"n": 3}, "n"),
        ({"max_prompts": 2}, {"prompt": ["a"] * 3}, "prompt"),
        ({"max_answers": 5}, {"prompt": ["a"] * 3, "n": 2}, "prompt"),
        ({"max_prompt_chars": 5}, {"prompt": "abcdef"}, "prompt"),
        ({"max_prompt_chars": 5}, {"prompt": [0] * 6}, "prompt"),
        ({"max_prompt_chars": 5}, {"prompt": ["a", "abcdef"]}, "prompt"),
    ],
)
def test_limits_on_prompts_and_answers_are_settings(
    setting: dict[str, int], change: dict[str, Any], param: str
) -> None:
    (limit,) = setting.values()
    with serving(FaultyEngine(letters_table()), Settings(**setting)) as url, httpx.Client(base_url=url) as http:  # type: ignore[arg-type]
        error = assert_error(http.post("/v1/completions", json=GOOD | change), 422)
        assert error["param"] == param
        assert str(limit) in error["message"]
        assert http.post("/v1/completions", json=GOOD).status_code == 200
