"""The entropy cut of arXiv 2605.30327: cut where the model's uncertainty jumps."""

import math

from sampler.cuts.uniform import UniformCut


class EntropyCut:
    """w_t = Δ_t^β with Δ_t = max(0, H_t − H_{t−1}), H_{−1} = 0, in nats.

    It is a jump and not a level: a long uncertain passage gets mass at its start only. Δ_0 = H_0 keeps
    the chain irreducible. β = 0 means w_t = 1 (0^0 = 1), exactly the uniform cut. Everything is in log
    space and float64, since Δ^4 underflows float32 for jumps below 4e-12.
    """

    fields = frozenset({"cut_power"})
    """The parameters that the law uses."""

    def __init__(self, cut_power: float) -> None:
        self.cut_power = cut_power
        self._flat = UniformCut(cut_power) if cut_power == 0 else None

    def advance(self, length: int, entropy_before: float, log_norm: float, entropy: float) -> tuple[float, float]:
        """(log w_t, log Z_t); see the protocol."""
        if self._flat is not None:
            return self._flat.advance(length, entropy_before, log_norm, entropy)
        jump = entropy - entropy_before
        if math.isnan(jump):
            return math.nan, math.nan  # max and min below would lose it, and the ratio would look healthy
        if jump <= 0:
            return -math.inf, log_norm
        log_weight = self.cut_power * math.log(jump)
        high, low = max(log_norm, log_weight), min(log_norm, log_weight)
        return log_weight, high + math.log1p(math.exp(low - high))
