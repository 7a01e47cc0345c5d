"""Are entropy jumps decision points? Redraw the rest of an answer at jumps and elsewhere, and compare how it diverges.

Per problem: an answer is drawn, its positions are ranked by the jump Δ_t = max(0, H_t − H_{t−1}), some are taken from
the top and from the bottom tenth, and the rest is redrawn several times from each. If jumps are decisions, what is
redrawn at them differs more: in tokens, by mean normalised edit distance, and in final answers, by the share of
distinct ones.

Over HTTP alone. H_t is that of the k likeliest tokens that the server reports (`logprobs`), renormalised: an
approximation whose missing mass is in the result. Prefixes go as token ids where the server gives these (`/tokenize`,
and `choices[].power.token_ids`), else as text, which the server may cut into other tokens at the seam.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evals.client import Client, Reply
from evals.statistics.resampling import Floats

TOP, BOTTOM = "top", "bottom"


@dataclass(frozen=True, slots=True)
class Probe:
    """How divergence is measured; the defaults are the published ones.

    Attributes:
        positions: Positions from each of the two tenths.
        resamples: Times that the rest is redrawn from each position.
        suffix_tokens: Longest redrawn rest.
        share: The share of positions that make top and bottom.
        margin: The share of positions left out at either end.
        gap: Fewest tokens between two positions of one group.
        alternatives: Tokens whose log-probabilities are asked for at each position.
        alpha: Exponent of the redraws: low temperature, as a chain's proposals are drawn. 0: plain sampling, for
            servers that have no `power`.
    """

    positions: int = 5
    resamples: int = 16
    suffix_tokens: int = 192
    share: float = 0.1
    margin: float = 0.05
    gap: int = 10
    alternatives: int = 20
    alpha: float = 4.0


@dataclass(frozen=True, slots=True)
class Trace:
    """An answer with what is known of each position.

    Attributes:
        text: The answer.
        offsets: Where each token's text begins.
        ids: Its tokens' ids, None where the server does not give them.
        entropies: H_t in nats over the reported tokens, renormalised.
        mass: Probability of the reported tokens together, before.
    """

    text: str
    offsets: Sequence[int]
    ids: Sequence[int] | None
    entropies: Floats
    mass: Floats

    @property
    def jumps(self) -> Floats:
        """Δ_t, with H_{−1} = 0."""
        return np.maximum(0.0, np.diff(self.entropies, prepend=0.0))


def read_trace(reply: Reply) -> Trace:
    """The trace in a completion's log-probabilities.

    Raises:
        ValueError: The server gave none.
    """
    found = reply.choice.get("logprobs") or {}
    tops = found.get("top_logprobs")
    if tops is None:
        raise ValueError("the server gave no top_logprobs; entropies cannot be known without")
    values = [[v for v in (top or {}).values() if v is not None] for top in tops]
    masses = np.array([math.fsum(map(math.exp, each)) for each in values])
    entropies = np.array([entropy(each, mass) for each, mass in zip(values, masses, strict=True)])
    ids = (reply.choice.get("power") or {}).get("token_ids")
    return Trace(reply.text, found["text_offset"], ids, entropies, masses)


def entropy(log_p: Sequence[float], mass: float) -> float:
    """Entropy in nats of log-probabilities whose mass is brought to one."""
    return math.fsum(-math.exp(each) / mass * (each - math.log(mass)) for each in log_p) if mass > 0 else 0.0


def choose(jumps: Floats, probe: Probe, rng: np.random.Generator) -> dict[str, list[int]]:
    """Positions from the top and the bottom tenth of the jumps, in random order and apart from each other.

    Ties, of which there are many at Δ = 0, are broken at random: the bottom tenth is then a random part of them.
    """
    count = len(jumps)
    inner = np.arange(math.ceil(count * probe.margin), math.floor(count * (1 - probe.margin)))
    ranked = inner[np.lexsort((rng.random(len(inner)), jumps[inner]))]
    size = math.ceil(len(inner) * probe.share)
    if 2 * size > len(inner):
        return {TOP: [], BOTTOM: []}
    return {
        TOP: apart(rng.permutation(ranked[len(ranked) - size :]), probe),
        BOTTOM: apart(rng.permutation(ranked[:size]), probe),
    }


def apart(positions: Sequence[int] | np.ndarray[Any, Any], probe: Probe) -> list[int]:
    """As many as wanted, each far enough from those before it."""
    found: list[int] = []
    for position in map(int, positions):
        if len(found) < probe.positions and all(abs(position - other) >= probe.gap for other in found):
            found.append(position)
    return sorted(found)


def redraw_body(
    model: str, prompt: str | list[int], stops: Sequence[str], probe: Probe, seed: int, longest: int
) -> dict[str, Any]:
    """The request that redraws the rest from a prefix."""
    body: dict[str, Any] = {"model": model, "prompt": prompt, "n": probe.resamples, "seed": seed, "max_tokens": longest}
    if stops:
        body["stop"] = list(stops)
    if probe.alpha:
        body["power"] = {"method": "low_temperature", "alpha": probe.alpha}
    return body


async def prompt_ids(client: Client, model: str, prompt: str, trace: Trace, reply: Reply) -> list[int] | None:
    """The prompt's token ids, if prefixes can be sent as ids: the server tells both, and counts the prompt alike."""
    if trace.ids is None:
        return None
    ids = await client.tokenize(model, prompt)
    return ids if ids is not None and len(ids) == reply.prompt_tokens else None


def prefix(prompt: str, ids: list[int] | None, trace: Trace, position: int) -> str | list[int]:
    """Prompt and answer up to a position."""
    if ids is not None and trace.ids is not None:
        return [*ids, *trace.ids[:position]]
    return prompt + trace.text[: trace.offsets[position]]


def sequence(choice: Mapping[str, Any]) -> list[int]:
    """A redrawn rest as token ids, or as characters where there are none."""
    ids = (choice.get("power") or {}).get("token_ids")
    return list(ids) if ids is not None else list(map(ord, choice.get("text") or ""))
