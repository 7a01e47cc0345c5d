"""Records as arms on one benchmark: the counts and means by problem that every number of a report is made of."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from evals.records import ANSWERED, Record, read_records, read_settings
from evals.statistics.resampling import Floats


@dataclass(frozen=True)
class ArmTable:
    """All records of one arm, by problem and repeat.

    Attributes:
        label: The arm's name, with its folder's where several are shown together.
        spec: The arm's settings.
        wanted: How many answers the run is to have.
    """

    label: str
    folder: str
    spec: Mapping[str, Any]
    settings: Mapping[str, Any]
    wanted: int
    records: Mapping[tuple[str, int], Record] = field(repr=False)

    @cached_property
    def problems(self) -> list[str]:
        """The problems with a record, in a fixed order."""
        return sorted({problem for problem, _ in self.records}, key=natural)

    @cached_property
    def records_by_problem(self) -> dict[str, list[Record]]:
        """The records of each problem, failures among them."""
        found: dict[str, list[Record]] = {problem: [] for problem in self.problems}
        for (problem, _), record in self.records.items():
            found[problem].append(record)
        return found

    @cached_property
    def answers(self) -> dict[tuple[str, int], Record]:
        """The records that are answers."""
        return {key: each for key, each in self.records.items() if each["status"] == ANSWERED}

    @cached_property
    def by_problem(self) -> dict[str, list[Record]]:
        """The answers to each problem that has any."""
        found: dict[str, list[Record]] = {}
        for problem, repeat in sorted(self.answers, key=lambda key: (natural(key[0]), key[1])):
            found.setdefault(problem, []).append(self.answers[problem, repeat])
        return found

    @property
    def failures(self) -> int:
        """Calls that got no answer."""
        return len(self.records) - len(self.answers)

    @property
    def ungraded(self) -> int:
        """Answers that could not be graded."""
        return sum(each["verdict"]["status"] == "failed" for each in self.answers.values())

    def counts(self) -> list[tuple[int, int]]:
        """(answers, right ones) of each problem that has answers."""
        return [(len(answers), sum(map(right, answers))) for answers in self.by_problem.values()]

    def rate(self, problem: str) -> float | None:
        """The share of right answers to a problem, None without an answer."""
        answers = self.by_problem.get(problem)
        return sum(map(right, answers)) / len(answers) if answers else None

    def means(self, name: str) -> Floats:
        """The mean of a number over each problem's answers, of the problems whose answers have it."""
        values = ([v for each in answers if (v := number_at(each, name)) is not None] for answers in self.by_answer())
        return np.array([sum(each) / len(each) for each in values if each], float)

    def sums(self, name: str) -> Floats:
        """The sum of a number over each problem's answers; 0 where they have none."""
        return np.array([sum(number_at(each, name) or 0.0 for each in answers) for answers in self.by_answer()])

    def by_answer(self) -> Iterable[list[Record]]:
        """The answers, problem by problem."""
        return self.by_problem.values()

    def tally(self, *path: str) -> dict[str, int]:
        """How often each value of a field occurs among the answers."""
        found: dict[str, int] = {}
        for each in self.answers.values():
            value = at(each, path)
            if value is not None:
                found[str(value)] = found.get(str(value), 0) + 1
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def right(record: Record) -> bool:
    """Whether an answer is right, by the grader that decides."""
    return record["verdict"]["status"] == "correct"


def at(record: Any, path: Sequence[str]) -> Any:
    """A nested field, None where there is none."""
    for name in path:
        record = record.get(name) if isinstance(record, Mapping) else None
    return record


def number_at(record: Record, name: str) -> float | None:
    """A number by its dotted name."""
    value = at(record, name.split("."))
    return float(value) if isinstance(value, int | float) else None


def natural(name: str) -> list[tuple[bool, int, str]]:
    """A sort key that puts HumanEval/9 before HumanEval/10."""
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]


def load(folder: Path, prefix: str) -> list[ArmTable]:
    """The arms of the run in a folder."""
    settings = read_settings(folder)["identity"]
    records = read_records(folder)
    tables: list[ArmTable] = []
    for spec in settings["arms"]:
        mine = {(key.problem, key.repeat): each for key, each in records.items() if key.arm == spec["name"]}
        wanted = settings["problems"] * settings["repeats"]
        tables.append(ArmTable(f"{prefix}{spec['name']}", str(folder), spec, settings, wanted, mine))
    return tables


def prefixes(folders: Sequence[Path]) -> list[str]:
    """What stands before the arms of each folder: nothing for one, else its name, or its path where names repeat."""
    if len(folders) == 1:
        return [""]
    names = [folder.resolve().name for folder in folders]
    return [f"{name if names.count(name) == 1 else folder}/" for name, folder in zip(names, folders, strict=True)]


def grouped(folders: Sequence[Path]) -> dict[tuple[str, str], list[ArmTable]]:
    """Arms by benchmark and data, which alone can be compared."""
    found: dict[tuple[str, str], list[ArmTable]] = {}
    for folder, prefix in zip(folders, prefixes(folders), strict=True):
        for table in load(folder, prefix):
            found.setdefault((table.settings["benchmark"], table.settings["data_sha256"]), []).append(table)
    return found
