"""Learning rates, one a step, and how a request writes them."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from service.analysis.frame import AnalysisRequest

Rates = NDArray[np.floating]
STEPS_LIMIT = 200_000
BaseLr = Annotated[float, Field(gt=0, le=1e6)]
Exponent = Annotated[float, Field(ge=0, le=10)]


class ConstantSchedule(AnalysisRequest):
    """base_lr."""

    type: Literal["constant"]
    base_lr: BaseLr = 0.1

    def rates(self, steps: int) -> Rates:
        """All learning rates."""
        return np.full(steps, self.base_lr)


class PowerSchedule(AnalysisRequest):
    """base_lr · (t+1)^−exponent."""

    type: Literal["power"]
    base_lr: BaseLr = 1.0
    exponent: Exponent = 0.5

    def rates(self, steps: int) -> Rates:
        """All learning rates."""
        return self.base_lr * np.arange(1, steps + 1) ** -self.exponent


class ExponentialSchedule(AnalysisRequest):
    """base_lr · decay^t."""

    type: Literal["exponential"]
    base_lr: BaseLr = 1.0
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999

    def rates(self, steps: int) -> Rates:
        """All learning rates."""
        return self.base_lr * self.decay ** np.arange(steps)


class CosineSchedule(AnalysisRequest):
    """base_lr · (1 + cos(π t/T))/2."""

    type: Literal["cosine"]
    base_lr: BaseLr = 1.0

    def rates(self, steps: int) -> Rates:
        """All learning rates."""
        return self.base_lr * (1 + np.cos(np.pi * np.arange(steps) / steps)) / 2


class WarmupPowerSchedule(AnalysisRequest):
    """base_lr · (t+1)^−exponent, but for a straight line from 0 up to that curve in the first `warmup` steps."""

    type: Literal["warmup_power"]
    base_lr: BaseLr = 1.0
    exponent: Exponent = 0.5
    warmup: Annotated[int, Field(ge=1, le=STEPS_LIMIT)] = 100

    def rates(self, steps: int) -> Rates:
        """All learning rates."""
        count = np.arange(1, steps + 1)
        ramp = np.minimum(1.0, count / self.warmup)
        return self.base_lr * ramp * np.maximum(count, float(self.warmup)) ** -self.exponent


class LogarithmicSchedule(AnalysisRequest):
    """base_lr / log(t+2)."""

    type: Literal["logarithmic"]
    base_lr: BaseLr = 0.3

    def rates(self, steps: int) -> Rates:
        """All learning rates."""
        return self.base_lr / np.log(np.arange(2, steps + 2))


class ExplicitSchedule(AnalysisRequest):
    """As listed: one a step."""

    type: Literal["explicit"]
    values: Annotated[
        list[Annotated[float, Field(ge=0, le=1e6)]], Field(min_length=1, max_length=STEPS_LIMIT, fail_fast=True)
    ]

    def rates(self, steps: int) -> Rates:
        """All learning rates; the request has checked their number."""
        return np.array(self.values)


class PolyakSchedule(AnalysisRequest):
    """(f(W) − f*)/‖G‖*, with the dual norm of the method's norm: not known beforehand."""

    type: Literal["polyak"]


Known = (
    ConstantSchedule
    | PowerSchedule
    | ExponentialSchedule
    | CosineSchedule
    | WarmupPowerSchedule
    | LogarithmicSchedule
    | ExplicitSchedule
)
Schedule = Annotated[Known | PolyakSchedule, Field(discriminator="type")]
