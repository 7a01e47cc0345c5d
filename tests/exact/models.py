"""Models to enumerate: random tables, tables without end, reasoning trees, plan-or-guess."""

import hashlib
import itertools
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sampler.engine import Support
from sampler.engines.tabular import TabularEngine, from_table
from sampler.row import Floats, Row

LETTERS = ("a", "b", "<eos>")
Ids = tuple[int, ...]


def table(vocab: Sequence[str], eos: Sequence[int], rows: Mapping[Ids, Floats], default: Floats | None = None) -> Any:
    """A table in the documented file format, from rows of probabilities."""

    def logits(row: Floats) -> list[float | None]:
        return [float(np.log(p)) if p > 0 else None for p in row]

    return {
        "vocab": list(vocab),
        "eos": list(eos),
        "logits": {" ".join(map(str, ids)): logits(row) for ids, row in rows.items()},
        "default": logits(np.ones(len(vocab)) if default is None else default),
    }


def random_engine(
    seed: int, horizon: int, vocab: Sequence[str] = LETTERS, eos: Sequence[int] = (2,), concentration: float = 1.0
) -> TabularEngine:
    """Dirichlet rows for every prefix that may be asked for, the one after the last token included."""
    rng = np.random.default_rng(seed)
    going = [token for token in range(len(vocab)) if token not in eos]
    prefixes = [ids for n in range(horizon + 1) for ids in itertools.product(going, repeat=n)]
    rows = {ids: rng.dirichlet([concentration] * len(vocab)) for ids in prefixes}
    return from_table(table(vocab, eos, rows))


class EndlessEngine(TabularEngine):
    """A random table of any depth: the row of a prefix is made from a hash of it when it is first asked for."""

    def __init__(
        self,
        seed: int,
        vocab: Sequence[str],
        eos: Sequence[int] = (),
        concentration: float = 0.5,
        end_mass: float | None = None,
    ) -> None:
        super().__init__(vocab, frozenset(eos), {}, np.zeros(len(vocab)))
        self._seed, self._concentration, self._end_mass = seed, concentration, end_mass
        self._known: dict[tuple[Ids, float, Support], Row] = {}

    def row(self, response: Ids, alpha: float, support: Support) -> Row:
        """The row after a response."""
        place = (response, alpha, support)
        if place not in self._known:
            digest = hashlib.blake2b(struct.pack(f"<{len(response) + 1}q", self._seed, *response), digest_size=8)
            rng = np.random.default_rng(int.from_bytes(digest.digest(), "little"))
            p = rng.dirichlet([self._concentration] * self.info.vocabulary)
            if self._end_mass is not None:
                p[list(self.info.eos_ids)] = self._end_mass
            self._logits[response] = np.log(np.maximum(p, 1e-30))
            self._known[place] = super().row(response, alpha, support)
        return self._known[place]


def decision_positions(count: int) -> list[int]:
    """Where the tree of the specs branches: 2, 5, 8, …"""
    return [2 + 3 * i for i in range(count)]


def tree_engine(
    length: int, positions: Sequence[int], choice: Callable[[Ids], Floats] = lambda prefix: np.array([0.5, 0.5])
) -> TabularEngine:
    """A reasoning tree of `length` forced tokens but for a choice of two at each position."""
    rows: dict[Ids, Floats] = {}
    prefixes: list[Ids] = [()]
    for position in range(length):
        if position in positions:
            rows |= {prefix: choice(prefix) for prefix in prefixes}
            prefixes = [(*prefix, token) for prefix in prefixes for token in (0, 1)]
        else:
            prefixes = [(*prefix, 0) for prefix in prefixes]
    return from_table(table(("0", "1"), (), rows, np.array([1.0, 0.0])))


PLAN, GUESS, CALC, FOUR, FIVE, END = range(6)


def plan_or_guess() -> TabularEngine:
    """The fixture of arXiv 2601.21590 §4.1: planning is less likely at first, and better in the end."""

    def row(**p: float) -> Floats:
        return np.array([p.get(name, 0.0) for name in ("plan", "guess", "calc", "four", "five", "end")])

    rows = {
        (): row(plan=0.4, guess=0.6),
        (PLAN,): row(calc=1.0),
        (PLAN, CALC): row(four=0.95, five=0.05),
        (GUESS,): row(four=0.55, five=0.45),
    }
    return from_table(table(("PLAN ", "GUESS ", "CALC ", "4", "5", "<eos>"), (END,), rows, row(end=1.0)))
