"""Exact laws of chains on tabular models, by enumeration.

Ends, cut laws, cut draws, bounds and acceptance are the sampler's own code, called token by token as an engine calls
it; only the sums over traces are made here. Names are looked up in `sampler.chain` at each call, so that a mutant
patched in there is the code under test.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

import sampler.chain as chain_module
from sampler.chain import Chain, ChainTask
from sampler.cuts import cut_law
from sampler.engine import Support
from sampler.engines.tabular import TabularEngine
from sampler.params import PowerParams
from sampler.power import is_lost
from sampler.rng import Draws
from sampler.row import Floats, Row
from sampler.trace import Token, Trace, empty_trace
from sampler.watch import Watcher

Ids = tuple[int, ...]
NEVER = math.log(2.0**-53)
"""log of the smallest uniform there is: a proposal refused here is always refused."""


@dataclass(eq=False)
class Case:
    """A model and the parameters of the chain on it."""

    engine: TabularEngine
    params: PowerParams
    cut: str = "entropy"
    rows: dict[Ids, Row] = field(default_factory=dict)

    def chain(self) -> Chain:
        """A chain of this case, to borrow the sampler's own functions from."""
        law = cut_law(self.cut, self.params.cut_power)
        return Chain(self.engine, ChainTask((0,), self.params, law, Draws(0, b"")))

    def row(self, prefix: Ids) -> Row:
        """The row after a response prefix."""
        if prefix not in self.rows:
            self.rows[prefix] = self.engine.row(prefix, self.params.alpha, Support.of(self.params.top_k))
        return self.rows[prefix]

    def tokens(self, prefix: Ids) -> list[Token]:
        """Every token that may follow a prefix, with its row's statistics."""
        row = self.row(prefix)
        found = [(int(row.ids[i]), row.log_p(i)) for i in range(row.size)]
        return [Token(token, log_p, row.log_z, row.entropy, row.log_mass) for token, log_p in found]


class Space:
    """The states of one stage: all traces that end by `horizon`, and those of that length that do not."""

    def __init__(self, case: Case, horizon: int) -> None:
        self.case, self.horizon = case, horizon
        self.chain = case.chain()
        self.traces: list[Trace] = []
        self.tokens: list[list[Token]] = []
        self._enumerate()
        self.index = {trace.ids: i for i, trace in enumerate(self.traces)}
        self.below: dict[Ids, list[int]] = defaultdict(list)
        for i, trace in enumerate(self.traces):
            for cut in range(len(trace)):
                self.below[trace.ids[:cut]].append(i)
        log_q = [case.params.alpha * trace.log_p - trace.log_z for trace in self.traces]
        self.q_suffix = [np.exp(np.append(np.cumsum(row[::-1])[::-1], 0.0)) for row in log_q]
        """q_suffix[i][m] = q(x_≥m | x_<m) of trace i."""

    def _enumerate(self) -> None:
        stack: list[list[Token]] = [[]]
        while stack:
            kept = stack.pop()
            for token in self.case.tokens(tuple(t.id for t in kept)):
                tokens = [*kept, token]
                self.chain.trace = empty_trace()
                watcher = self.chain._watcher(0, self.horizon)
                watcher(tokens)
                if watcher.end is None:
                    stack.append(tokens)
                    continue
                self.traces.append(
                    empty_trace().spliced(0, tokens, watcher.log_weight, watcher.log_norm, watcher.end),
                )
                self.tokens.append(tokens)

    @property
    def target(self) -> Floats:
        """π ∝ p^α over the support."""
        log_pi = np.array([self.case.params.alpha * trace.log_p.sum() for trace in self.traces])
        weights = np.exp(log_pi - log_pi.max())
        return weights / weights.sum()


def cut_masses(trace: Trace) -> Floats:
    """c(m|x) as the lengths of the intervals of u that the real draw maps to m, found by bisection."""
    edges = [0.0]
    for cut in range(len(trace)):
        low, high = 0.0, 1.0
        if chain_module.draw_cut(trace.log_norm, 1.0) <= cut:
            edges.append(1.0)
            continue
        for _ in range(55):
            middle = (low + high) / 2
            if chain_module.draw_cut(trace.log_norm, middle) <= cut:
                low = middle
            else:
                high = middle
        edges.append(low)
    return np.diff(edges)


def propose(chain: Chain, trace: Trace, cut: int, tokens: Sequence[Token], horizon: int, log_u: float) -> Watcher:
    """Feed a proposal's tokens to the real watcher of a step, one by one, until it has had enough."""
    chain.trace = trace
    watcher = chain._watcher(cut, horizon - cut, chain_module.start_bound(trace, cut), partial(is_lost, log_u=log_u))
    for token in tokens:
        if watcher([token]) is not None:
            break
    return watcher


def decide(chain: Chain, trace: Trace, cut: int, tokens: Sequence[Token], horizon: int, log_u: float) -> bool:
    """Whether a step accepts: the real watcher's verdict, then the real test."""
    watcher = propose(chain, trace, cut, tokens, horizon, log_u)
    assert watcher.bound is not None
    return not watcher.rejected and chain_module.accepts(watcher.bound.value, log_u)


def bounds_along(chain: Chain, trace: Trace, cut: int, tokens: Sequence[Token], horizon: int) -> list[float]:
    """bound_t after each token of a proposal that nothing rejects."""
    chain.trace = trace
    watcher = chain._watcher(cut, horizon - cut, chain_module.start_bound(trace, cut))
    values: list[float] = []
    for token in tokens:
        assert watcher.end is None, "a proposal ended before the trace it builds"
        watcher([token])
        assert watcher.bound is not None
        values.append(watcher.bound.value)
    assert watcher.end is not None, "a proposal did not end where the trace it builds ends"
    return values


def acceptance(space: Space, i: int, cut: int, j: int, *, verify: bool = True) -> float:
    """The probability over u that the step from trace i, cut at `cut`, accepts the suffix of trace j.

    With `verify` it is read off the decisions themselves: accepted at the threshold, refused one float above it.
    """
    trace, tokens = space.traces[i], space.tokens[j][cut:]
    values = bounds_along(space.chain, trace, cut, tokens, space.horizon)
    early = space.case.params.early_rejection and space.case.params.alpha >= 1
    threshold = min(0.0, min(values) if early else values[-1])
    if not verify:
        return math.exp(threshold)

    def accepted(log_u: float) -> bool:
        return decide(space.chain, trace, cut, tokens, space.horizon, log_u)

    if threshold == 0.0 and accepted(0.0):
        return 1.0
    if threshold < 0.0 and accepted(threshold):
        assert not accepted(math.nextafter(threshold, math.inf)), "accepted above the threshold"
        return math.exp(threshold)
    assert not accepted(NEVER), "neither always, never, nor up to the threshold"
    return 0.0


def transition_matrix(space: Space, *, verify: bool = True) -> Floats:
    """P[x, y] of one step of the stage, shape [traces, traces]."""
    matrix = np.zeros((len(space.traces), len(space.traces)))
    for i, trace in enumerate(space.traces):
        if trace.total_log_norm == -np.inf:
            matrix[i, i] = 1.0
            continue
        for cut, mass in enumerate(cut_masses(trace)):
            if mass == 0:
                continue
            for j in space.below[trace.ids[:cut]]:
                weight = mass * space.q_suffix[j][cut]
                accept = acceptance(space, i, cut, j, verify=verify)
                matrix[i, j] += weight * accept
                matrix[i, i] += weight * (1 - accept)
    return matrix


def extension_matrix(before: Space | None, after: Space) -> Floats:
    """E[x, y] of the draw by q from one stage to the next; from the empty trace for `before` None."""
    starts = before.traces if before else [empty_trace()]
    matrix = np.zeros((len(starts), len(after.traces)))
    for i, trace in enumerate(starts):
        if trace.finished or len(trace) == after.horizon:
            matrix[i, after.index[trace.ids]] = 1.0
            continue
        for j in after.below[trace.ids]:
            matrix[i, j] = after.q_suffix[j][len(trace)]
    return matrix


class StagedChain:
    """The whole chain of a case: spaces, extensions and transition matrices of all its stages."""

    def __init__(self, case: Case, *, verify: bool = True) -> None:
        self.spaces = [Space(case, horizon) for horizon in case.params.horizons]
        self.extensions = [
            extension_matrix(before, after)
            for before, after in zip([None, *self.spaces[:-1]], self.spaces, strict=True)
        ]
        self.matrices = [transition_matrix(space, verify=verify) for space in self.spaces]

    @property
    def last(self) -> Space:
        """The states an answer is drawn from."""
        return self.spaces[-1]

    def law(self, steps: int) -> Floats:
        """The law of the answer after `steps` steps in each stage."""
        law = np.ones(1)
        for extension, matrix in zip(self.extensions, self.matrices, strict=True):
            law = law @ extension @ np.linalg.matrix_power(matrix, steps)
        return law


def total_variation(a: Floats, b: Floats) -> float:
    """½ Σ |a − b|."""
    return 0.5 * float(np.abs(a - b).sum())


def is_irreducible(matrix: Floats) -> bool:
    """Whether every state can reach every other."""
    return connected_components(csr_array(matrix > 0), connection="strong")[0] == 1
