"""The exact law of a whole method, by running it once for every sequence of draws that it can make.

Each place where a method draws is patched to ask `choose` instead, which hands out one branch after another and
multiplies up their probabilities. What runs is the method itself, on a real engine; what is taken for granted is that
its draws are independent, which `check_no_draw_is_used_twice` sees to.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from sampler.answer import Answer
from sampler.engines.tabular import TabularEngine
from sampler.methods import METHODS
from sampler.methods.job import Job
from sampler.params import PlainParams, PowerParams
from sampler.rng import DrawKey
from sampler.row import Floats, Row
from tests.exact.enumeration import Space

Params = PowerParams | PlainParams
SMC, TMC = (
    import_module(f"sampler.methods.{name}") for name in ("smc", "tmc")
)  # the packages' names are the functions


class Explorer:
    """Goes through every sequence of choices, depth first."""

    def __init__(self) -> None:
        self._path: list[tuple[int, Floats]] = []
        self._at = 0
        self.probability = 1.0

    def choose(self, masses: Sequence[float] | Floats) -> int:
        """The branch to take now, of those with positive mass; masses sum to 1."""
        if self._at == len(self._path):
            masses = np.asarray(masses, dtype=np.float64)
            self._path.append((int(np.flatnonzero(masses > 0)[0]), masses))
        branch, known = self._path[self._at]
        self._at += 1
        self.probability *= float(known[branch])
        return branch

    def leaves(self, run: Callable[[], Answer]) -> Iterator[tuple[float, Answer]]:
        """Every outcome of `run` with its probability."""
        while True:
            self._at, self.probability = 0, 1.0
            answer = run()
            yield self.probability, answer
            while self._path:
                branch, masses = self._path.pop()
                later = np.flatnonzero(masses[branch + 1 :] > 0)
                if len(later):
                    self._path.append((branch + 1 + int(later[0]), masses))
                    break
            else:
                return


def outcomes(
    patch: pytest.MonkeyPatch, method: str, engine: TabularEngine, params: Params
) -> list[tuple[float, Answer]]:
    """Every answer that a method can give, with its probability."""
    explorer = Explorer()
    systematic = SMC.systematic

    def find(row: Row, u: float) -> int:
        log_q = row.alpha * (row.logits[: row.size] - row.log_norm) - row.log_z
        return explorer.choose(np.exp(log_q))

    def ancestors(weights: Floats, u: float) -> Any:
        edges = np.outer(np.cumsum(weights), len(weights)) - np.arange(len(weights))
        cuts = np.unique(np.concatenate([[0.0, 1.0], edges[(edges > 0) & (edges < 1)]]))
        branch = explorer.choose(np.diff(cuts))
        return systematic(weights, float(cuts[branch] + cuts[branch + 1]) / 2)

    def pick(weights: Floats, u: float) -> int:
        return explorer.choose(weights / weights.sum())

    with patch.context() as patched, asyncio.Runner() as runner:
        patched.setattr(Row, "find", find)
        patched.setattr(SMC, "systematic", ancestors)
        patched.setattr(SMC, "pick", pick)
        patched.setattr(TMC, "pick", pick)

        async def answer() -> Answer:
            return await METHODS[method](Job(engine, (0,), params, 0))

        return list(explorer.leaves(lambda: runner.run(answer())))


def law_of(found: list[tuple[float, Answer]], space: Space) -> Floats:
    """The law of the answer over a space's traces."""
    law = np.zeros(len(space.traces))
    for probability, answer in found:
        law[space.index[answer.trace.ids]] += probability
    return law


def check_no_draw_is_used_twice(
    patch: pytest.MonkeyPatch, method: str, engine: TabularEngine, params: Params, seeds: range = range(3)
) -> None:
    """No two draws of an answer have the same key and position, nor have two answers of one request."""
    used: Counter[tuple[bytes, int]] = Counter()
    uniform = DrawKey.uniform

    def counted(key: DrawKey, position: int = 0) -> float:
        used[key.digest, position] += 1
        return uniform(key, position)

    async def answers() -> None:
        for seed in seeds:
            for chain in range(2):
                await METHODS[method](Job(engine, (0,), params, seed, chain))

    with patch.context() as patched:
        patched.setattr(DrawKey, "uniform", counted)
        asyncio.run(answers())
    assert used
    assert max(used.values()) == 1, f"{method} uses a draw twice"
