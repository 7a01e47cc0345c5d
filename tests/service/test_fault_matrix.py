"""Whatever an engine does, every waiter is answered within its deadline, and then there is room for the next."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from sampler import errors
from sampler.trace import End, Segment
from service import runner
from service.settings import Settings
from tests.service.checks import GOOD
from tests.service.faulty import FaultyEngine
from tests.service.serving import metric, serving, wait_until
from tests.service.tables import letters_table

WAITERS = 5
SHORT_S, LONG_S = 0.5, 60.0
"""Deadlines: of requests that run into theirs, and of those that must not."""
ANSWERED_WITHIN_S = 90.0
COMMON: dict[str, dict[str, Any]] = {"plain": {"power": None}, "power": {}, "stream": {"stream": True}}
RARE: dict[str, dict[str, Any]] = {
    "several": {"n": 3},
    "tries": {"power": {"method": "multiple_try", "blocks": 2, "steps_per_block": 1}},
    "particles": {"power": {"method": "smc", "particles": 4, "blocks": 2}},
}
"""Ways to ask that only the full counts take."""


@dataclass(frozen=True)
class Fault:
    """What an engine does, what its waiters are told, and whether it gets well."""

    begin: Callable[[FaultyEngine], None]
    status: int
    code: str | None = None
    heals: bool = True


def failing(error: Exception) -> Callable[[FaultyEngine], None]:
    """Fail every call."""
    return lambda engine: setattr(engine, "fail", lambda call: error)


def dying(engine: FaultyEngine) -> None:
    """Work three times, then never again."""

    def fail(call: int) -> Exception | None:
        engine.is_alive = call <= 3
        return None if engine.is_alive else errors.EngineDead("the engine has died")

    engine.fail = fail


def lying(change: Callable[[Segment], Segment]) -> Callable[[FaultyEngine], None]:
    """Return something else than what was drawn."""

    def lie(segment: Segment) -> Segment:
        return change(segment)

    return lambda engine: setattr(engine, "lie", lie)


def with_token(segment: Segment, **change: Any) -> Segment:
    """The segment with its first token changed."""
    return replace(segment, tokens=(segment.tokens[0]._replace(**change), *segment.tokens[1:]))


def past_eos(segment: Segment) -> Segment:
    """An end in the first place, and tokens after it."""
    return with_token(segment, id=2)


def hanging(engine: FaultyEngine) -> None:
    engine.delay_s = 600.0


def deaf(engine: FaultyEngine) -> None:
    engine.delay_s, engine.deaf_s = 600.0, 1.0


def slow(engine: FaultyEngine) -> None:
    engine.delay_s = 0.01


nan = float("nan")
FAULTS: dict[str, Fault] = {
    "raises": Fault(failing(errors.EngineError("the model failed")), 500, "engine_error"),
    "has a bug": Fault(failing(RuntimeError("x")), 500, "internal_error"),
    "out of memory": Fault(failing(errors.EngineOutOfMemory("no memory")), 503, "out_of_memory"),
    "out of Python's memory": Fault(failing(MemoryError()), 500, "internal_error"),
    "overloaded": Fault(failing(errors.EngineOverloaded("no room")), 429, "engine_overloaded"),
    "times out by itself": Fault(failing(TimeoutError()), 500),
    "hangs": Fault(hanging, 504, "timeout"),
    "hangs and does not hear": Fault(deaf, 504, "timeout"),
    "slow": Fault(slow, 200),
    "dead from the start": Fault(failing(errors.EngineDead("gone")), 503, "engine_dead", heals=False),
    "dies after three calls": Fault(dying, 503, "engine_dead", heals=False),
    "draws too much": Fault(lying(lambda s: replace(s, tokens=s.tokens * 9, rows=s.rows and s.rows * 9)), 500),
    "draws nothing": Fault(lying(lambda s: replace(s, tokens=(), rows=s.rows and ())), 500),
    "draws nothing and says it was cancelled": Fault(
        lying(lambda s: replace(s, tokens=(), rows=s.rows and (), end=End.CANCELLED)), 500
    ),
    "draws an unknown id": Fault(lying(lambda s: with_token(s, id=3)), 500),
    "draws a negative id": Fault(lying(lambda s: with_token(s, id=-1)), 500),
    "draws past the end": Fault(lying(past_eos), 200),
    "says NaN": Fault(lying(lambda s: with_token(s, log_z=nan, entropy=nan, log_p=nan)), 500, "numerical_error"),
}


@contextmanager
def house(fault: Fault) -> Iterator[tuple[str, FaultyEngine]]:
    """A server on an engine with the fault."""
    engine = FaultyEngine(letters_table())
    fault.begin(engine)
    timeout_s = SHORT_S if fault.status == 504 else LONG_S
    settings = Settings(request_timeout_s=timeout_s, max_running_requests=2, keepalive_s=0.2)
    with serving(engine, settings) as url:
        yield url, engine


def ask(http: httpx.Client, request: dict[str, Any]) -> tuple[int, dict[str, Any] | None]:
    """Status and error of a request; those of a stream are in its last chunk."""
    reply = http.post("/v1/completions", json=request)
    if not request.get("stream"):
        return reply.status_code, reply.json().get("error")
    assert reply.status_code == 200
    *_, last = [line for line in reply.text.splitlines() if line.startswith("data: ")]
    if last == "data: [DONE]":
        return 200, None
    error = httpx.Response(200, text=last.removeprefix("data: ")).json()["error"]
    return 0, error


def is_idle(url: str) -> bool:
    """Whether nothing runs or waits and all room is free."""
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting", "powercut:running_tokens")
    return all(metric(url, name) == 0 for name in (*names, "powercut:queued_tokens", "powercut:chains_in_flight"))


@pytest.mark.slow
@pytest.mark.parametrize("ways", [COMMON, pytest.param(RARE, marks=pytest.mark.long)], ids=["common", "rare"])
@pytest.mark.parametrize("name", FAULTS)
def test_every_waiter_is_answered_and_all_room_is_free_again(
    name: str, ways: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = FAULTS[name]
    monkeypatch.setattr(runner, "STOPPING_S", 0.1)
    with (
        house(fault) as (url, engine),
        ThreadPoolExecutor(WAITERS) as pool,
        httpx.Client(base_url=url, timeout=ANSWERED_WITHIN_S) as http,
    ):
        for way, fields in ways.items():
            if name == "says NaN" and way == "plain":
                continue  # plain sampling has no ratio: such a statistic is null in its log-probabilities
            for status, error in pool.map(lambda _, fields=fields: ask(http, GOOD | fields), range(WAITERS)):
                assert_told(fault, status, error)
            wait_until(lambda: is_idle(url), "everything to be free")
            assert http.get("/livez").status_code == 200
            assert http.get("/readyz").status_code == (200 if engine.is_alive else 503)
        if fault.heals:
            engine.fail, engine.delay_s, engine.lie = lambda call: None, 0.0, lambda segment: segment
            status, error = ask(http, GOOD | {"max_tokens": 1, "power": None})
            assert status == (200 if error is None else 504), "even a short deadline may pass on a busy machine"
        else:
            assert_told(fault, *ask(http, GOOD))


def assert_told(fault: Fault, status: int, error: dict[str, Any] | None) -> None:
    """A waiter was told what it should be; a stream has no status of its own."""
    assert status in {fault.status, 0 if error else 200}
    assert (error is None) == (fault.status == 200) or (fault.code == "engine_dead" and error is None)
    if error is not None and fault.code is not None:
        assert error["code"] == fault.code
    if error is not None and fault.status == 504:
        assert error["reached"]["state"] in {"waiting", "running"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seconds"), [("out of memory", "5"), ("overloaded", "1")])
def test_a_failure_that_may_be_over_soon_says_when_to_come_back(name: str, seconds: str) -> None:
    with house(FAULTS[name]) as (url, _):
        assert httpx.post(f"{url}/v1/completions", json=GOOD).headers["retry-after"] == seconds


def test_failures_are_counted_by_kind_though_a_second_try_makes_them_good() -> None:
    engine = FaultyEngine(letters_table(), fail=lambda call: errors.EngineError("once") if call == 1 else None)
    with serving(engine) as url:
        assert httpx.post(f"{url}/v1/completions", json=GOOD).status_code == 200
        assert metric(url, "powercut:engine_failures_total", kind="EngineError") == 1
        assert metric(url, "powercut:engine_calls_total") == engine.calls
