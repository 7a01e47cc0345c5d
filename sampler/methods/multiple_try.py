"""Several tries at one cut: a Metropolis–Hastings step that picks among K fresh suffixes and the current one.

At a cut m ~ c(·|x), K suffixes y_1..y_K are drawn from q independently, as in `power`. With r_j the ratio of y_j
against x as it stands there, cut term included, the next trace is y_j with probability r_j / (1 + Σ_i r_i), and x
with 1 / (1 + Σ_i r_i). Given m and x_<m the target of a suffix y is f(y) ∝ p(y)^α c(m|y), and r_j is f(y_j) q(x) over
f(x) q(y_j): so this picks among K + 1 points by their importance weights f / q, an *ensemble* step with independent
proposals (Tjelmeland 2004; Calderhead 2014; iterated sampling importance resampling, Andrieu, Lee and Vihola 2018).
It is in detailed balance with π. K = 1 is Barker's acceptance r / (1 + r).

Multiple-try Metropolis (Liu, Liang and Wong 2000) would pick among the tries alone and accept with
min(1, W / (W − r_j + 1)), W = Σ r_i. It moves more often for the same tries, but needs every weight, every try whole.

Here the pick is a race: each of the K + 1 has a Gumbel variable G_j, drawn first, and the largest log r_j + G_j wins
(log r_0 = 0). The running bound of `power` is never below log r_j, so a try stops as soon as its bound plus its G_j
is below the best score known: the same winners, for a part of the tokens. The tries with the largest G_j go first.
"""

import math
from collections.abc import Callable, Sequence

from sampler.answer import Answer
from sampler.chain import Chain, ChainTask, Proposed
from sampler.cuts import draw_cut
from sampler.drawing import Drawn
from sampler.engine import Engine, Priority
from sampler.errors import InvalidParams
from sampler.events import Event
from sampler.methods.job import Job
from sampler.methods.parallel import together
from sampler.methods.power_mh import run_chain
from sampler.params import PowerParams
from sampler.power import Bound, start_bound
from sampler.rng import Kind
from sampler.watch import Lost

CURRENT = 0
"""The runner that is the current trace; the tries are 1 to K. Numbers are part of the draw keys."""


def worst_case_tokens(params: PowerParams) -> int:
    """Tokens of a chain whose every step draws all of its tries from the first token on."""
    return params.within_budget(params.max_tokens + params.steps_per_block * params.tries * sum(params.horizons))


async def multiple_try(job: Job) -> Answer:
    """The last trace of a chain with `tries` suffixes at each entropy cut: p^α in the limit of many steps."""
    if getattr(job.params, "mode", "exact") != "exact":
        raise InvalidParams("mode", "the method multiple_try has no paper mode: only the two cut methods do")
    return await run_chain(job, "multiple_try", "entropy", TriesChain)


class TriesChain(Chain):
    """A chain whose steps have several tries."""

    def __init__(self, engine: Engine, task: ChainTask, emit: Callable[[Event], None] | None = None) -> None:
        super().__init__(engine, task, emit)
        # Spare rows go to the tries of this step, which will be needed, and not to later steps, which may not be.
        self._side_by_side, self._depth = self._depth > 0, 0

    async def _propose(self, stage: int, step: int, horizon: int, *ahead: Priority) -> Proposed:
        """Draw the tries, and pick."""
        draws = self.task.draws
        cut = draw_cut(self.trace.log_norm, draws.key(Kind.CUT, stage, step).uniform())
        race = Race([gumbel(draws.key(Kind.ACCEPT, stage, step, j).uniform()) for j in range(self.params.tries + 1)])

        async def run(j: int) -> None:
            key, bound = draws.key(Kind.TOKEN, stage, step, j), start_bound(self.trace, cut)
            race.arrive(j, await self._draw(cut, horizon, key, bound, race.lost(j), *ahead))

        width = max(1, self.engine.room()) if self._side_by_side else 1
        for first in range(0, len(race.order), width):
            await together([run(j) for j in race.order[first : first + width]])
            if race.spent:
                break
        return race.decide(cut)


class Race:
    """Who wins: the largest log r_j + G_j. `gumbels` are those of the current trace and of the tries, shape [K + 1].

    What wins does not depend on the order of arrival: scores are compared as they stand, and whoever stopped early
    had a score below one that arrived.
    """

    def __init__(self, gumbels: Sequence[float]) -> None:
        self.gumbels = gumbels
        self.best, self.winner = gumbels[CURRENT], CURRENT
        self.order = sorted(range(1, len(gumbels)), key=lambda j: -gumbels[j])
        self.spent = False
        self._drawn: dict[int, Drawn] = {}
        self._closest = -math.inf, 0

    def score(self, j: int, bound: Bound) -> float:
        """The largest score that a try with this bound can still have; its own once it is whole. NaN never wins."""
        return -math.inf if math.isnan(bound.value) else bound.value + self.gumbels[j]

    def lost(self, j: int) -> Lost:
        """Whether try j can still win. The best score only rises and the bound only falls, so a loss is final."""
        return lambda bound: bound.value + self.gumbels[j] < self.best

    def arrive(self, j: int, drawn: Drawn) -> None:
        """Try j is whole, has stopped, or was stopped by a budget."""
        self._drawn[j] = drawn
        self.spent = self.spent or drawn.spent is not None
        if drawn.spent is not None or drawn.watcher.rejected:
            return
        assert drawn.watcher.bound is not None
        score = self.score(j, drawn.watcher.bound)
        self._closest = max(self._closest, (score, -j))
        if (score, -j) > (self.best, -self.winner):
            self.best, self.winner = score, j

    def decide(self, cut: int) -> Proposed:
        """The step: the winner, or the try that came closest and the current trace stays.

        `log_u` is what the try had to beat the current trace: it is accepted only if log_u ≤ log r.
        """
        bounds = [drawn.watcher.bound.value for drawn in self._drawn.values() if drawn.watcher.bound is not None]
        shown = self.winner or -self._closest[1] or self.order[0]
        if self.spent:
            shown = next(j for j, drawn in self._drawn.items() if drawn.spent is not None)
        drawn = self._drawn[shown]
        assert drawn.watcher.bound is not None
        return Proposed(
            cut,
            self.gumbels[CURRENT] - self.gumbels[shown],
            drawn,
            None if drawn.watcher.rejected else drawn.watcher.bound.value,
            self.winner != CURRENT,
            any(math.isnan(value) or value == -math.inf for value in bounds),
        )


def gumbel(u: float) -> float:
    """A standard Gumbel variable from a uniform in (0, 1]; −∞ at 1."""
    return -math.log(-math.log1p(-u)) if u < 1.0 else -math.inf
