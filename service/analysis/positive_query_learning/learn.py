"""Computes and draws `positive-query-learning`."""

from typing import TYPE_CHECKING

import numpy as np

from service.analysis.frame import Context
from service.analysis.positive_query_learning import learn_boolean, learn_finite, learn_halfspace
from service.analysis.positive_query_learning.schema import PositiveQueryReply, PositiveQueryRequest

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def compute(request: PositiveQueryRequest, context: Context) -> PositiveQueryReply:
    """The queries that are to be answered next, or the hypothesis.

    Raises:
        AnalysisError: A field does not fit the class (422), or labels contradict one another (409).
    """
    match request.concept_class:
        case "halfspace":
            return learn_halfspace.learn(request, context)
        case "k_cnf":
            return learn_boolean.learn_cnf(request, context)
        case "monotone_dnf":
            return learn_boolean.learn_dnf(request, context)
        case "finite":
            return learn_finite.learn(request, context)


def draw(request: PositiveQueryRequest, response: PositiveQueryReply) -> "Figure":
    """In two dimensions the labelled points; otherwise what the learner used."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    transcript = response.transcript
    if request.concept_class == "halfspace" and transcript is not None and _is_planar(transcript.positives):
        axes.scatter(*np.array(transcript.positives).T, s=8, label="positive")
        if transcript.negatives:
            axes.scatter(*np.array(transcript.negatives).T, s=12, marker="x", color="C3", label="negative")
        sample = np.array(request.positive_examples)
        low, high = sample.min(axis=0), sample.max(axis=0)
        room = (high - low) / 2 + 1e-9
        axes.set(xlim=(low[0] - room[0], high[0] + room[0]), ylim=(low[1] - room[1], high[1] + room[1]))
        axes.legend()
    else:
        counts = [response.positives_used, response.queries_used, response.compression_size or 0]
        axes.bar(["positives", "queries", "compression size"], counts)
        axes.set_yscale("symlog")
    axes.set_title(f"{request.concept_class}: {response.status}, {response.queries_used} queries")
    return figure


def _is_planar(points: list[list[float]] | list[list[float] | int]) -> bool:
    return all(isinstance(point, list) and len(point) == 2 for point in points)
