"""Computes and draws `positive-query-learning/certificate`."""

from typing import TYPE_CHECKING

import numpy as np

from service.analysis.frame import AnalysisError, Context
from service.analysis.positive_query_learning import boolean, exact, finite
from service.analysis.positive_query_learning.given import (
    conflict,
    finite_class,
    halfspace_points,
    members,
    vectors,
)
from service.analysis.positive_query_learning.learn_boolean import WIDTH, count_clauses
from service.analysis.positive_query_learning.schema import (
    CLAUSES_LIMIT,
    MembershipCertificateReply,
    MembershipCertificateRequest,
    Weight,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POSITIVES, NEGATIVES = "transcript.positives", "transcript.negatives"


def compute(request: MembershipCertificateRequest, context: Context) -> MembershipCertificateReply:
    """Whether every concept of the class that fits the transcript holds the point.

    Raises:
        AnalysisError: Points do not fit the class (422), or no concept fits the transcript (409).
    """
    match request.concept_class:
        case "halfspace":
            return _halfspace(request)
        case "k_cnf":
            return _cnf(request)
        case "monotone_dnf":
            return _dnf(request)
        case "finite":
            return _finite(request)


def _halfspace(request: MembershipCertificateRequest) -> MembershipCertificateReply:
    positives = halfspace_points(request.transcript.positives, POSITIVES)
    width = positives.shape[1]
    negatives = halfspace_points(request.transcript.negatives, NEGATIVES, width)
    point = halfspace_points([request.point], "point", width)[0]
    if exact.contradiction(positives, negatives) is not None:
        raise conflict("transcript", "no halfspace holds all positives and none of the negatives")
    found = exact.certify(positives, negatives, point)
    if found is None:
        return _reply("Farkas, in rationals", certified=False)
    return MembershipCertificateReply(
        method="Farkas, in rationals",
        seed=None,
        warnings=[],
        certified=True,
        exact=True,
        positive_weights=[
            Weight(point=positives[index].tolist(), weight=exact.write(weight)) for index, weight in found.positive
        ],
        negative_weights=[
            Weight(point=negatives[index].tolist(), weight=exact.write(weight)) for index, weight in found.negative
        ],
        witness=None,
    )


def _reply(method: str, *, certified: bool, witness: list[int] | None = None) -> MembershipCertificateReply:
    return MembershipCertificateReply(
        method=method,
        seed=None,
        warnings=[],
        certified=certified,
        exact=True,
        positive_weights=None,
        negative_weights=None,
        witness=witness,
    )


def _cnf(request: MembershipCertificateRequest) -> MembershipCertificateReply:
    positives = vectors(request.transcript.positives, POSITIVES)
    variables, width = positives.shape[1], request.k or WIDTH
    if count_clauses(variables, width) > CLAUSES_LIMIT:
        raise AnalysisError("k", f"more than {CLAUSES_LIMIT} clauses")
    negatives = vectors(request.transcript.negatives, NEGATIVES, variables)
    point = vectors([request.point], "point", variables)
    clauses = boolean.learn_cnf(positives, width)
    if boolean.satisfies(clauses, negatives).any():
        raise conflict("transcript", f"no {width}-CNF holds all positives and none of the negatives")
    failed = next((clause for clause in clauses if not boolean.satisfies([clause], point)[0]), None)
    witness = None if failed is None else list(failed)
    return _reply("clauses that no positive falsifies", certified=failed is None, witness=witness)


def _dnf(request: MembershipCertificateRequest) -> MembershipCertificateReply:
    positives = vectors(request.transcript.positives, POSITIVES)
    variables = positives.shape[1]
    negatives = vectors(request.transcript.negatives, NEGATIVES, variables)
    point = vectors([request.point], "point", variables)[0]
    if any((negative >= positive).all() for negative in negatives for positive in positives):
        raise conflict("transcript", "a negative lies above a positive")
    below = next((positive for positive in positives if (point >= positive).all()), None)
    witness = None if below is None else [int(index) + 1 for index in np.flatnonzero(below)]
    return _reply("monotone: above a positive", certified=below is not None, witness=witness)


def _finite(request: MembershipCertificateRequest) -> MembershipCertificateReply:
    assert request.domain_size is not None
    assert request.concepts is not None
    known = finite_class(request.domain_size, request.concepts)
    positives = members(request.transcript.positives, POSITIVES, request.domain_size)
    negatives = members(request.transcript.negatives, NEGATIVES, request.domain_size)
    point = members([request.point], "point", request.domain_size)[0]
    consistent = known.members(sum({1 << one for one in positives}))
    for negative in negatives:
        consistent &= ~known.holding[negative]
    if not consistent:
        raise conflict("transcript", "no concept holds all positives and none of the negatives")
    missing = next((one for one in finite.elements(consistent) if not known.concepts[one] >> point & 1), None)
    witness = None if missing is None else [missing]
    return _reply("all consistent concepts", certified=missing is None, witness=witness)


def draw(request: MembershipCertificateRequest, response: MembershipCertificateReply) -> "Figure":
    """The weights of a halfspace's certificate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, sign, weights in (
        ("positives", 1, response.positive_weights),
        ("negatives", -1, response.negative_weights),
    ):
        values = [sign * ratio(one.weight) for one in weights or []]
        axes.bar([f"{name[0]}{number}" for number in range(len(values))], values, label=name)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(ylabel="weight", title="certified" if response.certified else "not certified")
    axes.legend()
    return figure


def ratio(text: str) -> float:
    """A weight p/q as a float."""
    above, _, below = text.partition("/")
    shift = max(0, max(len(above), len(below)) - 300)
    return float(above[: len(above) - shift] or 0) / float(below[: len(below) - shift] or 1)
