"""How long a request is waited for: until its deadline, or until the server stops and cuts it off.

Deadlines count from a request's arrival, so time in the queue is part of them. A client's own `power.deadline_s` ends
its chains with the answers they have; the server's `request_timeout_s`, or an engine that does not stop when it is
told to, ends the request with 504 and with what it had reached.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from service.call import Call
from service.errors import ApiError

T = TypeVar("T")

GRACE_S = 30.0
"""Seconds after a client's own deadline until its chains must have stopped. Long: only a stuck engine needs it."""
CUT_RETRY_S = 5


class Patience:
    """Waits for one request's work, piece by piece.

    `soft` is the client's deadline and `hard` the one at which there is no answer, in the loop's time.
    """

    def __init__(self, call: Call, deadline_s: float | None) -> None:
        self.call = call
        self.soft = None if deadline_s is None else call.arrived + deadline_s
        self.limit_s = call.timeout_s if deadline_s is None else deadline_s + GRACE_S
        self.hard = None if self.limit_s is None else call.arrived + self.limit_s
        self._scope: asyncio.Timeout | None = None
        call.at_cut(self._give_up)

    @property
    def soft_left_s(self) -> float | None:
        """Seconds to the client's own deadline, None without one."""
        return None if self.soft is None else self.soft - asyncio.get_running_loop().time()

    async def wait(self, work: Coroutine[Any, Any, T], until: float | None = None) -> T:
        """The work's result.

        Raises:
            TimeoutError: `until` has passed, which is before the hard deadline.
            ApiError: 504 at the hard deadline, 503 if the server cut the request off; the work is cancelled.
        """
        if self.call.is_cut:
            work.close()
            raise cut_off(self.call)
        times = [time for time in (until, self.hard) if time is not None]
        scope = self._scope = asyncio.timeout_at(min(times) if times else None)
        try:
            async with scope:
                return await work
        except TimeoutError:
            if not scope.expired():
                raise  # the work's own
            if self.call.is_cut:
                raise cut_off(self.call) from None
            if until is not None and (self.hard is None or until < self.hard):
                raise
            raise timed_out(self.call, self.limit_s or 0.0) from None
        finally:
            self._scope = None

    def _give_up(self) -> None:
        if self._scope is None:
            return
        with suppress(RuntimeError):  # the deadline has fired in this very turn of the loop
            self._scope.reschedule(asyncio.get_running_loop().time())


def timed_out(call: Call, limit_s: float) -> ApiError:
    """504 with what was reached."""
    reached = call.reached.report()
    message = f"not done within {limit_s:g} s of arrival ({reached['state']}); power.deadline_s asks for what there is"
    return ApiError(504, message, code="timeout", kind="server_error", reached=reached)


def cut_off(call: Call) -> ApiError:
    """503 with what was reached."""
    message = "the server stops, and this request took too long to finish before"
    reached = call.reached.report()
    return ApiError(503, message, code="shutting_down", retry_after_s=CUT_RETRY_S, reached=reached)
