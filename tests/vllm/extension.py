"""What the tests do inside vLLM's engine process: read its scheduler's counters, and break it."""

import os
import signal
import sys
from typing import Any


class Inside:
    """Mixed into vLLM's worker; with the executor `uni` it lives beside the scheduler."""

    model_runner: Any

    def counters(self) -> tuple[int, int, int, float]:
        """Running, waiting and known requests, and the share of the memory for keys and values that they hold."""
        scheduler = find_scheduler()
        usage = float(scheduler.kv_cache_manager.usage)
        return len(scheduler.running), len(scheduler.waiting), len(scheduler.requests), usage

    def capacity(self) -> int:
        """Tokens whose keys and values fit."""
        pool = find_scheduler().kv_cache_manager.block_pool
        return int(pool.num_gpu_blocks) * 32

    def raise_after(self, passes: int) -> None:
        """Raise in the forward pass after so many more."""
        real, left = self.model_runner.execute_model, [passes]

        def execute_model(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError("broken by a test")
            return real(*args, **kwargs)

        self.model_runner.execute_model = execute_model

    def kill_after(self, passes: int) -> None:
        """Kill the process in the forward pass after so many more."""
        real, left = self.model_runner.execute_model, [passes]

        def execute_model(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        self.model_runner.execute_model = execute_model


def find_scheduler() -> Any:
    """The scheduler of the engine that called its worker."""
    frame: Any = sys._getframe()
    while not hasattr(frame.f_locals.get("self"), "scheduler"):
        frame = frame.f_back
    return frame.f_locals["self"].scheduler
