"""The methods that draw whole answers have exactly their laws: standard, low temperature, best of n."""

import asyncio

import numpy as np
import pytest

from sampler.answer import Answer, EndedBy
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PlainParams, PowerParams
from sampler.trace import Trace
from tests.exact.enumeration import Case, Space
from tests.exact.exploring import Params, check_no_draw_is_used_twice, law_of, outcomes
from tests.exact.models import EndlessEngine, random_engine

ENGINE = random_engine(8, 3)
POWER = PowerParams(3, 2.0, top_k=None)
STOPPED = PowerParams(3, 4.0, top_k=2, stop=("ab",))
EVERY = [
    ("standard", PlainParams(5)),
    ("low_temperature", PowerParams(5, top_k=None)),
    ("best_of_n", PowerParams(5, top_k=None, samples=5)),
    ("best_of_n", PowerParams(5, top_k=None, max_generated_tokens=12, memo_tree=False)),
    ("smc", PowerParams(5, 2.0, blocks=3, top_k=None, particles=5, ess_threshold=1.0)),
    ("smc", PowerParams(5, 2.0, blocks=3, top_k=None, particles=5, max_generated_tokens=17, memo_tree=False)),
    ("tmc", PowerParams(5, 2.0, blocks=3, top_k=None, candidates=3, rollouts=2)),
]


def ask(method: str, engine: object, params: Params, seed: int = 0) -> Answer:
    return asyncio.run(METHODS[method](Job(engine, (0,), params, seed)))  # type: ignore[arg-type]


def q_of(space: Space) -> np.ndarray:
    return np.array([suffix[0] for suffix in space.q_suffix])


@pytest.mark.parametrize("params", [POWER, STOPPED, PowerParams(3, 0.5, top_k=None)], ids=["plain", "stop", "flat"])
def test_low_temperature_has_exactly_the_law_of_q(monkeypatch: pytest.MonkeyPatch, params: PowerParams) -> None:
    space = Space(Case(ENGINE, params), 3)
    law = law_of(outcomes(monkeypatch, "low_temperature", ENGINE, params), space)
    assert np.abs(law - q_of(space)).max() < 1e-14
    assert np.abs(law - space.target).max() > 0.01, "this model could not tell q from p^α"


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_standard_has_exactly_the_law_of_the_tempered_model(
    monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    params = PlainParams(3, temperature, stop=("ab",))
    space = Space(Case(ENGINE, PowerParams(3, 1 / temperature, top_k=None, stop=("ab",))), 3)
    assert np.abs(law_of(outcomes(monkeypatch, "standard", ENGINE, params), space) - q_of(space)).max() < 1e-14


def test_low_temperature_is_standard_sampling_at_one_over_alpha_token_for_token() -> None:
    engine = EndlessEngine(3, ("a", "b", "c", "<eos>"), (3,), end_mass=0.05)
    for seed in range(20):
        tempered = ask("low_temperature", engine, PowerParams(40, 2.5, top_k=3, stop=("abc",)), seed)
        plain = ask("standard", engine, PlainParams(40, 1 / 2.5, top_k=3, stop=("abc",)), seed)
        assert (tempered.trace.ids, tempered.trace.end) == (plain.trace.ids, plain.trace.end)


def closed_form(space: Space, n: int) -> np.ndarray:
    """q(x)·(F(s)^n − F(s−)^n) / q(score = s): the law of the best of n."""
    q, scores = q_of(space), np.array([trace.log_p.mean() for trace in space.traces])
    law = np.zeros(len(q))
    for i, s in enumerate(scores):
        below, level = q[scores < s].sum(), q[scores == s].sum()
        law[i] = q[i] / level * ((below + level) ** n - below**n)
    return law


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 2, 3])
def test_best_of_n_has_its_closed_form(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    params = PowerParams(2, 2.0, top_k=None, samples=n)
    space = Space(Case(ENGINE, params), 2)
    law = law_of(outcomes(monkeypatch, "best_of_n", ENGINE, params), space)
    assert np.abs(law - closed_form(space, n)).max() < 1e-13


def matched_law(space: Space, budget: int, kept: Trace | None = None, probability: float = 1.0) -> np.ndarray:
    """The law of the best draw when draws go on until the budget is crossed, by recursion over the next draw."""
    law = np.zeros(len(space.traces))
    for trace, q in zip(space.traces, q_of(space), strict=True):
        best = trace if kept is None or trace.log_p.mean() > kept.log_p.mean() else kept
        if budget > len(trace):
            law += matched_law(space, budget - len(trace), best, probability * q)
        else:
            law[space.index[best.ids]] += probability * q
    return law


def test_best_of_n_matched_to_a_budget_draws_until_it_is_crossed(monkeypatch: pytest.MonkeyPatch) -> None:
    params = PowerParams(2, 2.0, top_k=None, max_generated_tokens=4, memo_tree=False)
    space = Space(Case(ENGINE, params), 2)
    found = outcomes(monkeypatch, "best_of_n", ENGINE, params)
    assert np.abs(law_of(found, space) - matched_law(space, 4)).max() < 1e-13
    for _, answer in found:
        assert 4 <= answer.usage.generated_tokens <= 5
        assert answer.ended_by is EndedBy.COMPLETED


def test_best_of_n_with_samples_and_a_budget_never_goes_over() -> None:
    engine = EndlessEngine(3, ("a", "b", "c", "<eos>"), (3,), end_mass=0.05)
    for budget in (1, 7, 39, 40, 41, 100, 1000):
        params = PowerParams(40, samples=5, max_generated_tokens=budget, memo_tree=False)
        for seed in range(5):
            answer = ask("best_of_n", engine, params, seed)
            assert answer.usage.generated_tokens <= budget
            assert len(answer.trace) >= 1
            assert (answer.ended_by is EndedBy.COMPLETED) or budget < 200


def test_best_of_n_stops_at_its_cap_where_answers_cost_nothing() -> None:
    engine = random_engine(0, 2)
    for prefix in engine._logits:
        engine._logits[prefix] = np.array([0.0, -np.inf, -np.inf])
    answer = ask("best_of_n", engine, PowerParams(2, max_generated_tokens=1000, top_k=None))
    assert answer.usage.generated_tokens < 1000
    assert answer.usage.generated_tokens + answer.usage.free_tokens == 2 * 256


@pytest.mark.parametrize(("method", "params"), EVERY, ids=lambda value: value if isinstance(value, str) else "")
def test_no_draw_is_used_twice(monkeypatch: pytest.MonkeyPatch, method: str, params: Params) -> None:
    check_no_draw_is_used_twice(monkeypatch, method, random_engine(8, 5), params)
