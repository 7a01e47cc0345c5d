"""What a server process holds: memory, descriptors, threads, children; and how these go with time."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Vitals:
    """A process at one moment; `children` are its direct ones, `files` lie in its folder for temporary files."""

    at_s: float
    resident_bytes: int
    descriptors: int
    threads: int
    children: int
    files: int

    def over(self, other: "Vitals") -> dict[str, int]:
        """What there is more of now than in another moment, memory left out."""
        names = ("descriptors", "threads", "children", "files")
        more = {name: getattr(self, name) - getattr(other, name) for name in names}
        return {name: count for name, count in more.items() if count > 0}


def vitals(pid: int, temporary: Path) -> Vitals:
    """What a process holds now."""
    process = Path(f"/proc/{pid}")
    tasks = list((process / "task").iterdir())
    return Vitals(
        time.monotonic(),
        int((process / "statm").read_text().split()[1]) * PAGE_BYTES,
        len(list((process / "fd").iterdir())),
        len(tasks),
        sum(len((task / "children").read_text().split()) for task in tasks),
        sum(1 for _ in temporary.rglob("*")),
    )


def processor_s(pid: int) -> float:
    """Processor seconds of a process so far, its children that have ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def growth_bytes(seen: Sequence[Vitals]) -> float:
    """What memory grew by over these moments, by the slope of a line of least squares: one peak does not make it."""
    times = np.array([each.at_s for each in seen])
    resident = np.array([each.resident_bytes for each in seen], dtype=float)
    slope = np.polyfit(times - times[0], resident, 1)[0]
    return float(slope * (times[-1] - times[0]))
