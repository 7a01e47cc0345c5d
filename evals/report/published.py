"""Published numbers beside ours: only with the prompt, the grader and the source, without which they mean nothing.

Reported accuracies of one base model on one benchmark differ by a dozen points with the prompt alone. None is built
in.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from evals.errors import OptionError


@dataclass(frozen=True, slots=True)
class Published:
    """One number from elsewhere.

    Attributes:
        benchmark: As `powercut-eval` calls it.
        label: The method.
        accuracy: In [0, 1].
        model: The model's full name.
        prompt: How the problems were asked.
        grader: How the answers were graded.
        source: Paper and table, or a URL.
    """

    benchmark: str
    label: str
    accuracy: float
    model: str
    prompt: str
    grader: str
    source: str

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def read_published(path: Path) -> list[Published]:
    """The numbers in a JSON file: a list of objects with every field of `Published`.

    Raises:
        OptionError: A field is missing, empty or unknown.
    """
    try:
        rows = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise OptionError(f"--published: {path}: {error}") from None
    if not isinstance(rows, list):
        raise OptionError(f"--published: {path}: a list of objects is wanted")
    return [one(row, number, path) for number, row in enumerate(rows, 1)]


def one(row: Any, number: int, path: Path) -> Published:
    """One row, checked."""
    names = [each.name for each in fields(Published)]
    where = f"--published: {path}, entry {number}"
    if not isinstance(row, dict) or row.keys() - set(names):
        raise OptionError(f"{where}: an object with the fields {', '.join(names)} and no others is wanted")
    for name in names:
        if not row.get(name) and row.get(name) != 0:
            raise OptionError(f"{where}: {name} is missing; a number without it cannot be compared")
    accuracy = row["accuracy"]
    if not isinstance(accuracy, int | float) or not 0 <= accuracy <= 1:
        raise OptionError(f"{where}: accuracy must lie in [0, 1]")
    texts = {name: str(row[name]) for name in names if name != "accuracy"}
    return Published(accuracy=float(accuracy), **texts)
