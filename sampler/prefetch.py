"""Proposals of the next steps, drawn ahead as if the steps before them were rejected.

Whether step s is accepted does not depend on the uniforms of step s + 1, so a proposal drawn ahead from the same
trace *is* the plain chain's next proposal. They are taken in order; the first acceptance that changes the trace makes
the rest worthless, and they are dropped. It costs tokens to save time, so it draws ahead only into rows that nobody
else wants.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Proposed = TypeVar("Proposed")


class Prefetch(Generic[Proposed]):
    """Up to `depth` proposals ahead. `propose(step)` draws one; it returns None if the engine took its row away."""

    def __init__(
        self,
        propose: Callable[[int], Coroutine[Any, Any, Proposed | None]],
        room: Callable[[], int],
        depth: int,
        dropped: Callable[[Proposed], None],
    ) -> None:
        self._propose, self._room, self.depth, self._dropped = propose, room, depth, dropped
        self._tasks: dict[int, asyncio.Task[Proposed | None]] = {}
        self._dying: set[asyncio.Task[Proposed | None]] = set()

    def start(self, steps: range) -> None:
        """Begin to draw ahead for as many of the coming steps as there is room for."""
        for step in steps[: self.depth]:
            if step not in self._tasks:
                if self._room() < 1:
                    return
                self._tasks[step] = asyncio.ensure_future(self._propose(step))

    async def take(self, step: int) -> Proposed | None:
        """The proposal drawn ahead for this step, None if there is none or its drawing failed."""
        task = self._tasks.pop(step, None)
        if task is None:
            return None
        try:
            return await task
        except asyncio.CancelledError:
            self._retire(task)
            raise
        except Exception:  # the plain path asks again, and reports what it meets
            return None

    def drop(self) -> None:
        """The trace has changed: nothing drawn ahead is of use."""
        for task in self._tasks.values():
            self._retire(task)
        self._tasks.clear()

    async def aclose(self) -> None:
        """Drop everything and wait until it is gone."""
        self.drop()
        if self._dying:
            await asyncio.wait(self._dying)

    def _retire(self, task: "asyncio.Task[Proposed | None]") -> None:
        if not task.done():
            task.cancel()
        self._dying.add(task)
        task.add_done_callback(self._bury)

    def _bury(self, task: "asyncio.Task[Proposed | None]") -> None:
        self._dying.discard(task)
        if not task.cancelled() and task.exception() is None and (proposed := task.result()) is not None:
            self._dropped(proposed)
