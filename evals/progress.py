"""The progress line of a run: answers, accuracy so far, tokens and the time to go."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from evals.records import ANSWERED, Key, Record

JUDGED = frozenset({"correct", "incorrect", "failed"})
"""What a verdict can be; a divergence run judges nothing as a whole."""


class Tally:
    """What the records so far add up to, arm by arm."""

    def __init__(self) -> None:
        self.answers: dict[str, int] = defaultdict(int)
        self.correct: dict[str, int] = defaultdict(int)
        self.tokens = self.failures = 0

    def add(self, arm: str, record: Record) -> None:
        """Count one record."""
        if record["status"] != ANSWERED:
            self.failures += 1
            return
        self.tokens += record["tokens"]["generated"] or 0
        if record["verdict"]["status"] in JUDGED:
            self.answers[arm] += 1
            self.correct[arm] += record["verdict"]["status"] == "correct"

    def line(self) -> str:
        """Accuracy so far of each arm, tokens and failures."""
        arms = [f"{arm} {self.correct[arm] / count:.3f}" for arm, count in self.answers.items()]
        failed = f", {self.failures} failed" if self.failures else ""
        return f"{self.tokens:,} tokens{failed} | {' '.join(arms)}"


class Bar:
    """A progress bar that records advance."""

    def __init__(self, progress: Progress, total: int, done: Iterable[tuple[Key, Record]]) -> None:
        self.tally = Tally()
        self._progress = progress
        there = 0
        for key, record in done:
            if record["status"] == ANSWERED:
                self.tally.add(key.arm, record)
                there += 1
        self._task = progress.add_task(self.tally.line(), total=total, completed=there)

    def record(self, record: Record) -> None:
        """One more record."""
        self.tally.add(record["arm"], record)
        self._progress.update(self._task, advance=1, description=self.tally.line())

    def note(self, text: str) -> None:
        """Something to say beside the count."""
        self._progress.update(self._task, description=f"{self.tally.line()} | {text}")


@contextmanager
def bar(total: int, done: Iterable[tuple[Key, Record]], console: Console) -> Iterator[Bar]:
    """A bar on a console, for as long as the run lasts."""
    columns = (
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("to go"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as progress:
        yield Bar(progress, total, done)
