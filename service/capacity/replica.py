"""One replica, a group of GPUs with one copy of the model: how many rows fit, and how long a step takes.

A decode step of b rows behind a context of c tokens reads the weights once and every row's keys and values, and
computes b tokens: max(bytes ÷ bandwidth, operations ÷ rate), and beside it what the GPUs of the group tell each other
and a fixed overhead. Positions computed first (prompts, prefixes that the cache has lost) cost operations alone.
"""

from dataclasses import dataclass
from typing import Protocol

from service.capacity.hardware import Gpu
from service.capacity.shape import BYTES, ModelShape

LINK_DELAY_S = 8e-6
"""Seconds of one all-reduce however little it carries."""
RESERVE_BYTES = 4e9
"""Of each GPU: activations, the runtime's graphs and buffers."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a token of this work needs around it, in tokens.

    `context` is what stands before it, `held` what its row keeps in memory, and `computed` the positions that are
    computed anew for each token drawn.
    """

    context: float
    held: float
    computed: float


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Shares of the data sheet that are reached, and what a step costs beside: assumptions, to be replaced by yours."""

    memory: float = 0.9
    bandwidth: float = 0.7
    compute: float = 0.5
    overhead_s: float = 0.002


class StepTime(Protocol):
    """Seconds of one decode step."""

    def seconds(self, rows: float, load: Load) -> float:
        """Of so many rows."""
        ...


@dataclass(frozen=True, slots=True)
class MeasuredStep:
    """A step that was measured at two numbers of rows: a fixed part and one for each row."""

    fixed_s: float
    row_s: float
    position_s: float = 0.0
    """Seconds for each position computed anew."""

    def seconds(self, rows: float, load: Load) -> float:
        """See `StepTime`."""
        return self.fixed_s + rows * (self.row_s + load.computed * self.position_s)


@dataclass(frozen=True, slots=True)
class Roofline:
    """A step by the data sheet."""

    shape: ModelShape
    gpu: Gpu
    gpus: int
    dtype: str
    kv_dtype: str
    efficiency: Efficiency

    def parts(self, rows: float, load: Load) -> dict[str, float]:
        """Seconds of each part of a step. Memory and arithmetic overlap: the longer one counts."""
        shape, efficiency = self.shape, self.efficiency
        touched = shape.weight_bytes(self.dtype) * (1 - (1 - shape.active / shape.params) ** max(1.0, rows))
        moved = touched + rows * load.context * shape.kv_bytes_per_token(self.kv_dtype)
        rate = self.gpus * self.gpu.flops_s(self.dtype) * efficiency.compute
        return {
            "memory": moved / (self.gpus * self.gpu.bandwidth_bytes_s * efficiency.bandwidth),
            "compute": rows * shape.flops_per_token(load.context) / rate,
            "prefill": rows * load.computed * shape.flops_per_token(load.context / 2) / rate,
            "links": self._links_s(rows),
            "overhead": efficiency.overhead_s,
        }

    def seconds(self, rows: float, load: Load) -> float:
        """See `StepTime`."""
        parts = self.parts(rows, load)
        return max(parts["memory"], parts["compute"]) + parts["prefill"] + parts["links"] + parts["overhead"]

    def _links_s(self, rows: float) -> float:
        """Two all-reduces a layer; each GPU sends 2·(g − 1)/g of the activations, and receives as much meanwhile."""
        if self.gpus == 1:
            return 0.0
        activations = rows * self.shape.hidden * BYTES["bf16"]
        passed = 2 * (self.gpus - 1) / self.gpus * activations / self.gpu.link_bytes_s
        return 2 * self.shape.layers * (LINK_DELAY_S + passed)


def rows_that_fit(
    shape: ModelShape, gpu: Gpu, gpus: int, dtype: str, kv_dtype: str, memory_share: float, held: float
) -> float:
    """Rows whose keys and values fit beside the weights; under 1 if not one does, negative if the weights do not."""
    room = gpus * (gpu.memory_bytes * memory_share - RESERVE_BYTES) - shape.weight_bytes(dtype)
    # Beyond as many GPUs as key heads each holds copies of the same heads.
    copies = max(1.0, gpus / shape.kv_heads)
    return room / (held * shape.kv_bytes_per_token(kv_dtype) * copies)
