"""What a chain tells whoever watches it: plain data, one event at a time."""

from dataclasses import dataclass, field

from sampler.row import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """The rows that an event's tokens were drawn from: arrays of shape [tokens], in nats over the support.

    Row t is the law that token t was drawn from, so `entropy` is what was unknown before the token was there.
    """

    log_p: Floats
    log_z: Floats
    entropy: Floats


@dataclass(frozen=True, slots=True)
class Extended:
    """An unfinished trace was extended to its stage's horizon, or to its end, or as far as a budget let it."""

    chain: int
    stage: int
    stages: int
    ids: tuple[int, ...]
    finished: bool
    generated_tokens: int
    statistics: Statistics | None = field(default=None, compare=False, repr=False)
    """Of the tokens that were drawn now, the last of `ids`, if the job asks for it (`Job.tell_statistics`)."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """A Metropolis–Hastings step was decided. `log_ratio` is None where the step stopped before it was known."""

    chain: int
    stage: int
    stages: int
    step: int
    cut: int
    proposal: tuple[int, ...]
    log_ratio: float | None
    log_u: float
    accepted: bool
    moved: bool
    rejected_early: bool
    log_p: float
    """Σ log p of the trace after the step, nats over the support."""
    length: int
    generated_tokens: int
    power_term: float | None = None
    """Σ_{t>m} ℓ(x') − Σ_{t>m} ℓ(x), nats: the part of log r that the power distribution makes. Where the step was
    rejected early, its value at the row that lost, which the whole proposal could only have lowered. In paper mode the
    power term and the proposal term of that mode's ratio together."""
    cut_term: float | None = None
    """log Z(x) − log Z(x'), nats: the part of log r that the cut law makes; an upper bound in the same way."""
    statistics: Statistics | None = field(default=None, compare=False, repr=False)
    """Of the proposal's tokens, if the job asks for it (`Job.tell_statistics`)."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A step that had nothing to redraw: no position can be cut, since this is the only trace there is."""

    chain: int
    stage: int
    stages: int
    step: int
    log_p: float
    length: int
    generated_tokens: int


Event = Extended | Stepped | Kept
