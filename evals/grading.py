"""What grading needs while a run lasts: killable worker processes and the sandbox's settings."""

import asyncio
from types import TracebackType
from typing import Any


class Grading:
    """Owns the graders' processes. An async context manager; every benchmark's `grade` takes one.

    Args:
        unsafe: Run model-written code without a sandbox. Off by default, and nothing turns it on but the user.
        concurrency: Sandboxed programs, and apart from them maths workers, at one time.
    """

    def __init__(self, *, unsafe: bool = False, concurrency: int = 2) -> None:
        if concurrency < 1:
            raise ValueError("grading needs a concurrency of at least 1")
        self.unsafe = unsafe
        self.concurrency = concurrency
        self.slots = asyncio.Semaphore(concurrency)

    async def __aenter__(self) -> "Grading":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def prepare(self, *, runs_code: bool) -> None:
        """Check before the first answer is paid for that grading will work.

        Args:
            runs_code: The benchmark's `runs_code`.

        Raises:
            SandboxMissing: Model-written code is to be run, no sandbox works here and `unsafe` is off.
        """

    async def aclose(self) -> None:
        """End every worker process."""

    def describe(self) -> dict[str, Any]:
        """Versions and limits, as plain data for a run's settings."""
        return {"unsafe": self.unsafe}
