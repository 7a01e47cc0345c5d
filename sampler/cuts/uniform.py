"""The uniform cut of Karan and Du (arXiv 2510.14901), with the length term that makes it exact."""

import math


class UniformCut:
    """w_t = 1, so Z = n and the cut term of the ratio is log n − log n'. β plays no part."""

    fields = frozenset[str]()
    """The parameters that the law uses."""

    def __init__(self, cut_power: float) -> None:
        self.cut_power = cut_power

    def advance(self, length: int, entropy_before: float, log_norm: float, entropy: float) -> tuple[float, float]:
        """(log w_t, log Z_t); see the protocol."""
        return 0.0, math.log(length + 1)
