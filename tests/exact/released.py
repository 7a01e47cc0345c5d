"""The released code's chain, written down straight from its description: an oracle that shares nothing with `sampler`.

Its stages, its departures (a) to (d) from Metropolis–Hastings and its retiring at an end, as `sampler/paper.py` lists
them. Statistics are kept as they were when a token was drawn. `row(prefix)` is the model: {token: p}.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

Ids = tuple[int, ...]
Uniforms = Callable[[str, int, int, int], float]
"""(cut | accept | token, stage, step or −1, position) → the recorded uniform."""


@dataclass(frozen=True)
class Released:
    """What the code is given."""

    row: Callable[[Ids], dict[int, float]]
    eos: int
    alpha: float
    beta: float
    stages: int
    steps: int
    block: int
    top_k: int
    uniform: bool


class Step(NamedTuple):
    """What one step did."""

    stage: int
    step: int
    cut: int
    proposal: Ids
    log_ratio: float
    accepted: bool
    after: Ids


def kept_row(model: Released, prefix: Ids) -> list[tuple[int, float]]:
    """The top tokens, likeliest first, renormalised."""
    ranked = sorted(model.row(prefix).items(), key=lambda pair: (-pair[1], pair[0]))
    ranked = [(token, p) for token, p in ranked if p > 0][: model.top_k]
    total = sum(p for _, p in ranked)
    return [(token, p / total) for token, p in ranked]


def proposal_row(model: Released, prefix: Ids, barred: bool) -> list[tuple[int, float, float, float]]:
    """(token, log p, log q, H) of every token that can be drawn; a barred end stands if nothing else is left."""
    ranked = kept_row(model, prefix)
    entropy = -sum(p * math.log(p) for _, p in ranked)
    open_ = [pair for pair in ranked if not (barred and pair[0] == model.eos)] or ranked
    total = sum(p**model.alpha for _, p in open_)
    return [(token, math.log(p), model.alpha * math.log(p) - math.log(total), entropy) for token, p in open_]


def drawn(model: Released, prefix: Ids, barred: bool, u: float) -> tuple[int, float, float, float]:
    cells, reached = proposal_row(model, prefix, barred), 0.0
    for cell in cells:
        reached += math.exp(cell[2])
        if u <= reached:
            return cell
    return cells[-1]


def jump_weights(model: Released, entropies: Sequence[float]) -> list[float]:
    before = [0.0, *entropies]
    return [max(0.0, after - previous) ** model.beta for previous, after in zip(before, entropies, strict=False)]


def cut_masses(model: Released, entropies: Sequence[float]) -> list[float]:
    weights = jump_weights(model, entropies)
    if model.uniform or sum(weights) == 0:
        return [1 / len(weights)] * len(weights)
    return [weight / sum(weights) for weight in weights]


def log_of(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def run(model: Released, uniforms: Uniforms) -> tuple[list[Step], Ids, int]:
    """All steps, the answer, and in which stage it was final."""
    x: list[int] = []
    log_p: list[float] = []
    log_q: list[float] = []
    entropy: list[float] = []
    history: list[Step] = []
    stage = 0
    for stage in range(model.stages):
        for _ in range(model.block):
            u = uniforms("token", stage, -1, len(x))
            token, a, b, h = drawn(model, tuple(x), False, u)
            x, log_p, log_q, entropy = [*x, token], [*log_p, a], [*log_q, b], [*entropy, h]
            if token == model.eos:
                break
        for step in range(model.steps):
            n = len(x)
            masses, u = cut_masses(model, entropy), uniforms("cut", stage, step, 0)
            m, reached = 0, masses[0]
            while u > reached and m < n - 1:
                m, reached = m + 1, reached + masses[m + 1]
            y, new_p, new_q, new_h = x[:m], log_p[:m], log_q[:m], entropy[:m]
            while len(y) < n and (len(y) == m or y[-1] != model.eos):  # (a) no longer than the current trace
                u = uniforms("token", stage, step, len(y))
                token, a, b, h = drawn(model, tuple(y), len(y) == m, u)  # (c) no end at the cut
                y, new_p, new_q, new_h = [*y, token], [*new_p, a], [*new_q, b], [*new_h, h]
            end = len(y)  # (b) the current suffix as far as the proposal goes
            log_ratio = model.alpha * (sum(new_p[m:]) - sum(log_p[m:end])) + sum(log_q[m:end]) - sum(new_q[m:])
            if not model.uniform:  # (d) no such term with uniform cuts
                log_ratio += log_of(cut_masses(model, new_h)[m]) - log_of(masses[m])
            accepted = math.log(uniforms("accept", stage, step, 0)) <= log_ratio
            proposal = tuple(y[m:])
            if accepted:
                x, log_p, log_q, entropy = y, new_p, new_q, new_h
            history.append(Step(stage + 1, step + 1, m, proposal, log_ratio, accepted, tuple(x)))
        if x[-1] == model.eos:
            break
    return history, tuple(x), stage + 1


class State(NamedTuple):
    """A trace, and which of its tokens were drawn with the end barred: their log q is another."""

    ids: Ids
    barred: tuple[bool, ...]


class Law:
    """The law of the answer by enumeration."""

    def __init__(self, model: Released) -> None:
        self.model = model
        self._columns: dict[State, tuple[list[float], list[float], list[float]]] = {}
        self._moves: dict[State, dict[State, float]] = {}
        self._cells: dict[tuple[Ids, bool], dict[int, tuple[float, float, float]]] = {}

    def cell(self, prefix: Ids, barred: bool) -> dict[int, tuple[float, float, float]]:
        if (prefix, barred) not in self._cells:
            cells = proposal_row(self.model, prefix, barred)
            self._cells[prefix, barred] = {token: (log_p, log_q, h) for token, log_p, log_q, h in cells}
        return self._cells[prefix, barred]

    def suffixes(self, prefix: Ids, limit: int, barred: bool) -> Iterator[tuple[Ids, float]]:
        """Every suffix of up to `limit` tokens, with its probability under q."""
        if limit == 0 or (prefix and prefix[-1] == self.model.eos):
            yield (), 1.0
            return
        for token, (_, log_q, _) in self.cell(prefix, barred).items():
            for rest, q in self.suffixes((*prefix, token), limit - 1, False):
                yield (token, *rest), math.exp(log_q) * q

    def columns(self, state: State) -> tuple[list[float], list[float], list[float]]:
        """log p, log q and the cut masses of a state."""
        if state not in self._columns:
            cells = [self.cell(state.ids[:t], state.barred[t])[state.ids[t]] for t in range(len(state.ids))]
            masses = cut_masses(self.model, [h for _, _, h in cells])
            self._columns[state] = [a for a, _, _ in cells], [b for _, b, _ in cells], masses
        return self._columns[state]

    def moves(self, state: State) -> dict[State, float]:
        """Where one step leads from a state."""
        model, n, found = self.model, len(state.ids), defaultdict[State, float](float)
        log_p, log_q, masses = self.columns(state)
        for m, mass in enumerate(masses):
            if mass == 0:
                continue
            for suffix, q in self.suffixes(state.ids[:m], n - m, True):
                end = m + len(suffix)
                flags = state.barred[:m] + (True,) + (False,) * (len(suffix) - 1)
                after = State(state.ids[:m] + suffix, flags)
                new_p, new_q, new_masses = self.columns(after)
                log_ratio = model.alpha * (sum(new_p[m:]) - sum(log_p[m:end])) + sum(log_q[m:end]) - sum(new_q[m:])
                if not model.uniform:
                    log_ratio += log_of(new_masses[m]) - log_of(mass)
                accept = math.exp(min(0.0, log_ratio))
                found[after] += mass * q * accept
                found[state] += mass * q * (1 - accept)
        return found

    def answers(self, steps: Sequence[int]) -> list[dict[Ids, float]]:
        """The law of the answer with so many steps in each stage, for each number of `steps`."""
        return [self._staged(number) for number in steps]

    def _staged(self, steps: int) -> dict[Ids, float]:
        model, done = self.model, defaultdict[Ids, float](float)
        law: dict[State, float] = {State((), ()): 1.0}
        for stage in range(model.stages):
            extended = defaultdict[State, float](float)
            for state, mass in law.items():
                for suffix, q in self.suffixes(state.ids, model.block, False):
                    extended[State(state.ids + suffix, state.barred + (False,) * len(suffix))] += mass * q
            law = self._stepped(extended, steps)
            going: dict[State, float] = {}
            for state, mass in law.items():
                if stage == model.stages - 1 or state.ids[-1] == model.eos:
                    done[state.ids] += mass
                else:
                    going[state] = mass
            law = going
        return dict(done)

    def _stepped(self, law: dict[State, float], steps: int) -> dict[State, float]:
        index, waiting = {state: i for i, state in enumerate(law)}, list(law)
        rows, columns, chances = list[int](), list[int](), list[float]()
        for state in waiting:  # grows while it is walked
            if state not in self._moves:
                self._moves[state] = self.moves(state)
            for other, chance in self._moves[state].items():
                if other not in index:
                    index[other] = len(index)
                    waiting.append(other)
                rows.append(index[other])
                columns.append(index[state])
                chances.append(chance)
        matrix = csr_array((chances, (rows, columns)), shape=(len(index), len(index)))
        masses = np.zeros(len(index))
        masses[: len(law)] = list(law.values())
        for _ in range(steps):
            masses = matrix @ masses
        return {state: float(mass) for state, mass in zip(waiting, masses, strict=True)}
