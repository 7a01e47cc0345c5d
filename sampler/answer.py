"""What every method returns: the same result type with the same token accounting."""

import enum
from dataclasses import dataclass, replace

from sampler.trace import Trace


class EndedBy(enum.StrEnum):
    """Why a chain stopped. Only COMPLETED answers are draws from the method's law."""

    COMPLETED = "completed"
    DEADLINE = "deadline"
    TOKEN_BUDGET = "token_budget"
    FROZEN = "frozen"


@dataclass(frozen=True, slots=True)
class PowerUsage:
    """Tokens and steps of one chain; sums over chains add field by field.

    `generated_tokens` were drawn by the engine, whatever became of them; `free_tokens` were drawn from rows already
    known; `prefetched_tokens` were drawn ahead and dropped. A step is `accepted` with log u ≤ log r and has `moved`
    if the trace changed. `rejected_early` steps ended before their proposal did; `non_finite` ones had a ratio that is
    not a number or −∞ and were rejected.
    """

    generated_tokens: int = 0
    free_tokens: int = 0
    prefetched_tokens: int = 0
    steps: int = 0
    accepted: int = 0
    moved: int = 0
    rejected_early: int = 0
    non_finite: int = 0

    def plus(self, **counts: int) -> "PowerUsage":
        """This usage with some fields raised."""
        return replace(self, **{name: getattr(self, name) + count for name, count in counts.items()})

    def __add__(self, other: "PowerUsage") -> "PowerUsage":
        return self.plus(**{name: getattr(other, name) for name in PowerUsage.__slots__})


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """One answer: the trace, how far its chain got, and what it cost."""

    method: str
    chain: int
    seed: int
    trace: Trace
    ended_by: EndedBy
    stage: int
    """Stages begun; the trace is a draw of this stage's chain."""
    stages: int
    steps_planned: int
    usage: PowerUsage
    seeded_replay: bool = True
    """Whether the same seed gives the same tokens again."""
    log_evidence: float | None = None
    """log of an estimate of Σ_x p(x)^α over the horizon's traces, in nats, from the methods that have one (`smc`)."""
