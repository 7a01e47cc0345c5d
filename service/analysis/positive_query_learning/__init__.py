"""Learning from positives and membership queries, with no false positives: Valiant's first model.

Hanneke, Mehrotra, Velegkas, Zampetakis: What is Learnable in Valiant's Theory of the Learnable? arXiv 2605.13840.
The model and the rates are the abstract's; the compression scheme's definition and the halfspace learner are derived.
"""

from service.analysis.frame import Analysis, Paper
from service.analysis.positive_query_learning.schema import (
    LearnabilityReply,
    LearnabilityRequest,
    MembershipCertificateReply,
    MembershipCertificateRequest,
    PositiveQueryReply,
    PositiveQueryRequest,
)

PAPER = Paper("What is Learnable in Valiant's Theory of the Learnable?", "2605.13840")
HERE = "service.analysis.positive_query_learning"
SPIRAL = [[1.0 + 0.1 * n, round(0.7 * n % 3 - 0.05 * n, 3)] for n in range(40)]

POSITIVE_QUERY_LEARNING = Analysis(
    name="positive-query-learning",
    paper=PAPER,
    summary="An accept-filter without false positives, from verified positives and questions about new points",
    request=PositiveQueryRequest,
    response=PositiveQueryReply,
    work=f"{HERE}.learn",
    example={
        "concept_class": "halfspace",
        "positive_examples": SPIRAL,
        "oracle": {"type": "target", "normal": [1.0, 0.25], "offset": 0.5},
        "classify": [[2.0, 0.5], [0.0, 0.0]],
        "seed": 0,
    },
)

CERTIFICATE = Analysis(
    name="positive-query-learning/certificate",
    paper=PAPER,
    summary="Whether a point must be positive given labelled points, with rational weights that prove it",
    request=MembershipCertificateRequest,
    response=MembershipCertificateReply,
    work=f"{HERE}.certificate",
    example={
        "concept_class": "halfspace",
        "transcript": {"positives": [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], "negatives": [[-1.0, -1.0]]},
        "point": [0.75, 0.75],
    },
    seeded=False,
)

LEARNABILITY = Analysis(
    name="positive-query-learning/learnability",
    paper=PAPER,
    summary="VC dimension and compression sizes with and without queries of a small finite class",
    request=LearnabilityRequest,
    response=LearnabilityReply,
    work=f"{HERE}.learnability",
    example={"domain_size": 6, "concepts": [[x for x in range(6) if x != missing] for missing in range(6)]},
    seeded=False,
)
