"""How chains behaved where it was measured: what `powercut plan` assumes until told a model's own."""

from dataclasses import dataclass
from math import inf

from service.capacity.tokens import Behaviour, Params


@dataclass(frozen=True, slots=True)
class Seen:
    """A method's figures with early rejection: see `Behaviour`. `free_share_whole` is that of whole proposals."""

    acceptance: float
    remaining: float | None
    lost_after: float
    free_share: float
    free_share_whole: float


SEEN: dict[str, Seen] = {
    "entropy_cut": Seen(0.40, 0.80, 13.0, 0.38, 0.22),
    "uniform_cut": Seen(0.40, None, 13.0, 0.28, 0.16),
    "multiple_try": Seen(0.40, 0.80, 13.0, 0.38, 0.22),
    "tmc": Seen(1.0, None, inf, 0.20, 0.20),
}
"""By method, of SmolLM2-135M at α = 4 on short prompts: savings from docs/speed.md (20 prompts, 256 tokens), acceptance
and cuts between a prototype's (0.29) and those of `python -m tests.bench.plan` (0.56), `lost_after` so that early
rejection leaves 0.62 of the tokens at 128. docs/scale.md says how far predictions from them are off. Draws that run
side by side (`smc`, `best_of_n`) were seen to know nothing of each other in time: the tree saves them nothing."""
NOTHING_SEEN = Seen(1.0, None, inf, 0.0, 0.0)


def behaviour(
    method: str,
    params: Params,
    answer_tokens: float | None = None,
    acceptance: float | None = None,
    remaining: float | None = None,
    lost_after: float | None = None,
    free_share: float | None = None,
    watch_interval: float = 1.0,
) -> Behaviour:
    """The measured behaviour of a method, with what is known better in its place.

    An engine that is asked every `watch_interval` tokens whether to stop draws half as many more in the mean.
    """
    seen = SEEN.get(method, NOTHING_SEEN)
    known_free = seen.free_share if getattr(params, "early_rejection", True) else seen.free_share_whole
    return Behaviour(
        inf if answer_tokens is None else answer_tokens,
        seen.acceptance if acceptance is None else acceptance,
        seen.remaining if remaining is None else remaining,
        (seen.lost_after if lost_after is None else lost_after) + (watch_interval - 1) / 2,
        known_free if free_share is None else free_share,
    )
