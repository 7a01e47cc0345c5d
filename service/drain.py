"""Stopping without losing a reply: nothing new begins, what runs gets its time, what is left then is cut off."""

import math

from service.call import Call
from service.errors import ApiError

LONGEST_RETRY_S = 30


class Drain:
    """The requests that are work, and whether the server is stopping."""

    def __init__(self, drain_s: float) -> None:
        self.drain_s = drain_s
        self.stopping = False
        self.calls = set[Call]()
        self.unclosed = list[str]()
        """What would not close at the end."""

    def begin(self, call: Call) -> None:
        """A request begins; 503 if the server is stopping."""
        if self.stopping:
            raise self.refusal()
        self.count(call)

    def count(self, call: Call) -> None:
        """Wait for a request before stopping."""
        self.calls.add(call)
        call.at_end(lambda: self.calls.discard(call))

    def stop(self) -> None:
        """Let nothing new begin."""
        self.stopping = True

    def cut(self) -> int:
        """Cut off what still runs; how many requests that were."""
        calls = list(self.calls)
        for call in calls:
            call.cut()
        return len(calls)

    def refusal(self) -> ApiError:
        """What a request is told that comes too late."""
        wait_s = max(1, min(LONGEST_RETRY_S, math.ceil(self.drain_s)))
        return ApiError(503, "the server is stopping", code="shutting_down", retry_after_s=wait_s)
