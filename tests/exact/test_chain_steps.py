"""The real chain, one step at a time, against the enumeration; and steps whose ratio is not a finite number."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from sampler.chain import ChainResult
from sampler.errors import NumericalError
from sampler.events import Stepped
from sampler.params import PowerParams
from sampler.trace import Token
from tests.exact.checks import make_chain, run, run_steps, same_trace
from tests.exact.engines import Altered
from tests.exact.enumeration import Case, Space
from tests.exact.models import EndlessEngine, random_engine
from tests.exact.scripted import check_steps_as_enumerated


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("cut", ["entropy", "uniform"])
@pytest.mark.parametrize(("alpha", "top_k", "stop"), [(4.0, None, ()), (2.0, 2, ("ab",)), (0.5, None, ())])
def test_the_chain_accepts_with_the_enumerated_probability(
    alpha: float, top_k: int | None, stop: tuple[str, ...], cut: str, early: bool
) -> None:
    params = PowerParams(4, alpha, 1.0, 2, 10, top_k, early_rejection=early, stop=stop)
    case = Case(random_engine(21, 4), params, cut)
    assert (
        sum(check_steps_as_enumerated(Space(case, horizon), every=1 if stop else 3) for horizon in params.horizons) > 50
    )


PARAMS = PowerParams(12, 2.0, 1.0, blocks=1, steps_per_block=12, top_k=None)


def model() -> EndlessEngine:
    return EndlessEngine(3, ("a", "b", "c"))


def spoil(**values: float) -> Callable[[int, int, Token], Token]:
    """Spoil the second token of every call after the first, which is the extension."""
    return lambda call, index, token: token._replace(**values) if call > 1 and index == 1 else token


@pytest.mark.parametrize("cut", ["entropy", "uniform"])
@pytest.mark.parametrize(
    ("log_z", "early"),
    [
        (math.nan, True),
        (math.nan, False),
        (-math.inf, False),
        (-math.inf, True),
    ],
)
def test_a_ratio_that_is_not_finite_is_rejected_and_counted(log_z: float, early: bool, cut: str) -> None:
    result, spoilt = run_spoilt(replace(PARAMS, early_rejection=early), cut, log_z=log_z)
    assert not any(step.accepted for step in spoilt)
    assert all(math.isfinite(value) for value in result.trace.log_z)
    assert result.usage.non_finite == len(spoilt)


@pytest.mark.parametrize("cut", ["entropy", "uniform"])
@pytest.mark.parametrize("early", [True, False])
def test_a_bound_of_minus_infinity_rejects(early: bool, cut: str) -> None:
    _, spoilt = run_spoilt(replace(PARAMS, early_rejection=early), cut, log_z=-math.inf)
    assert not any(step.accepted for step in spoilt)
    assert all(step.rejected_early == early for step in spoilt)


def test_an_entropy_that_is_not_a_number_rejects_its_proposal() -> None:
    result, spoilt = run_spoilt(PARAMS, "entropy", entropy=math.nan)
    assert not any(step.accepted for step in spoilt)
    assert result.usage.non_finite == len(spoilt)


def run_spoilt(params: PowerParams, cut: str, **values: float) -> tuple[ChainResult, list[Stepped]]:
    """A run in which the second token of every proposal is spoilt, and the steps that saw one."""
    result, steps = run_steps(Altered(model(), spoil(**values)), params, 1, cut)
    spoilt = [step for step in steps if len(step.proposal) > 1]
    assert len(spoilt) > 4
    return result, spoilt


@pytest.mark.parametrize("field", ["log_z", "entropy"])
@pytest.mark.parametrize("index", [0, 5, 11])
def test_a_start_trace_with_nan_raises_numerical_error(field: str, index: int) -> None:
    engine = Altered(model(), lambda call, at, token: token._replace(**{field: math.nan}) if at == index else token)
    with pytest.raises(NumericalError):
        run(make_chain(engine, PARAMS).run())


def test_the_row_at_the_cut_keeps_its_stored_values() -> None:
    """Noise in a second evaluation of the common row does not enter the ratio."""
    engine = Altered(
        model(),
        lambda call, index, token: token._replace(log_z=-9.0, entropy=0.7) if call > 1 and index == 0 else token,
    )
    noisy, noisy_steps = run_steps(engine, PARAMS, 1)
    clean, clean_steps = run_steps(model(), PARAMS, 1)
    assert same_trace(noisy.trace, clean.trace)
    assert [s.log_ratio for s in noisy_steps] == [s.log_ratio for s in clean_steps]


def test_nothing_is_drawn_where_no_position_can_be_cut() -> None:
    """Z = 0 means that there is one trace only."""
    engine = random_engine(0, 3)
    for prefix in engine._logits:
        engine._logits[prefix][1:] = -math.inf
    chain = make_chain(engine, PowerParams(3, blocks=1, steps_per_block=5, top_k=None))
    result = run(chain.run())
    assert (result.usage.steps, result.usage.generated_tokens, result.usage.moved) == (5, 3, 0)
