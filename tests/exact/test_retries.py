"""A failed engine call is asked again with the same key, so that failures change no law."""

import pytest

from sampler.answer import EndedBy
from sampler.drawing import RETRIES
from sampler.errors import EngineDead, EngineError, EngineOutOfMemory, EngineOverloaded, InvalidParams
from sampler.params import PowerParams
from tests.exact.checks import check_same_path, make_chain, run, run_steps
from tests.exact.engines import Flaky
from tests.exact.models import EndlessEngine

PARAMS = PowerParams(20, 2.0, 1.0, blocks=2, steps_per_block=8, top_k=None, stop=("cab",))


def model(seed: int = 1) -> EndlessEngine:
    return EndlessEngine(seed, ("a", "b", "c", "<eos>"), (3,), end_mass=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["entropy", "uniform"])
@pytest.mark.parametrize("shown", [0, 1, 5, 99])
@pytest.mark.parametrize("kind", [EngineError, EngineOverloaded, EngineOutOfMemory])
def test_a_flaky_engine_gives_the_tokens_of_a_steady_one(kind: type[EngineError], shown: int, cut: str) -> None:
    for seed in range(3):
        engine = model(seed)
        flaky = Flaky(engine, lambda number: number % 3 != 1, lambda: kind("now and then"), shown)
        check_same_path(engine, flaky, PARAMS, seed, cut)
        assert flaky.calls > 20


def test_tokens_of_failed_calls_are_paid_for() -> None:
    engine = model()
    steady, _ = run_steps(engine, PARAMS, 1)
    flaky, _ = run_steps(Flaky(engine, lambda number: number == 1, shown=4), PARAMS, 1)
    assert flaky.usage.generated_tokens == steady.usage.generated_tokens + 4
    assert flaky.usage.steps == steady.usage.steps


def test_an_engine_that_fails_on_every_try_ends_the_chain() -> None:
    flaky = Flaky(model(), lambda number: number >= 3)
    with pytest.raises(EngineError, match="flaky"):
        run(make_chain(flaky, PARAMS, 1).run())
    assert flaky.calls == 2 + 1 + RETRIES


@pytest.mark.parametrize("error", [EngineDead("gone"), InvalidParams("prompt", "too long"), ZeroDivisionError()])
def test_what_no_retry_can_mend_is_not_retried(error: Exception) -> None:
    engine = Flaky(model(), lambda number: number == 2, lambda: error)
    with pytest.raises(type(error)):
        run(make_chain(engine, PARAMS, 1).run())
    assert engine.calls == 2


def test_failed_calls_do_not_lift_the_token_budget() -> None:
    engine = Flaky(EndlessEngine(1, ("a", "b", "c")), lambda number: number == 1, shown=99)
    params = PowerParams(20, 2.0, 1.0, blocks=2, steps_per_block=8, top_k=None, max_generated_tokens=15)
    result, _ = run_steps(engine, params, 1)
    assert result.usage.generated_tokens <= 15


def test_an_engine_s_own_timeout_is_not_the_chain_s_deadline() -> None:
    engine = Flaky(model(), lambda number: number == 3, lambda: TimeoutError("socket"))
    try:
        result, _ = run_steps(engine, PARAMS, 1)
    except (TimeoutError, EngineError):
        return
    assert result.ended_by is EndedBy.COMPLETED
