"""Does this engine, as it runs now, give what the method rests on?

Each check compares the engine with a second way to the same thing: a scoring of the finished text, a replay, a chain
without the saving. It needs no reference model and no data, so it can be run against any backend before it is trusted.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import numpy as np

from sampler.answer import Answer
from sampler.cuts import CutState, advance, cut_law, draw_cut
from sampler.engine import Engine, Request, Support
from sampler.errors import SamplerError
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PowerParams
from sampler.rng import Draws, Kind, prompt_digest
from sampler.row import Floats, row_of_top
from sampler.trace import Segment

ALPHA, BETA, TOP_K, TOKENS = 4.0, 4.0, 50, 24
CHAIN = PowerParams(TOKENS, ALPHA, BETA, blocks=2, steps_per_block=4, top_k=TOP_K, memo_tree=False, prefetch=False)
PROMPT = (
    "A train leaves the station at nine. It covers sixty miles in an hour and a half. Its speed, in miles per hour, is"
)
EXACT, SINGLE, HALF = 1e-9, 1e-3, 0.3
"""Nats by which a second scoring may differ: float64, float32, and two bytes or an unknown type."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table. `holds` is None where this engine does not tell."""

    name: str
    holds: bool | None
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """The engine under test, with a prompt in its tokens."""

    engine: Engine
    prompt: tuple[int, ...]

    @property
    def tolerance(self) -> float:
        """Nats of difference that the engine's number type explains."""
        dtype = str(self.engine.info.details.get("dtype", "fp64" if self.engine.info.name == "tabular" else ""))
        return EXACT if "64" in dtype else SINGLE if "32" in dtype else HALF

    @property
    def top_k(self) -> int:
        """The support of every check."""
        return min(TOP_K, self.engine.info.vocabulary)

    def request(self, number: int = 0, prompt: tuple[int, ...] | None = None, tokens: int = TOKENS) -> Request:
        """A proposal; `number` is its own draw key."""
        ids = prompt or self.prompt
        return Request(
            ids,
            tokens,
            ALPHA,
            Support.of(self.top_k),
            Draws(0, prompt_digest(ids), number).key(Kind.TOKEN, 0, 0),
            0,
            self.engine.info.eos_ids,
            affinity="self-check",
        )

    async def chain(self, params: PowerParams) -> Answer:
        """An entropy-cut chain with a fixed seed."""
        params = replace(params, top_k=self.top_k)
        return await METHODS["entropy_cut"](Job(self.engine, self.prompt, params, 0, affinity="self-check"))

    async def scored(self, ids: tuple[int, ...]) -> Floats:
        """log p, ℓ, H and log mass over the support from a second scoring: shape [tokens, 4], nats."""
        tokens, rows = await self.engine.score(self.prompt + ids, len(self.prompt), head=self.top_k)
        found: list[tuple[float, float, float, float]] = []
        for token, row in zip(tokens, rows, strict=True):
            over = row_of_top(row.ids[: self.top_k], row.logits[: self.top_k], self.top_k, ALPHA, row.log_norm)
            found.append((token.log_p - over.log_mass, over.log_z, over.entropy, over.log_mass))
        return np.array(found).reshape(-1, 4)


async def statistics(subject: Subject) -> Finding:
    """log p, ℓ, H and log mass as drawn, against a scoring of the text."""
    name = "statistics equal a second scoring"
    if not subject.engine.info.scores:
        return Finding(name, None, "this engine does not score texts")
    segments = await asyncio.gather(*[subject.engine.propose(subject.request(i)) for i in range(4)])
    worst, count = 0.0, 0
    for segment in segments:
        drawn = np.array([token[1:] for token in segment.tokens])
        again = await subject.scored(tuple(token.id for token in segment.tokens))
        worst, count = max(worst, float(np.abs(drawn - again).max(initial=0.0))), count + len(drawn)
    detail = f"largest difference {worst:.1e} nats over {count} tokens (at most {subject.tolerance:g})"
    return Finding(name, worst <= subject.tolerance, detail)


async def seeds(subject: Subject) -> Finding:
    """A key gives its tokens again, alone and among others; another key gives others."""
    first = await subject.engine.propose(subject.request())
    crowd = await asyncio.gather(*[subject.engine.propose(subject.request(i)) for i in (1, 0, 2, 3)])
    alone, beside = (_ids(one) for one in (await subject.engine.propose(subject.request()), crowd[1]))
    kinds = {_ids(one) for one in (first, *crowd)}
    replayed = alone == _ids(first)
    again, among = ("same" if one else "OTHER" for one in (replayed, beside == alone))
    detail = f"{again} tokens again, {among} among others, {len(kinds)} texts of 4 seeds"
    return Finding("seeds replay", replayed and beside == alone and len(kinds) > 1, detail)


async def prefix_reuse(subject: Subject) -> Finding:
    """A prompt seen before is not computed again."""
    ids = (subject.prompt * (200 // len(subject.prompt) + 1))[: min(200, subject.engine.info.context // 2)]
    reused = [(await subject.engine.propose(subject.request(i, ids, 1))).prefix_reused for i in range(2)]
    name, detail = "prefixes are reused", f"{reused[1]} of {len(ids)} prompt tokens"
    if reused[1] == 0 and subject.engine.info.name == "remote":
        return Finding(name, None, "this engine does not tell")
    return Finding(name, reused[1] >= len(ids) // 2, detail)


async def early_rejection(subject: Subject) -> Finding:
    """Early rejection changes no token and draws no more of them."""
    with_it = await subject.chain(CHAIN)
    without = await subject.chain(replace(CHAIN, early_rejection=False))
    same = with_it.trace.ids == without.trace.ids
    drawn, plain = with_it.usage.generated_tokens, without.usage.generated_tokens
    return Finding(
        "early rejection changes nothing but the cost",
        same and drawn <= plain,
        f"{'same' if same else 'OTHER'} answer, {drawn} instead of {plain} tokens",
    )


async def cut_law_holds(subject: Subject) -> Finding:
    """Cuts of the finished trace fall as the jumps of a second scoring's entropies say."""
    name = "cuts follow the entropy jumps"
    if not subject.engine.info.scores:
        return Finding(name, None, "this engine does not score texts")
    trace = (await subject.chain(CHAIN)).trace
    law, state, log_weights = cut_law("entropy", BETA), CutState(), list[float]()
    for entropy in (await subject.scored(trace.ids))[:, 2]:
        state = advance(law, state, float(entropy))
        log_weights.append(state.log_weight)
    if trace.total_log_norm == -math.inf:
        return Finding(name, state.log_norm == -math.inf, "nothing to cut: the model is certain throughout")
    expected = np.exp(np.array(log_weights) - state.log_norm)
    uniforms = (np.arange(10_000) + 0.5) / 10_000
    counts = np.bincount([draw_cut(trace.log_norm, float(u)) for u in uniforms], minlength=len(trace)) / 10_000
    distance = float(np.abs(counts - expected).sum() / 2)
    allowed = 0.001 + min(0.25, 10 * subject.tolerance)
    detail = f"total variation {distance:.4f} over {len(trace)} positions (at most {allowed:.3f})"
    return Finding(name, distance <= allowed, detail)


CHECKS: tuple[Callable[[Subject], Awaitable[Finding]], ...] = (
    statistics,
    seeds,
    prefix_reuse,
    early_rejection,
    cut_law_holds,
)


async def self_check(engine: Engine, found: Callable[[Finding], None] | None = None) -> list[Finding]:
    """Run every check; `found` hears of each as it ends. A check that the engine fails with an error does not hold."""
    subject = Subject(engine, tuple(engine.tokenizer.encode(PROMPT)))
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            finding = await check(subject)
        except SamplerError as error:
            finding = Finding(check.__name__.replace("_", " "), False, str(error))
        findings.append(finding)
        if found is not None:
            found(finding)
    return findings


def _ids(segment: Segment) -> tuple[int, ...]:
    return tuple(token.id for token in segment.tokens)
