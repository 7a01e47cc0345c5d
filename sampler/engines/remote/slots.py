"""How many calls run at once, and who goes first when they are too many.

One connection each: without a bound, a burst of chains would open thousands. Whoever waits is served by priority,
then by arrival; a call that only draws ahead gives its place up, at its next token, to one that does not.
"""

import asyncio
import heapq
import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sampler.engine import Priority


class Slot:
    """The right to run one call; `preempted` says that somebody more urgent wants it."""

    def __init__(self, priority: Priority) -> None:
        self.priority = priority
        self.preempted = False


class Slots:
    """A semaphore with priorities, for one event loop."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: list[Slot] = []
        self._waiting: list[tuple[Priority, int, Slot, asyncio.Future[None]]] = []
        self._arrival = itertools.count()

    def room(self) -> int:
        """How many more calls could start now; none while anybody waits."""
        return 0 if self._waiting else max(0, self.limit - len(self._held))

    @asynccontextmanager
    async def hold(self, priority: Priority) -> AsyncGenerator[Slot]:
        """Wait for a slot, and hold it."""
        slot = Slot(priority)
        if self.room():
            self._held.append(slot)
        else:
            await self._wait(slot)
        try:
            yield slot
        finally:
            self._give_back(slot)

    async def _wait(self, slot: Slot) -> None:
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (slot.priority, next(self._arrival), slot, turn))
        if slot.priority is not Priority.PREFETCH:
            self._preempt()
        try:
            await turn
        except asyncio.CancelledError:
            if slot in self._held:  # its turn came in the same moment
                self._give_back(slot)
            self._waiting = [entry for entry in self._waiting if entry[2] is not slot]
            heapq.heapify(self._waiting)
            raise

    def _preempt(self) -> None:
        for slot in reversed(self._held):
            if slot.priority is Priority.PREFETCH and not slot.preempted:
                slot.preempted = True
                return

    def _give_back(self, slot: Slot) -> None:
        self._held.remove(slot)
        while self._waiting:
            _, _, waiter, turn = heapq.heappop(self._waiting)
            if not turn.done():
                self._held.append(waiter)
                turn.set_result(None)
                return
