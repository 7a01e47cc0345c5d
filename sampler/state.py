"""A chain's state between stages, as plain data: enough to go on elsewhere and give the same tokens."""

from dataclasses import asdict, dataclass

from sampler.answer import PowerUsage
from sampler.cuts import CutLaw, CutState, advance
from sampler.trace import End, Token, Trace, empty_trace


@dataclass(frozen=True, slots=True)
class ChainState:
    """A chain after `stage` finished stages, as plain data: everything needed to go on, in JSON's types.

    The cut law's values are not stored: they follow from `entropy`, bit for bit.
    """

    stage: int
    ids: list[int]
    log_p: list[float]
    log_z: list[float]
    entropy: list[float]
    log_mass: list[float]
    end: str
    usage: dict[str, int]


def save(trace: Trace, stage: int, usage: PowerUsage) -> ChainState:
    """A finished stage as plain data."""
    return ChainState(
        stage,
        list(trace.ids),
        trace.log_p.tolist(),
        trace.log_z.tolist(),
        trace.entropy.tolist(),
        trace.log_mass.tolist(),
        str(trace.end),
        asdict(usage),
    )


def restore(state: ChainState, law: CutLaw) -> Trace:
    """The trace of a saved stage, its cut-law values recomputed."""
    tokens = [
        Token(*values)
        for values in zip(state.ids, state.log_p, state.log_z, state.entropy, state.log_mass, strict=True)
    ]
    cuts: list[CutState] = []
    for token in tokens:
        cuts.append(advance(law, cuts[-1] if cuts else CutState(), token.entropy))
    weights, norms = [cut.log_weight for cut in cuts], [cut.log_norm for cut in cuts]
    return empty_trace().spliced(0, tokens, weights, norms, End(state.end))
