"""When there should be more replicas, or fewer: a policy for Serve's autoscaler, which applies bounds and delays.

The controller gets this module by value and may run where nothing else of powercut is loaded: it imports nothing.
"""

import math
from collections.abc import Mapping
from typing import Any, Protocol

QUEUED = "queued_tokens"
SHARE = "busy_share"
ROWS = "replicas_for_rows"
FULL = 0.8
"""How full replicas should be on average: less than full, because a request does not move to another replica."""


class Seen(Protocol):
    """What Serve tells a policy, of which this much is used."""

    current_num_replicas: int
    target_num_replicas: int

    @property
    def aggregated_metrics(self) -> Mapping[str, Mapping[Any, float]] | None:
        """What replicas told of themselves, by name and replica, averaged over the time looked back on."""
        ...


class QueuedTokens:
    """As many replicas as the tokens that wait, the running work, and the rows of batches ask for.

    Whichever asks for most decides: the tokens at worst of all waiting requests over `target_tokens`; the sum of how
    full each replica is, over `FULL`; the rows of batches over the rows that one replica runs at once.
    """

    def __init__(self, target_tokens: int) -> None:
        self.target_tokens = target_tokens

    def __call__(self, seen: Seen) -> tuple[int, dict[str, Any]]:
        """The number of replicas that there should be, and no state. Nothing is changed while none has told."""
        told = seen.aggregated_metrics or {}
        if not told.get(SHARE):
            return seen.target_num_replicas, {}
        queued = sum(told.get(QUEUED, {}).values())
        wanted = (
            queued / self.target_tokens,
            sum(told[SHARE].values()) / FULL,
            max(told.get(ROWS, {}).values(), default=0.0),  # each replica sees the rows of all
        )
        return max(1, math.ceil(max(wanted) - 1e-9)), {}
