"""Chains through `remote` follow the enumerated law, with the statistics of the table behind the server."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sampler.engine import Support, Verdict
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PlainParams, PowerParams
from sampler.trace import End
from tests.engines.fake_vllm import FakeVLLM
from tests.engines.remotes import ask, many, remote, two_ways, until, wide_table
from tests.exact.checks import chi_square_p, make_chain
from tests.exact.enumeration import Case, Space, StagedChain
from tests.exact.models import random_engine


async def test_statistics_are_those_of_the_table(serve: Callable[..., FakeVLLM]) -> None:
    table = random_engine(8, 4)
    async with remote(serve(table)) as engine:
        for seed in range(20):
            segment = await engine.propose(ask(seed=seed, keep_rows=True))
            assert segment.rows is not None
            ids = tuple(token.id for token in segment.tokens)
            for position, (token, kept) in enumerate(zip(segment.tokens, segment.rows, strict=True)):
                row = table.row(ids[:position], 2.0, Support())
                index = int(np.flatnonzero(row.ids == token.id)[0])
                wanted = (row.log_p(index), row.log_z, row.entropy, row.log_mass)
                np.testing.assert_allclose(token[1:], wanted, atol=1e-6)
                assert kept.ids.tolist() == row.ids.tolist()
            assert segment.end is (End.EOS if ids[-1] == 2 else End.LENGTH)
            assert len(ids) == 4 or ids[-1] == 2


@pytest.mark.slow
async def test_first_tokens_follow_q_and_repeat_with_their_key(serve: Callable[..., FakeVLLM]) -> None:
    table = random_engine(8, 4)
    async with remote(serve(table)) as engine:
        requests = [ask(1, seed) for seed in range(400)]
        first = [segment.tokens[0].id for segment in await many(engine, requests)]
        assert first[:50] == [segment.tokens[0].id for segment in await many(engine, requests[:50])]
    row = table.row((), 2.0, Support())
    q = np.exp(2.0 * (row.logits - row.log_norm) - row.log_z)[np.argsort(row.ids)]
    assert chi_square_p(np.bincount(first, minlength=3), q) > 1e-4


@pytest.mark.slow
async def test_ties_at_the_edge_of_the_support_are_drawn_again_from_the_row(serve: Callable[..., FakeVLLM]) -> None:
    table, count = wide_table(), 400
    async with remote(serve(table)) as engine:
        requests = [ask(2, seed, top_k=20, alpha=1.0, eos_ids=frozenset()) for seed in range(count)]
        segments = await many(engine, requests)
        assert engine.ties > count / 20
        again = await many(engine, requests[:50])
        assert [s.tokens for s in again] == [s.tokens for s in segments[:50]]
    row = table.row((), 1.0, Support("top_k", top_k=20))
    q = np.zeros(24)
    q[row.ids[:20]] = np.exp(row.logits[:20] - row.log_norm)
    assert chi_square_p(np.bincount([s.tokens[0].id for s in segments], minlength=24), q / q.sum()) > 1e-4
    assert all(len(segment.tokens) == 2 and segment.end is End.LENGTH for segment in segments)


@pytest.mark.slow
@pytest.mark.parametrize("interval", [1, 3])
async def test_a_staged_chain_has_the_enumerated_law(serve: Callable[..., FakeVLLM], interval: int) -> None:
    params = PowerParams(4, 2.0, 1.0, blocks=2, steps_per_block=2, top_k=3, stop=("ab",))
    case = Case(random_engine(8, 4), params)
    space = Space(case, 4)
    counts = np.zeros(len(space.traces))
    async with remote(serve(case.engine), stream_interval=interval) as engine:

        async def one(seed: int) -> None:
            counts[space.index[(await make_chain(engine, params, seed).run()).trace.ids]] += 1

        for seed in range(0, 240, 20):
            await asyncio.gather(*[one(seed + i) for i in range(20)])
    law = StagedChain(case, verify=False).law(params.steps_per_block)
    assert chi_square_p(counts, law) > 1e-4


async def test_a_verdict_closes_the_connection_and_the_server_stops(serve: Callable[..., FakeVLLM]) -> None:
    fake = serve(wide_table(), delay_s=0.01)
    async with remote(fake, stream_interval=1) as engine:
        for verdict, end in ((Verdict.REJECT, End.REJECTED), (Verdict.STOP, End.STOP)):
            fake.tokens = fake.left_early = 0
            seen: list[int] = []

            def watch(tokens: Any, seen: list[int] = seen, verdict: Verdict = verdict) -> Verdict | None:
                seen.extend(token.id for token in tokens)
                return verdict if len(seen) >= 5 else None

            segment = await engine.propose(ask(200, top_k=20, eos_ids=frozenset(), watch=watch))
            assert (len(segment.tokens), segment.end) == (5, end)
            await until(lambda: fake.left_early > 0 and fake.running == 0)
            assert fake.tokens < 100


@pytest.mark.slow
async def test_early_rejection_costs_the_server_fewer_tokens(serve: Callable[..., FakeVLLM]) -> None:
    fake, drawn = serve(two_ways(), delay_s=0.005), []
    async with remote(fake, stream_interval=1) as engine:
        for early in (True, False):
            params = PowerParams(48, blocks=1, steps_per_block=10, top_k=24, early_rejection=early, memo_tree=False)
            fake.tokens = 0
            await make_chain(engine, replace(params, prefetch=False), 5).run()
            await until(lambda: fake.running == 0)
            drawn.append(fake.tokens)
    assert drawn[0] < 0.8 * drawn[1]


async def test_a_stop_token_of_the_servers_own_does_not_end_the_segment(serve: Callable[..., FakeVLLM]) -> None:
    fake = serve(wide_table(), stop_ids=(0, 1, 2, 3))
    async with remote(fake) as engine:
        segment = await engine.propose(ask(40, top_k=20, eos_ids=frozenset({23})))
    assert len(fake.calls) > 1
    assert len(segment.tokens) == 40 or segment.end is End.EOS
    assert [len(call["prompt"]) for call in fake.calls] == sorted({len(call["prompt"]) for call in fake.calls})
    assert len({call["seed"] for call in fake.calls}) == len(fake.calls)


@pytest.mark.slow
@pytest.mark.parametrize(
    "params", [PlainParams(6), PlainParams(6, 0.0), PlainParams(6, 0.7, top_p=0.8), PlainParams(6, top_k=2)]
)
async def test_plain_sampling_has_full_vocabulary_log_p(serve: Callable[..., FakeVLLM], params: PlainParams) -> None:
    table = wide_table()
    fake = serve(table)
    async with remote(fake) as engine:
        answer = await METHODS["standard"](Job(engine, (0,), params, 3, logprobs=4))
    ids = answer.trace.ids
    assert answer.trace.rows is not None
    for position, token in enumerate(ids):
        row = table.row(ids[:position], 1.0, Support())
        index = int(np.flatnonzero(row.ids == token)[0])
        assert answer.trace.log_p[position] == pytest.approx(row.log_p(index), abs=1e-6)
        assert answer.trace.rows[position].ids.tolist() == row.ids[:4].tolist()
        assert answer.trace.rows[position].log_p(1) == pytest.approx(row.log_p(1), abs=1e-6)
    call = fake.calls[0]
    assert (call["top_p"], call["top_k"]) == (params.top_p, params.top_k or 0)
    assert call["temperature"] == pytest.approx(params.temperature)


async def test_scoring_equals_the_table(serve: Callable[..., FakeVLLM]) -> None:
    table = wide_table()
    async with remote(serve(table)) as engine:
        tokens, rows = await engine.score((0, 5, 7, 23), start=2, head=3)
    for position, (token, row) in enumerate(zip(tokens, rows, strict=True)):
        wanted = table.row((5, 7, 23)[: position + 1], 1.0, Support())
        assert token.log_p == pytest.approx(wanted.log_p(int(np.flatnonzero(wanted.ids == token.id)[0])), abs=1e-6)
        assert row.ids.tolist() == wanted.ids[:3].tolist()
