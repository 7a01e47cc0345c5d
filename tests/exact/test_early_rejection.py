"""Early rejection changes nothing but the cost."""

import asyncio
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sampler.chain import Chain
from sampler.cuts import draw_cut
from sampler.drawing import splice
from sampler.params import PowerParams
from sampler.rng import EXTEND, Kind
from sampler.trace import Token, Trace, empty_trace
from tests.exact.checks import check_edges_agree, check_stops_at_first_lost_row, make_chain, run_steps, same_trace
from tests.exact.engines import Batched, Lazy
from tests.exact.enumeration import Case, Space, bounds_along
from tests.exact.models import EndlessEngine, random_engine

VOCABULARY = ("a", "b", "ab", "c", "<eos>")
SHAPES = [(6, 3, ()), (12, 2, ("ab", "ca")), (40, 4, ()), (40, 4, ("bab", "ccc"))]


def endless(seed: int) -> EndlessEngine:
    return EndlessEngine(seed, VOCABULARY, (4,), end_mass=0.01)


def params_of(length: int, blocks: int, stop: tuple[str, ...], alpha: float = 2.0, steps: int = 8) -> PowerParams:
    return PowerParams(length, alpha, 1.0, blocks, steps, top_k=4, stop=stop)


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["entropy", "uniform"])
@pytest.mark.parametrize(("length", "blocks", "stop"), SHAPES)
def test_one_seed_gives_the_same_chain_with_and_without(
    length: int, blocks: int, stop: tuple[str, ...], cut: str
) -> None:
    saved = 0
    for seed in range(6):
        engine, params = endless(seed), params_of(length, blocks, stop, alpha=(1.0, 2.0, 4.0)[seed % 3])
        early, early_steps = run_steps(engine, params, seed, cut)
        plain, plain_steps = run_steps(engine, replace(params, early_rejection=False), seed, cut)
        assert same_trace(early.trace, plain.trace)
        assert [(s.cut, s.log_u, s.accepted, s.moved, s.log_p, s.length) for s in early_steps] == [
            (s.cut, s.log_u, s.accepted, s.moved, s.log_p, s.length) for s in plain_steps
        ]
        for one, two in zip(early_steps, plain_steps, strict=True):
            assert one.proposal == two.proposal[: len(one.proposal)]
            assert one.log_ratio in (None, two.log_ratio)
        assert plain.usage.rejected_early == 0
        assert early.usage.accepted == plain.usage.accepted
        assert early.usage.moved == plain.usage.moved
        saved += plain.usage.generated_tokens - early.usage.generated_tokens
        assert early.usage.generated_tokens <= plain.usage.generated_tokens
    assert saved > 0


@pytest.mark.slow
@pytest.mark.parametrize("early", [True, False])
def test_an_engine_that_watches_rarely_or_never_gives_the_same_chain(early: bool) -> None:
    for seed in range(4):
        inner = endless(seed)
        params = replace(params_of(40, 4, ("bab", "ccc")), early_rejection=early)
        steady, steps = run_steps(inner, params, seed)
        for engine in (Lazy(inner), Batched(inner, 3), Batched(inner, 7)):
            other, again = run_steps(engine, params, seed)
            assert same_trace(steady.trace, other.trace)
            assert [(s.proposal, s.log_ratio, s.accepted) for s in steps] == [
                (s.proposal, s.log_ratio, s.accepted) for s in again
            ]
            assert other.usage.generated_tokens >= steady.usage.generated_tokens


async def real_proposal(chain: Chain, number: int, horizon: int) -> tuple[Trace, int, list[Token]]:
    """A trace drawn by q, a cut of it, and the suffix that a step would propose."""
    draws = chain.task.draws
    chain.trace = empty_trace()
    start = await chain._draw(0, horizon, draws.key(Kind.TOKEN, number, EXTEND))
    chain.trace = splice(chain.trace, 0, start)
    cut = draw_cut(chain.trace.log_norm, draws.key(Kind.CUT, number, 0).uniform())
    drawn = await chain._draw(cut, horizon, draws.key(Kind.TOKEN, number, 0))
    return chain.trace, cut, drawn.watcher.tokens


def long_pairs(cut_name: str, seeds: range) -> Iterator[tuple[Chain, Chain, Trace, int, list[Token], int]]:
    """(early chain, plain chain, trace, cut, proposed suffix, horizon) of real draws of 120 tokens."""
    horizon = 120
    for seed in seeds:
        params = PowerParams(horizon, 2.0, 1.0, blocks=1, top_k=None)
        engine = EndlessEngine(seed, ("a", "b", "c", "d"), concentration=0.15)
        early = make_chain(engine, params, seed, cut_name)
        plain = make_chain(engine, replace(params, early_rejection=False), seed, cut_name)
        for number in range(6):
            yield early, plain, *asyncio.run(real_proposal(early, number, horizon)), horizon


@pytest.mark.slow
@pytest.mark.parametrize("cut_name", ["entropy", "uniform"])
def test_long_proposals_are_decided_alike_at_the_very_edge(cut_name: str) -> None:
    decisions = sum(check_edges_agree(*pair) for pair in long_pairs(cut_name, range(10)))
    assert decisions > 150


@pytest.mark.slow
@pytest.mark.parametrize("cut_name", ["entropy", "uniform"])
def test_600_long_proposals_are_decided_alike_at_the_very_edge(cut_name: str) -> None:
    assert sum(check_edges_agree(*pair) for pair in long_pairs(cut_name, range(100, 200))) > 1500


@pytest.mark.slow
@pytest.mark.parametrize("cut_name", ["entropy", "uniform"])
def test_the_bound_never_rises_and_ends_at_the_log_ratio(cut_name: str) -> None:
    """The log ratio against the textbook's three terms, summed in another way."""
    for early, _, trace, cut, tokens, horizon in long_pairs(cut_name, range(4)):
        values = bounds_along(early, trace, cut, tokens, horizon)
        assert values[0] >= 0
        assert all(a >= b for a, b in itertools.pairwise(values))
        assert values[-1] == pytest.approx(three_terms(early, trace, cut, tokens), abs=1e-9)


def three_terms(chain: Chain, trace: Trace, cut: int, tokens: list[Token]) -> float:
    """The power, proposal and cut terms of the Metropolis–Hastings ratio."""
    alpha = chain.params.alpha
    watcher = chain._watcher(cut, 1 << 20)
    watcher(tokens)
    log_p, log_z = math.fsum(t.log_p for t in tokens), math.fsum(t.log_z for t in tokens)
    power = alpha * (log_p - math.fsum(trace.log_p[cut:]))
    log_q = alpha * math.fsum(trace.log_p[cut:]) - math.fsum(trace.log_z[cut:])
    log_cut = (watcher.log_weight[0] - watcher.log_norm[-1]) - float(trace.log_weight[cut] - trace.log_norm[-1])
    return power + log_q - (alpha * log_p - log_z) + log_cut


@pytest.mark.parametrize("cut", ["entropy", "uniform"])
def test_every_short_proposal_is_decided_alike_at_the_very_edge(cut: str) -> None:
    params = PowerParams(4, 2.0, 1.0, 1, 10, None, stop=("ab",))
    space = Space(Case(random_engine(2, 4), params, cut), 4)
    plain = Case(space.case.engine, replace(params, early_rejection=False), cut).chain()
    for trace in space.traces:
        for position in range(len(trace)):
            for j in space.below[trace.ids[:position]]:
                check_edges_agree(space.chain, plain, trace, position, space.tokens[j][position:], 4)


@pytest.mark.parametrize("cut", ["entropy", "uniform"])
@pytest.mark.parametrize("quantile", [0.05, 0.5, 0.8])
def test_a_lost_proposal_ends_at_the_first_row_whose_bound_is_below_log_u(cut: str, quantile: float) -> None:
    params = PowerParams(5, 2.0, 1.0, 1, 10, None)
    assert check_stops_at_first_lost_row(Space(Case(random_engine(5, 5), params, cut), 5), quantile) > 0


def test_alpha_below_one_rejects_nothing_early() -> None:
    for seed in range(4):
        result, _ = run_steps(endless(seed), params_of(20, 2, (), alpha=0.5), seed)
        assert result.usage.rejected_early == 0
        assert result.usage.accepted < result.usage.steps
