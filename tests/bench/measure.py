"""Ratios of two things run in turn in one process: the only kind of figure a shared machine can give."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Ratio:
    """How two rates compare: the median over rounds of (ours ÷ theirs), and the rounds' ratios."""

    name: str
    median: float
    ratios: list[float]
    wanted: str
    details: dict[str, Any]

    def row(self) -> str:
        """A line of the table."""
        low, high = min(self.ratios), max(self.ratios)
        return f"| {self.name} | {self.median:.2f} | {low:.2f}–{high:.2f} | {self.wanted} |"


def in_turn(name: str, ours: Callable[[int], float], theirs: Callable[[int], float], rounds: int, wanted: str) -> Ratio:
    """Run both rates in each round, turning their order, and compare them pair by pair."""
    pairs: list[tuple[float, float]] = []
    for number in range(rounds):
        if number % 2:
            reference, own = theirs(number), ours(number)
        else:
            own, reference = ours(number), theirs(number)
        pairs.append((own, reference))
    ratios = [own / reference for own, reference in pairs]
    details = {"ours": [own for own, _ in pairs], "theirs": [reference for _, reference in pairs]}
    return Ratio(name, statistics.median(ratios), ratios, wanted, details)


def timed(work: Callable[[], float]) -> float:
    """Units of work per second."""
    start = time.perf_counter()
    units = work()
    return units / (time.perf_counter() - start)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
    }


def report(ratios: list[Ratio], settings: dict[str, Any]) -> dict[str, Any]:
    """Everything as JSON."""
    return {"machine": machine(), "settings": settings, "ratios": [asdict(ratio) for ratio in ratios]}
