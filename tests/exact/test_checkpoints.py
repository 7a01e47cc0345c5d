"""A job that checkpoints can go on from every stage it told of, and gives the reply it would have given."""

import asyncio
import json
from dataclasses import asdict, replace
from hashlib import blake2b
from typing import Any

import pytest

from sampler.answer import Answer, EndedBy
from sampler.engine import EngineInfo, Request
from sampler.events import Event
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PowerParams
from sampler.rng import DrawKey
from sampler.state import ChainState
from sampler.trace import Segment
from service.logprobs import answer_shown
from service.render import power_report
from tests.exact.checks import same_trace
from tests.exact.models import EndlessEngine

PARAMS = PowerParams(20, 2.0, 1.0, blocks=4, steps_per_block=6, top_k=3, tries=3, stop=("bca",))
CHAINS: dict[str, tuple[str, dict[str, Any]]] = {
    "entropy": ("entropy_cut", {}),
    "uniform": ("uniform_cut", {}),
    "paper": ("entropy_cut", {"mode": "paper"}),
    "tries": ("multiple_try", {}),
    "budget": ("entropy_cut", {"max_generated_tokens": 60, "steps_per_block": 20}),
    "frozen": ("entropy_cut", {"stop_when_frozen": 9}),
}


class OwnDraws(EndlessEngine):
    """Draws by itself: what it draws depends on the prefix it is asked to go on from, so on what a tree saved."""

    @property
    def info(self) -> EngineInfo:
        return replace(self._info, draws="own")

    async def propose(self, request: Request) -> Segment:
        own = blake2b(request.position.to_bytes(4, "little"), key=request.key.digest, digest_size=32)
        return await super().propose(replace(request, key=DrawKey(own.digest())))


def engine_of(kind: type[EndlessEngine], seed: int) -> EndlessEngine:
    engine = kind(seed, ("a", "b", "c", "<eos>"), (3,), end_mass=0.02)
    engine.free_rows = 4
    return engine


def answer(
    engine: EndlessEngine, chain: str, seed: int, resume: ChainState | None = None
) -> tuple[Answer, list[tuple[ChainState, int]], list[Event]]:
    """The answer, each state told of with the number of events before it, and the events."""
    method, changes = CHAINS[chain]
    states: list[tuple[ChainState, int]] = []
    events: list[Event] = []

    def told(state: ChainState) -> None:
        plain = json.loads(json.dumps(asdict(state)))
        states.append((ChainState(**plain), len(events)))

    job = Job(
        engine,
        (0, 1),
        replace(PARAMS, **changes),
        seed,
        logprobs=2,
        emit=events.append,
        checkpoint=told,
        resume=resume,
    )
    return asyncio.run(METHODS[method](job)), states, events


def reply_of(engine: EndlessEngine, given: Answer, events: list[Event], mode: str) -> dict[str, Any]:
    """What a caller reads of an answer, but for the cost, which depends on what was known."""
    text = engine.tokenizer.response_bytes(given.trace.ids).decode()
    report = power_report(given, mode, events)
    for step in report["chain"]:
        del step["generated_tokens"]
    return {"text": text, "power": report, "logprobs": answer_shown(given, engine.tokenizer, text, 2)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [EndlessEngine, OwnDraws])
@pytest.mark.parametrize("chain", CHAINS)
def test_a_job_resumed_from_each_of_its_stages_gives_the_same_reply(chain: str, kind: type[EndlessEngine]) -> None:
    resumed_from: set[int] = set()
    ended: set[EndedBy] = set()
    mode = CHAINS[chain][1].get("mode", "exact")
    for seed in range(3):
        whole, states, events = answer(engine_of(kind, seed), chain, seed)
        ended.add(whole.ended_by)
        for state, before in states:
            again, later, more = answer(engine_of(kind, seed), chain, seed, state)
            assert same_trace(again.trace, whole.trace)
            assert (again.ended_by, again.stage) == (whole.ended_by, whole.stage)
            engine = engine_of(kind, seed)
            assert reply_of(engine, again, events[:before] + more, mode) == reply_of(engine, whole, events, mode)
            assert [each.stage for each, _ in later] == [each.stage for each, _ in states if each.stage > state.stage]
            resumed_from.add(state.stage)
    assert resumed_from, "some stage was told of"
    if chain in {"entropy", "uniform", "tries"}:
        assert resumed_from == {1, 2, 3, 4}
    wanted = {"budget": EndedBy.TOKEN_BUDGET, "frozen": EndedBy.FROZEN}.get(chain, EndedBy.COMPLETED)
    assert wanted in ended


@pytest.mark.parametrize("kind", [EndlessEngine, OwnDraws])
def test_what_a_resumed_chain_cost_is_what_its_saved_stages_cost_and_what_it_drew_since(
    kind: type[EndlessEngine],
) -> None:
    whole, states, _ = answer(engine_of(kind, 1), "entropy", 1)
    for state, _ in states:
        again, _, _ = answer(engine_of(kind, 1), "entropy", 1, state)
        assert again.usage.steps == whole.usage.steps
        assert again.usage.accepted == whole.usage.accepted
        assert again.usage.generated_tokens >= state.usage["generated_tokens"]
        if kind is OwnDraws:  # its tree begins anew at each stage anyway
            assert again.usage == whole.usage


def test_checkpointing_changes_no_token() -> None:
    for seed in range(3):
        watched, _, _ = answer(engine_of(EndlessEngine, seed), "entropy", seed)
        job = Job(engine_of(EndlessEngine, seed), (0, 1), PARAMS, seed)
        alone = asyncio.run(METHODS["entropy_cut"](job))
        assert same_trace(watched.trace, alone.trace)
        assert watched.usage == alone.usage
