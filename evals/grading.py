"""What grading needs while a run lasts: killable worker processes and the sandbox's settings."""

import asyncio
from types import TracebackType
from typing import Any

from evals.graders.maths import MATH_VERIFY
from evals.graders.workers import Workers
from evals.sandbox import Limits, Outcome, Program, Sandbox

MATHS_LIMIT_S = 10.0


class Grading:
    """Owns the graders' processes. An async context manager; every benchmark's `grade` takes one.

    Args:
        unsafe: Run model-written code without a sandbox. Off by default, and nothing turns it on but the user.
        concurrency: Sandboxed programs, and apart from them maths workers, at one time.
        maths_limit_s: Seconds that one grader may take over one mathematical answer.
        limits: What one check of a program may use.
        python: The interpreter inside the sandbox (None: the operating system's).
    """

    def __init__(
        self,
        *,
        unsafe: bool = False,
        concurrency: int = 2,
        maths_limit_s: float = MATHS_LIMIT_S,
        limits: Limits | None = None,
        python: str | None = None,
    ) -> None:
        if concurrency < 1:
            raise ValueError("grading needs a concurrency of at least 1")
        self.sandbox = Sandbox(unsafe=unsafe, limits=limits, python=python)
        self.workers = Workers(concurrency, maths_limit_s)
        self._slots = asyncio.Semaphore(concurrency)

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
        if runs_code:
            await self.sandbox.prepare()

    async def check(self, program: Program) -> Outcome:
        """Run a model's program against its tests, when one of the sandbox's places is free."""
        async with self._slots:
            return await self.sandbox.check(program)

    async def aclose(self) -> None:
        """End every worker process."""
        await self.workers.aclose()

    def describe(self) -> dict[str, Any]:
        """Versions and limits, as plain data for a run's settings; the sandbox's are complete after `prepare`."""
        return {"maths": MATH_VERIFY, "maths_limit_s": self.workers.limit_s, "sandbox": self.sandbox.describe()}
