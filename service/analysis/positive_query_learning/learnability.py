"""Computes and draws `positive-query-learning/learnability`."""

from typing import TYPE_CHECKING

from service.analysis.frame import Context
from service.analysis.positive_query_learning.finite import elements
from service.analysis.positive_query_learning.given import finite_class
from service.analysis.positive_query_learning.schema import LearnabilityReply, LearnabilityRequest

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def compute(request: LearnabilityRequest, context: Context) -> LearnabilityReply:
    """The three numbers of a finite class, by exhaustive search."""
    known = finite_class(request.domain_size, request.concepts)
    found = known.numbers(lambda fraction: context.report(fraction, "samples"))
    return LearnabilityReply(
        method="exhaustive minimax over samples, queries and answers (definitions derived)",
        seed=None,
        warnings=[],
        vc_dimension=found.vc,
        adaptive_query_compression_size=found.aqc,
        no_query_compression_size=found.nq,
        witness_sample=list(elements(found.witness)),
    )


def draw(request: LearnabilityRequest, response: LearnabilityReply) -> "Figure":
    """The three numbers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    numbers = [
        response.vc_dimension,
        response.adaptive_query_compression_size,
        response.no_query_compression_size,
    ]
    axes.bar(["VC dimension", "with queries", "without queries"], numbers)
    axes.set_ylabel("size")
    return figure
