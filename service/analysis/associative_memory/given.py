"""A caller's own facts, checked."""

import numpy as np

from service.analysis.associative_memory.instances import Labels, Matrix, Shared
from service.analysis.associative_memory.schema import AssociativeMemoryRequest
from service.analysis.frame import AnalysisError


def given_facts(request: AssociativeMemoryRequest) -> Shared:
    """The request's inputs, targets and labels as an instance.

    Raises:
        AnalysisError: Rows differ in width or are zero, a label has no target, or two labels mean one target.
    """
    inputs, targets = matrix(request.inputs, "inputs"), matrix(request.targets, "targets")
    labels = _labels(request, len(inputs), len(targets))
    used = np.unique(labels)
    _, classes, counts = np.unique(targets, axis=0, return_inverse=True, return_counts=True)
    if (counts[classes.ravel()[used]] > 1).any():
        raise AnalysisError("targets", "two of them are identical, so that a fact of one cannot be told from the other")
    return Shared(inputs, targets, labels)


def matrix(rows: list[list[float]] | None, field: str) -> Matrix:
    """Rows of one width, none of them zero."""
    assert rows is not None
    if len({len(row) for row in rows}) != 1:
        raise AnalysisError(field, "all rows must have the same number of entries")
    found = np.array(rows, dtype=float)
    if not np.any(found, axis=1).all():
        raise AnalysisError(field, f"row {int(np.argmin(np.any(found, axis=1)))} is zero")
    return found


def _labels(request: AssociativeMemoryRequest, facts: int, targets: int) -> Labels:
    if request.labels is None:
        if facts != targets:
            raise AnalysisError("labels", f"are needed: there are {facts} inputs and {targets} targets")
        return np.arange(facts, dtype=np.int64)
    labels = np.array(request.labels, dtype=np.int64)
    if len(labels) != facts:
        raise AnalysisError("labels", f"has {len(labels)} entries for {facts} inputs")
    if labels.max() >= targets:
        raise AnalysisError("labels", f"a label is {int(labels.max())}; there are {targets} targets, counted from 0")
    return labels


def contradict(facts: Shared) -> bool:
    """Whether two equal inputs have different labels, which no map can recall."""
    together = np.column_stack([facts.inputs, facts.labels])
    return len(np.unique(together, axis=0)) > len(np.unique(facts.inputs, axis=0))
