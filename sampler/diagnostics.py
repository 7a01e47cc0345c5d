"""What a chain's events say of it, and what the chains of one prompt say of each other. Pure functions.

Of one chain: acceptance and the terms of log r by stage, where it cut, and the traces of Σ log p, log π and length.
Of several: R-hat and ESS over the last stage's steps (`sampler.mixing`), and a verdict with its reason.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from sampler.answer import Answer, EndedBy
from sampler.events import Event, Kept, Stepped
from sampler.mixing import ess_bulk, split_r_hat
from sampler.row import Floats

MIN_CHAINS = 4
"""Fewest chains that R-hat is trusted with (arXiv 1903.08008)."""
R_HAT_MAX = 1.01
"""Chains have converged up to here (arXiv 1903.08008) …"""
ESS_PER_CHAIN = 100
"""… if the bulk ESS is at least this times the number of chains, else R-hat itself is not to be trusted."""
CHANCE = 3.0
"""R-hat of independent draws exceeds 1.01 + 3 / steps in under 1 % of the cases; beyond it, chains disagree …"""
MIN_STEPS = 10
"""… if each took at least so many steps; with fewer, chance alone goes further."""
BINS = 32
"""Bars of the histogram of cuts, at most."""


@dataclass(frozen=True, slots=True)
class StageDiagnostics:
    """One stage of one chain. The terms of log r are means in nats, None without a step to average over.

    `power_term` and `cut_term` are of the steps whose log r is known; `power_term_bound` and `cut_term_bound` of those
    rejected early, of which only upper bounds are known.
    """

    stage: int
    steps: int
    accepted: int
    moved: int
    rejected_early: int
    acceptance: float | None
    power_term: float | None
    cut_term: float | None
    power_term_bound: float | None
    cut_term_bound: float | None


@dataclass(frozen=True, slots=True)
class CutHistogram:
    """How often each stretch of `bin_tokens` positions was cut, and the share of cuts at position 0."""

    bin_tokens: int
    counts: tuple[int, ...]
    share_at_zero: float | None


@dataclass(frozen=True, slots=True)
class ChainDiagnostics:
    """One chain. The traces have one value after each step.

    `log_p` Σ log p and `log_pi` log π = α Σ log p up to a constant, in nats over the support; `length` in tokens.
    """

    stages: tuple[StageDiagnostics, ...]
    cuts: CutHistogram
    log_p: tuple[float, ...]
    log_pi: tuple[float, ...]
    length: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Mixing:
    """How well chains mix in one quantity; None where the definition gives no finite number."""

    r_hat: float | None
    ess_bulk: float | None


@dataclass(frozen=True, slots=True)
class ChainsDiagnostics:
    """The chains of one prompt. `steps` of each chain's last stage were compared; `converged` is None if unknown."""

    chains: int
    steps: int
    distinct_answers: int
    log_pi: Mixing
    length: Mixing
    converged: bool | None
    reason: str


def diagnose_chain(events: Iterable[Event], alpha: float, max_tokens: int) -> ChainDiagnostics:
    """The diagnostics of one chain from its events, in order; `max_tokens` is the last horizon."""
    steps = [event for event in events if isinstance(event, Stepped | Kept)]
    log_p = tuple(step.log_p for step in steps)
    return ChainDiagnostics(
        tuple(_stage(list(each)) for _, each in groupby(steps, lambda step: step.stage)),
        _cuts([step.cut for step in steps if isinstance(step, Stepped)], max_tokens),
        log_p,
        tuple(alpha * value for value in log_p),
        tuple(step.length for step in steps),
    )


def diagnose_chains(chains: Sequence[tuple[Answer, ChainDiagnostics]]) -> ChainsDiagnostics:
    """The diagnostics over the chains of one prompt, each with its answer."""
    answers = [answer for answer, _ in chains]
    found = [each for _, each in chains]
    last = [(each.stages[-1].stage, each.stages[-1].steps) if each.stages else (0, 0) for each in found]
    steps = last[0][1]
    if reason := _incomparable(answers, last):
        log_pi = length = np.empty((len(found), 0))
    else:
        log_pi = np.array([each.log_pi[len(each.log_pi) - steps :] for each in found])
        length = np.array([each.length[len(each.length) - steps :] for each in found], dtype=np.float64)
    converged, reason = (None, reason) if reason else verdict(log_pi, length)
    return ChainsDiagnostics(
        len(found),
        log_pi.shape[1],
        len({answer.trace.ids for answer in answers}),
        _mixing(log_pi),
        _mixing(length),
        converged,
        reason,
    )


def verdict(log_pi: Floats, length: Floats) -> tuple[bool | None, str]:
    """Whether chains have converged, and why one says so; from log π and length, shape [chains, steps].

    None: it cannot be told. A False says that chains, as far as they ran, disagree by more than independent draws do,
    a True that they agree and that there are draws enough for it to mean something. No diagnostic sees a mode that no
    chain has found.
    """
    chains, steps = log_pi.shape
    if chains < MIN_CHAINS:
        return None, f"R-hat needs at least {MIN_CHAINS} chains, and there {_are(chains, 'chain')}"
    if steps < MIN_STEPS:
        return (
            None,
            f"R-hat says little of fewer than {MIN_STEPS} steps in the last stage, and there {_are(steps, 'step')}",
        )
    r_hats = [value for value in map(split_r_hat, (log_pi, length)) if not math.isnan(value)]
    if not r_hats:
        return None, "R-hat is undefined: log π and length are the same after every step of every chain"
    worst = max(r_hats)
    if math.isinf(worst):
        return False, "R-hat is infinite: the chains stand still, and not in the same place"
    limit = R_HAT_MAX + CHANCE / steps
    if worst > limit:
        return False, f"R-hat {worst:.3f} is above {limit:.3f}, more than {steps} independent draws show by chance"
    if worst > R_HAT_MAX:
        return None, f"R-hat {worst:.3f} is above {R_HAT_MAX}, as {steps} steps may be by chance: take more steps"
    effective = min(value for value in map(ess_bulk, (log_pi, length)) if not math.isnan(value))
    wanted = ESS_PER_CHAIN * chains
    if effective < wanted:
        return None, f"R-hat {worst:.3f} is low, but of an ESS of {effective:.0f} where {wanted} are needed"
    return True, f"R-hat {worst:.3f} is at most {R_HAT_MAX} with an ESS of {effective:.0f}"


def _are(count: int, what: str) -> str:
    return f"is 1 {what}" if count == 1 else f"are {count}"


def _incomparable(answers: Sequence[Answer], last: Sequence[tuple[int, int]]) -> str:
    """Why the chains' last stages, (number, steps) of each, cannot be laid side by side, or nothing."""
    early = [answer for answer in answers if answer.ended_by is not EndedBy.COMPLETED]
    if early:
        return f"{len(early)} of {len(answers)} chains ended early ({early[0].ended_by}), not all in the same step"
    if len(set(last)) > 1:  # paper mode retires traces, each after its own stage
        return "the chains did not all take their last steps in the same stage, and equally many"
    return ""


def _mixing(draws: Floats) -> Mixing:
    return Mixing(_finite(split_r_hat(draws)), _finite(ess_bulk(draws)))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _stage(steps: Sequence[Stepped | Kept]) -> StageDiagnostics:
    decided = [step for step in steps if isinstance(step, Stepped)]
    known = [step for step in decided if not step.rejected_early]
    lost = [step for step in decided if step.rejected_early]
    accepted = sum(step.accepted for step in decided)
    return StageDiagnostics(
        steps[0].stage,
        len(steps),
        accepted,
        sum(step.moved for step in decided),
        len(lost),
        accepted / len(decided) if decided else None,
        _mean(step.power_term for step in known),
        _mean(step.cut_term for step in known),
        _mean(step.power_term for step in lost),
        _mean(step.cut_term for step in lost),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of the finite values."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else None


def _cuts(cuts: Sequence[int], max_tokens: int) -> CutHistogram:
    width = -(-max_tokens // BINS)
    counts = np.bincount(np.array(cuts, dtype=np.int64) // width, minlength=-(-max_tokens // width))
    return CutHistogram(width, tuple(counts.tolist()), cuts.count(0) / len(cuts) if cuts else None)
