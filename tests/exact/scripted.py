"""Makes the real `Chain.step` take a chosen step: the keys are real in form, their uniforms are chosen here."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sampler.chain import Chain, ChainTask
from sampler.cuts import cut_law
from sampler.events import Event, Stepped
from sampler.rng import DrawKey, Draws, Kind
from tests.exact.enumeration import Case, Ids, Space, acceptance, cut_masses


@dataclass(frozen=True)
class ScriptedKey(DrawKey):
    uniforms: Mapping[int, float] = field(default_factory=dict)

    def uniform(self, position: int = 0) -> float:
        return self.uniforms[position]


@dataclass(frozen=True)
class ScriptedDraws(Draws):
    script: dict[Kind, Mapping[int, float]] = field(default_factory=dict)

    def key(self, kind: Kind, stage: int, step: int, attempt: int = 0) -> DrawKey:
        return ScriptedKey(b"", self.script[kind])


def token_uniform(case: Case, prefix: Ids, token: int) -> float:
    """The middle of the interval of u that draws `token` after `prefix`."""
    row = case.row(prefix)
    logits = row.logits[: row.size] - row.log_norm
    mass = np.exp(row.alpha * logits - row.log_z)
    index = int(np.flatnonzero(row.ids == token)[0])
    return float(mass[:index].sum() + mass[index] / 2)


class Stepper:
    """Takes steps of a case's chain with a chosen trace, cut, proposal and u."""

    def __init__(self, space: Space) -> None:
        self.space, self.case = space, space.case
        self.script: dict[Kind, Mapping[int, float]] = {}
        self.events: list[Event] = []
        draws = ScriptedDraws(0, b"", 0, self.script)
        law = cut_law(self.case.cut, self.case.params.cut_power)
        self.chain = Chain(self.case.engine, ChainTask((0,), self.case.params, law, draws), self.events.append)
        self.stage = self.case.params.horizons.index(space.horizon)

    async def step(self, i: int, cut: int, j: int, u: float) -> Stepped:
        """The step from trace i, cut at `cut`, that proposes the suffix of trace j."""
        trace, ids = self.space.traces[i], self.space.traces[j].ids
        edges = np.append(0.0, np.cumsum(cut_masses(trace)))
        self.script[Kind.CUT] = {0: float(edges[cut] + edges[cut + 1]) / 2}
        self.script[Kind.ACCEPT] = {0: u}
        self.script[Kind.TOKEN] = {t: token_uniform(self.case, ids[:t], ids[t]) for t in range(cut, len(ids))}
        self.chain.trace = trace
        self.events.clear()
        await self.chain.step(self.stage, 0, self.space.horizon)
        (event,) = self.events
        assert isinstance(event, Stepped)
        assert event.cut == cut
        return event


def check_steps_as_enumerated(space: Space, every: int = 1) -> int:
    """`Chain.step` accepts up to the enumerated probability and not above it; returns the steps taken."""
    stepper, taken = Stepper(space), 0

    async def all_steps() -> None:
        nonlocal taken
        triples = [
            (i, cut, j)
            for i, trace in enumerate(space.traces)
            for cut, mass in enumerate(cut_masses(trace))
            if mass > 1e-9
            for j in space.below[trace.ids[:cut]]
            if space.q_suffix[j][cut] > 1e-9
        ]
        for i, cut, j in triples[::every]:
            probability = acceptance(space, i, cut, j)
            for u, wanted in ((probability * (1 - 1e-9), True), (probability * (1 + 1e-9), False)):
                if not 0 < u <= 1:
                    continue
                event = await stepper.step(i, cut, j, u)
                target = space.traces[j if wanted else i]
                assert event.accepted == wanted, "a step was decided otherwise than its probability says"
                assert stepper.chain.trace.ids == target.ids, "a step led somewhere else"
                assert stepper.chain.trace.end == target.end
                assert np.array_equal(stepper.chain.trace.log_norm, target.log_norm)
                taken += 1

    asyncio.run(all_steps())
    return taken
