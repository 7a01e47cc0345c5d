"""What must hold, as functions: the passing tests call them on the sampler, the mutant tests on a broken one."""

import asyncio
import itertools
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
from scipy.stats import chi2

from sampler.chain import Chain, ChainResult, ChainTask
from sampler.cuts import cut_law
from sampler.engine import Engine, Request
from sampler.engines.tabular import TabularEngine
from sampler.events import Event, Stepped
from sampler.params import PowerParams
from sampler.power import log_uniform
from sampler.rng import Draws, Kind, prompt_digest
from sampler.trace import Segment, Token, Trace
from tests.exact.engines import Wrapped
from tests.exact.enumeration import (
    Case,
    Ids,
    Space,
    StagedChain,
    bounds_along,
    cut_masses,
    decide,
    is_irreducible,
    propose,
    total_variation,
    transition_matrix,
)

TOLERANCE = 1e-12


def check_kernel(case: Case) -> None:
    """In every stage the step leaves p^α invariant, in detailed balance, and reaches every trace."""
    for horizon in case.params.horizons:
        space = Space(case, horizon)
        matrix = transition_matrix(space)
        pi = space.target
        assert np.allclose(matrix.sum(axis=1), 1.0, rtol=0, atol=TOLERANCE), "a row of P does not sum to 1"
        flow = pi[:, None] * matrix
        assert np.abs(pi @ matrix - pi).max() <= TOLERANCE, "P does not leave p^α invariant"
        assert np.abs(flow - flow.T).max() <= TOLERANCE, "P is not in detailed balance with p^α"
        assert is_irreducible(matrix), "some trace cannot be reached"


def check_limit(case: Case, steps: int = 1 << 16) -> None:
    """The law of the whole staged chain goes to p^α."""
    staged = StagedChain(case, verify=False)
    assert total_variation(staged.law(steps), staged.last.target) < 1e-6, "the chain converges to something else"


def check_cut_draws(space: Space) -> None:
    """The draw's intervals of u have the lengths w_m / Z."""
    for trace in space.traces:
        if trace.total_log_norm > -np.inf:
            masses = np.exp(trace.log_weight - trace.total_log_norm)
            assert np.abs(cut_masses(trace) - masses).max() <= TOLERANCE, "a cut is not drawn with its own weight"


def check_stops_at_first_lost_row(space: Space, quantile: float = 0.5) -> int:
    """A proposal ends at the first row whose bound is below log u, with exactly its tokens; returns how many did."""
    stopped = 0
    for i, trace in enumerate(space.traces):
        for cut in range(len(trace)):
            for j in space.below[trace.ids[:cut]]:
                tokens = space.tokens[j][cut:]
                values = bounds_along(space.chain, trace, cut, tokens, space.horizon)
                assert all(a >= b for a, b in itertools.pairwise(values)), "the bound rose"
                if values[-1] >= 0:
                    continue
                log_u = values[-1] * quantile
                first = next(t for t, value in enumerate(values) if value < log_u)
                watcher = propose(space.chain, trace, cut, tokens, space.horizon, log_u)
                assert watcher.rejected, f"proposal {j} from {i} was not rejected"
                assert len(watcher.tokens) == first + 1, "rejected, but not at the first lost row"
                stopped += first + 1 < len(tokens)
    return stopped


def check_prompts_share_no_draws() -> None:
    """One seed on two prompts gives unrelated uniforms."""
    one, two = (Draws(7, prompt_digest(ids)) for ids in ((0, 1), (1, 0)))
    keys = [(kind, stage, step) for kind in Kind for stage in range(4) for step in range(-1, 8)]
    a, b = ([draws.key(*key).uniform(t) for key in keys for t in range(20)] for draws in (one, two))
    assert not set(a) & set(b), "two prompts share uniforms"
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / math.sqrt(len(a)), "two prompts' uniforms correlate"


def run(coroutine: Coroutine[Any, Any, ChainResult]) -> ChainResult:
    """Run one chain to its end."""
    return asyncio.run(coroutine)


def make_chain(
    engine: Engine,
    params: PowerParams,
    seed: int = 0,
    cut: str = "entropy",
    emit: Callable[[Event], None] | None = None,
    prompt: Ids = (0,),
) -> Chain:
    """The real chain on an engine."""
    draws = Draws(seed, prompt_digest(prompt))
    return Chain(engine, ChainTask(prompt, params, cut_law(cut, params.cut_power), draws), emit)


def run_steps(
    engine: Engine, params: PowerParams, seed: int = 0, cut: str = "entropy"
) -> tuple[ChainResult, list[Stepped]]:
    """Run a chain from the start; also its steps."""
    events: list[Event] = []
    result = run(make_chain(engine, params, seed, cut, events.append).run())
    return result, [event for event in events if isinstance(event, Stepped)]


def same_trace(a: Trace, b: Trace) -> bool:
    """Whether two traces are equal bit for bit."""
    columns = ("log_p", "log_z", "entropy", "log_mass", "log_weight", "log_norm")
    return (a.ids, a.end) == (b.ids, b.end) and all(np.array_equal(getattr(a, c), getattr(b, c)) for c in columns)


def check_same_path(engine: Engine, other: Engine, params: PowerParams, seed: int, cut: str = "entropy") -> None:
    """Two engines of one model, one of them unsteady, give the same trace and the same decisions."""
    steady, steps = run_steps(engine, params, seed, cut)
    flaky, again = run_steps(other, params, seed, cut)
    assert same_trace(steady.trace, flaky.trace), "the traces differ"
    decisions, repeated = ([(s.cut, s.accepted, s.moved, s.log_p) for s in each] for each in (steps, again))
    assert decisions == repeated, "the decisions differ"


def chi_square_p(counts: np.ndarray, law: np.ndarray) -> float:
    """The p-value of counts under a law; cells that expect fewer than 5 are taken together."""
    expected = law * counts.sum()
    assert not counts[law == 0].any(), "a trace that the law excludes was drawn"
    small = expected < 5
    observed = np.append(counts[~small], counts[small].sum())
    wanted = np.append(expected[~small], expected[small].sum())
    if wanted[-1] < 5:  # still too few: leave the rest to the largest cell
        big = int(np.argmax(wanted[:-1]))
        observed[big] += observed[-1]
        wanted[big] += wanted[-1]
        observed, wanted = observed[:-1], wanted[:-1]
    return float(chi2.sf(((observed - wanted) ** 2 / wanted).sum(), len(wanted) - 1))


def empirical_law(case: Case, chains: int, first_seed: int = 0) -> tuple[np.ndarray, Space]:
    """How often the real chain, run from its start, ends in each trace."""
    space = Space(case, case.params.horizons[-1])
    counts = np.zeros(len(space.traces))

    async def all_chains() -> None:
        for seed in range(first_seed, first_seed + chains):
            chain = make_chain(case.engine, case.params, seed, case.cut)
            counts[space.index[(await chain.run()).trace.ids]] += 1

    asyncio.run(all_chains())
    return counts, space


def check_edges_agree(early: Chain, plain: Chain, trace: Trace, cut: int, tokens: Sequence[Token], horizon: int) -> int:
    """At u around exp(log r), the early-rejecting and the plain watcher decide alike; returns decisions made."""
    log_ratio = bounds_along(plain, trace, cut, tokens, horizon)[-1]
    u = math.exp(min(log_ratio, 0.0))
    edges = [math.nextafter(log_ratio, -math.inf), log_ratio, math.nextafter(log_ratio, math.inf)]
    around = (u, math.nextafter(u, 2.0), math.nextafter(u, 0.0), math.nextafter(math.nextafter(u, 0.0), 0.0))
    edges = [edge for edge in edges if edge <= 0] + [log_uniform(edge) for edge in around if 0 < edge <= 1]
    for log_u in edges:
        verdicts = {decide(chain, trace, cut, tokens, horizon, log_u) for chain in (early, plain)}
        assert len(verdicts) == 1, f"early rejection changed a decision at log u = {log_u!r}"
    return len(edges)


def check_kinds_share_no_draws() -> None:
    """Cut, accept and token uniforms of one step are different numbers, and so are those of its neighbours."""
    draws = Draws(7, prompt_digest((0,)))
    keys = [draws.key(kind, stage, step) for kind in Kind for stage in range(3) for step in range(-1, 4)]
    uniforms = [key.uniform(position) for key in keys for position in range(20)]
    assert len(set(uniforms)) == len(uniforms), "two decisions share a uniform"


def check_every_call_has_its_own_key(engine: TabularEngine, params: PowerParams) -> None:
    """No two engine calls of a chain draw with the same key, the extensions included."""
    digests: list[bytes] = []

    class Recording(Wrapped):
        async def propose(self, request: Request) -> Segment:
            digests.append(request.key.digest)
            return await super().propose(request)

    run(make_chain(Recording(engine), params).run())
    assert len(digests) > len(params.horizons)
    assert len(set(digests)) == len(digests), "two engine calls share their draws"
