"""Learning a halfspace {x : w·x ≥ b} from positives and membership queries: rounds of location and compression.

Derived from the point location of Hopkins, Kane, Lovett and Mahajan 2020; not the paper's text. Points are lifted to
y = (x, 1). In isotropic position the mean m of positives is a direction well inside, known without any query; for each
e of a basis of its complement, bisection finds where e + τm turns positive. What these brackets imply positive is
certified and removed; the next round takes the rest. 2D ln n rounds are enough, and 2 to 4 do in practice.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.analysis.positive_query_learning.dialogue import Dialogue, OutOfQueries
from service.analysis.positive_query_learning.exact import lift
from service.analysis.positive_query_learning.isotropic import Frame, Matrix, position

FARTHEST = 2.0**12
"""τ beyond which a bracket is given up: the positives lie on the boundary, or in a narrow cone."""
FLAT = 1e-9
SLACK = 1e-11


@dataclass
class Round:
    """A region that its brackets certify.

    Attributes:
        frame: Coordinates.
        center: m, k.
        across: k × (k−1): a basis of m's complement.
        low: e + low·m is negative, or −(e + low·m) positive; −∞ if unknown.
        high: e + high·m is positive; +∞ if unknown.
        kept: Rows of the sample that were looked at.
        queries: How many it asked.
        certified: Sample points that it certified first.
    """

    frame: Frame
    center: NDArray[np.float64]
    across: Matrix
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    kept: NDArray[np.intp]
    queries: int = 0
    certified: int = 0

    def accepts(self, lifted: Matrix) -> NDArray[np.bool_]:
        """⟨z, m⟩ − Σ_{c>0} c·high − Σ_{c<0} c·low > 0, c = ⟨z, e⟩, in float64."""
        z = lifted @ self.frame.forward.T
        lengths = np.linalg.norm(z, axis=1)
        c = z @ self.across
        with np.errstate(invalid="ignore"):
            needed = np.where(c > 0, c * self.high, np.where(c < 0, c * self.low, 0.0)).sum(axis=1)
        return (z @ self.center - needed > SLACK * lengths) & (lengths > 0) & self.frame.holds(lifted)


@dataclass
class Learned:
    """What the rounds found.

    Attributes:
        rounds: In order.
        kept: Rows of the sample that the certificates may use.
        rest: Sample points that no round certified, if a budget ended.
    """

    rounds: list[Round] = field(default_factory=list)
    rest: int = 0
    budget_ended: bool = False

    @property
    def kept(self) -> NDArray[np.intp]:
        """Rows of the sample that the rounds looked at."""
        return np.unique(np.concatenate([one.kept for one in self.rounds])) if self.rounds else np.zeros(0, np.intp)

    def accepts(self, points: Matrix) -> NDArray[np.bool_]:
        """The fast test, in float64: may err on points exactly at the boundary."""
        lifted, found = lift(points), np.zeros(len(points), bool)
        for one in self.rounds:
            found |= one.accepts(lifted)
        return found


def learn(
    positives: Matrix,
    dialogue: Dialogue,
    rng: np.random.Generator,
    *,
    subsample: int,
    width: float,
    max_rounds: int,
    learned: Learned,
    report: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Ask until every positive is certified or a budget ends; fills `learned`, so that it survives a missing answer.

    Args:
        positives: n × d.
        dialogue: Answers queries.
        rng: Of subsamples only.
        subsample: Most points of a round.
        width: At which bisection stops.
        max_rounds: At most.
        learned: Filled round by round.
        report: Told the certified share.
    """
    lifted = lift(positives)
    rest = np.arange(len(lifted))
    while len(rest) and len(learned.rounds) < max_rounds:
        report(1 - len(rest) / len(lifted))
        kept = rest if len(rest) <= subsample else np.sort(rng.choice(rest, subsample, replace=False))
        before = len(dialogue.asked)
        try:
            one = locate(lifted, kept, dialogue, width)
        except OutOfQueries:
            learned.budget_ended = True
            break
        certified = one.accepts(lifted[rest])
        if not certified.any():  # a hard sample: its first point certifies itself
            one = single(lifted, rest[:1])
            certified = np.arange(len(rest)) == 0
        one.queries, one.certified = len(dialogue.asked) - before, int(certified.sum())
        learned.rounds.append(one)
        rest = rest[~certified]
    learned.rest = len(rest)


def single(lifted: Matrix, kept: NDArray[np.intp]) -> Round:
    """The round of one point, which needs no query."""
    nothing = np.zeros(0)
    frame = position(lifted[kept])
    center = frame.forward @ lifted[kept[0]]
    return Round(frame, center / np.linalg.norm(center), np.zeros((1, 0)), nothing, nothing, kept)


def locate(lifted: Matrix, kept: NDArray[np.intp], dialogue: Dialogue, width: float) -> Round:
    """One round's brackets."""
    frame = position(lifted[kept])
    inside = kept[frame.holds(lifted[kept])]
    z = lifted[inside] @ frame.forward.T
    center = (z / np.linalg.norm(z, axis=1, keepdims=True)).mean(axis=0)
    center = center / np.linalg.norm(center)
    across = np.linalg.svd(center[:, None], full_matrices=True)[0][:, 1:]
    low, high = bracket(frame, center, across, dialogue, width)
    return Round(frame, center, across, low, high, kept)


def bracket(
    frame: Frame, center: NDArray[np.float64], across: Matrix, dialogue: Dialogue, width: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each column e of `across`, where e + τ·center turns positive: all bisections side by side."""
    size = across.shape[1]
    low, high = np.full(size, -math.inf), np.full(size, math.inf)
    while True:
        taus = {j: next_tau(float(low[j]), float(high[j])) for j in range(size) if high[j] - low[j] > width}
        taus = {j: tau for j, tau in taus.items() if abs(tau) <= FARTHEST}
        if not taus:
            break
        labels, used = _label(frame, center, across, taus, dialogue, width)
        for j, label in labels.items():
            (high if label else low)[j] = used[j]
    flat = [j for j in range(size) if math.isinf(low[j]) and np.isfinite(high[j])]
    if flat:  # never negative: the positives may lie on the boundary, and then −e is positive too
        labels, _ = _label(frame, center, -across, dict.fromkeys(flat, 0.0), dialogue, width)
        for j, label in labels.items():
            low[j] = 0.0 if label else -math.inf
    return low, high


def next_tau(low: float, high: float) -> float:
    """0, then doubling until both ends are known, then the middle."""
    if math.isinf(low) and math.isinf(high):
        return 0.0
    if math.isinf(high):
        return 2 * low if low >= 1 else max(1.0, low + 1)
    if math.isinf(low):
        return 2 * high if high <= -1 else min(-1.0, high - 1)
    return (low + high) / 2


def _label(
    frame: Frame,
    center: NDArray[np.float64],
    across: Matrix,
    taus: dict[int, float],
    dialogue: Dialogue,
    width: float,
) -> tuple[dict[int, bool], dict[int, float]]:
    """Labels of lifted directions e_j + τ_j·center, asked as points: (z, t) as z/t, negated if t < 0."""
    points: list[list[float] | int] = []
    negated: dict[int, bool] = {}
    used: dict[int, float] = {}
    for j, asked in taus.items():
        direction, tau = frame.back @ (across[:, j] + asked * center), asked
        if abs(direction[-1]) <= FLAT * np.abs(direction[:-1]).max(initial=0.0):  # at infinity: nudge it
            tau = asked + width / 8
            direction = frame.back @ (across[:, j] + tau * center)
        last = direction[-1] or FLAT * float(np.abs(direction).max())
        points.append((direction[:-1] / last).tolist())
        negated[j], used[j] = last < 0, tau
    answers = dialogue.ask(points)
    return {j: one.label != negated[j] for j, one in zip(taus, answers, strict=True)}, used
