"""Limits of the servers that a plan needs, beside those that they have by default."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from service.capacity.tokens import Cost
from service.settings import Settings

VLLM_ROWS = 128
"""Rows of a vLLM engine without `--max-rows`: its DEFAULT_MAX_NUM_SEQS, as `serve` starts it (0.32)."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one server must let run so that its replica can be full.

    `max_rows` is the option `--max-rows` of `serve`, the rest are settings. `max_running_requests_per_key` need only
    be so high where one key sends everything.
    """

    max_rows: int
    max_running_requests: int
    max_running_requests_per_key: int
    max_running_tokens: int

    def above_defaults(self) -> Iterator[tuple[str, int, int]]:
        """Name, value and default of every limit that must be raised."""
        defaults = {"max_rows": VLLM_ROWS} | {name: field.default for name, field in Settings.model_fields.items()}
        for name in self.__slots__:
            if getattr(self, name) > defaults[name]:
                yield name, getattr(self, name), defaults[name]


def server_limits(rows: int, cost: Cost) -> ServerLimits:
    """The limits for so many rows: a request may be several rows, and is counted at its worst."""
    requests = math.ceil(rows / cost.width - 1e-9)
    return ServerLimits(rows, requests, requests, math.ceil(requests * cost.worst))
