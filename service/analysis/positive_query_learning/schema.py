"""What `positive-query-learning` and its two sub-routes take and give."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from service.analysis.frame import AnalysisRequest, AnalysisResponse, ReplyPart, SeededRequest

DIMENSION_LIMIT, VARIABLES_LIMIT, EXAMPLES_LIMIT = 32, 64, 100_000
DOMAIN_LIMIT, CONCEPTS_LIMIT, CLAUSES_LIMIT = 12, 64, 20_000
CLASSIFIED_LIMIT = 500

ConceptClass = Literal["halfspace", "k_cnf", "monotone_dnf", "finite"]
Coordinate = Annotated[float, Field(ge=-1e9, le=1e9)]
Vector = Annotated[list[Coordinate], Field(min_length=1, max_length=VARIABLES_LIMIT, fail_fast=True)]
Element = Annotated[int, Field(ge=0, lt=DOMAIN_LIMIT)]
AskedVector = Annotated[
    list[Annotated[float, Field(ge=-1e300, le=1e300)]], Field(min_length=1, max_length=VARIABLES_LIMIT, fail_fast=True)
]
"""A queried point may lie far out."""
Literals = Annotated[
    list[Annotated[int, Field(ge=-VARIABLES_LIMIT, le=VARIABLES_LIMIT)]],
    Field(min_length=1, max_length=8, fail_fast=True),
]
Term = Annotated[
    list[Annotated[int, Field(ge=1, le=VARIABLES_LIMIT)]], Field(max_length=VARIABLES_LIMIT, fail_fast=True)
]
Concepts = Annotated[
    list[Annotated[list[Element], Field(max_length=DOMAIN_LIMIT, fail_fast=True)]],
    Field(min_length=1, max_length=CONCEPTS_LIMIT, fail_fast=True, description="elements of each, counted from 0"),
]
Domain = Annotated[int, Field(ge=1, le=DOMAIN_LIMIT)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Answer(AnalysisRequest):
    """The label of a query."""

    query_id: Annotated[int, Field(ge=0, le=1_000_000)]
    point: AskedVector | Element
    label: bool


class Target(AnalysisRequest):
    """A concept that the service knows and answers for: for demonstrations and tests."""

    type: Literal["target"]
    normal: Annotated[Vector | None, Field(description="w of the halfspace w·x ≥ b")] = None
    offset: Annotated[Coordinate | None, Field(description="b")] = None
    clauses: Annotated[list[Literals] | None, Field(min_length=1, max_length=1000, fail_fast=True)] = None
    terms: Annotated[list[Term] | None, Field(min_length=1, max_length=1000, fail_fast=True)] = None
    concept: Annotated[int | None, Field(ge=0, lt=CONCEPTS_LIMIT, description="index into concepts")] = None


ORACLE_FIELDS = {
    "halfspace": {"normal", "offset"},
    "k_cnf": {"clauses"},
    "monotone_dnf": {"terms"},
    "finite": {"concept"},
}
ALWAYS = {"concept_class", "positive_examples", "epsilon", "delta", "seed", "oracle", "classify"}
USED = {
    "halfspace": {
        *("answers", "max_queries", "subsample", "bisection_width"),
        *("max_rounds", "exact_certificate", "holdout_fraction"),
    },
    "k_cnf": {"k"},
    "monotone_dnf": {"answers", "max_queries", "num_terms"},
    "finite": {"answers", "max_queries", "domain_size", "concepts"},
}
"""Fields that a class honours beside those always honoured; others are refused."""


class PositiveQueryRequest(SeededRequest):
    """Positives, answers to the queries so far, and what the concept is.

    Stateless: send the same body again with the seed of the first reply and all answers so far.
    """

    concept_class: ConceptClass
    """what kind of set the positives come from"""
    positive_examples: Annotated[
        Annotated[list[Vector], Field(min_length=1, max_length=EXAMPLES_LIMIT, fail_fast=True)]
        | Annotated[list[Element], Field(min_length=1, max_length=EXAMPLES_LIMIT, fail_fast=True)],
        Field(description="points; 0/1 vectors for k_cnf and monotone_dnf; elements for finite"),
    ]
    epsilon: Share = 0.05
    """share of positives that may be missed"""
    delta: Share = 0.05
    """chance that more are missed"""
    answers: Annotated[list[Answer] | None, Field(max_length=100_000, fail_fast=True)] = None
    """all answers so far, to the queries of earlier replies"""
    max_queries: Annotated[int | None, Field(ge=0, le=100_000, description="10 000 if left out")] = None
    oracle: Target | None = None
    """let the service answer its own queries from a known concept"""
    classify: Annotated[
        list[AskedVector | Element] | None,
        Field(max_length=CLASSIFIED_LIMIT, fail_fast=True, description="points that the hypothesis is to judge"),
    ] = None
    subsample: Annotated[int | None, Field(ge=1, le=20_000, description="points a round; 4(d+1)²")] = None
    bisection_width: Annotated[float | None, Field(ge=1e-6, le=1, description="1/(4(d+1))")] = None
    max_rounds: Annotated[int | None, Field(ge=1, le=1000, description="200")] = None
    exact_certificate: Annotated[bool | None, Field(description="true: rational certificates decide")] = None
    holdout_fraction: Annotated[float | None, Field(ge=0, le=0.9, description="0.2")] = None
    k: Annotated[int | None, Field(ge=1, le=4, description="literals a clause; 2")] = None
    num_terms: Annotated[int | None, Field(ge=1, le=1000, description="most prime implicants; needed")] = None
    domain_size: Domain | None = None
    """of finite: elements are 0 to domain_size − 1"""
    concepts: Concepts | None = None
    """of finite: each concept as the list of its elements"""

    @model_validator(mode="after")
    def _fields_fit_the_class(self) -> Self:
        given = {name for name in type(self).model_fields if getattr(self, name) is not None}
        unused = sorted(given - ALWAYS - USED[self.concept_class])
        if unused:
            raise ValueError(f"{unused[0]} is not used with concept_class: {self.concept_class}")
        if self.oracle is not None and self.answers:
            raise ValueError("answers go without an oracle, which answers itself")
        if self.answers and self.seed is None:
            raise ValueError("answers go with the seed of the reply that asked: the questions follow from it")
        if self.concept_class == "monotone_dnf" and self.num_terms is None:
            raise ValueError("num_terms is needed with concept_class: monotone_dnf")
        if self.concept_class == "finite" and (self.domain_size is None or self.concepts is None):
            raise ValueError("domain_size and concepts are needed with concept_class: finite")
        if self.oracle is not None:
            _check_oracle(self.oracle, self.concept_class)
        return self


def _check_oracle(oracle: Target, concept_class: str) -> None:
    wanted = ORACLE_FIELDS[concept_class]
    given = {name for name in type(oracle).model_fields if getattr(oracle, name) is not None} - {"type"}
    if given != wanted:
        raise ValueError(f"oracle needs {' and '.join(sorted(wanted))}, and nothing else, for {concept_class}")


class QueryReply(ReplyPart):
    """Is this point in the concept?"""

    query_id: int
    point: list[float] | int


class Transcript(AnalysisRequest):
    """Points with labels."""

    positives: Annotated[list[AskedVector | Element], Field(min_length=1, max_length=EXAMPLES_LIMIT, fail_fast=True)]
    negatives: Annotated[
        list[AskedVector | Element], Field(default_factory=list, max_length=EXAMPLES_LIMIT, fail_fast=True)
    ]


class TranscriptReply(ReplyPart):
    """Points with labels, as learned; a run without queries may keep no positive."""

    positives: list[AskedVector | Element]
    negatives: list[AskedVector | Element]


class RoundReply(ReplyPart):
    """A region of the fast test: with y = (x, 1) inside the subspace, center·y > Σ c·(high if c > 0 else low)."""

    dimension: int
    sample_points: int
    queries: int
    newly_certified: int
    center: list[float]
    directions: Annotated[list[list[float]], Field(description="c = directions · y")]
    low: list[float | None]
    high: list[float | None]


class HypothesisReply(ReplyPart):
    """What the concept is taken to be: always a subset of it, if the class is right and no answer is wrong."""

    kind: ConceptClass
    rule: str
    rounds: list[RoundReply] | None = None
    clauses: list[list[int]] | None = None
    terms: list[list[int]] | None = None
    elements: list[int] | None = None


class PositiveQueryReply(AnalysisResponse):
    """Queries to answer, or the hypothesis."""

    status: Literal["needs_queries", "done"]
    queries: list[QueryReply]
    rounds_done: int
    hypothesis: HypothesisReply | None
    queries_used: int
    compression_size: Annotated[int | None, Field(description="sample points kept and queries")]
    positives_used: int
    positives_needed: Annotated[int | None, Field(description="for epsilon and delta, where a formula says so")]
    false_negative_upper_bound: Annotated[float | None, Field(description="but with probability delta")]
    false_positives: Annotated[str | None, Field(description="what is promised of them")]
    transcript: TranscriptReply | None
    classified: list[bool] | None


class MembershipCertificateRequest(AnalysisRequest):
    """Must this point be positive, given these labels?"""

    concept_class: ConceptClass
    """what kind of set the points come from"""
    transcript: Transcript
    """points whose labels are known"""
    point: AskedVector | Element
    """the one to prove"""
    k: Annotated[int | None, Field(ge=1, le=4)] = None
    """of k_cnf: literals a clause"""
    domain_size: Domain | None = None
    """of finite: elements are 0 to domain_size − 1"""
    concepts: Concepts | None = None
    """of finite: each concept as the list of its elements"""

    @model_validator(mode="after")
    def _fields_fit_the_class(self) -> Self:
        wanted = {"k_cnf": {"k"}, "finite": {"domain_size", "concepts"}}.get(self.concept_class, set())
        for name in ("k", "domain_size", "concepts"):
            if name in wanted and getattr(self, name) is None and name != "k":
                raise ValueError(f"{name} is needed with concept_class: {self.concept_class}")
            if name not in wanted and getattr(self, name) is not None:
                raise ValueError(f"{name} is not used with concept_class: {self.concept_class}")
        return self


class Weight(ReplyPart):
    """A point with a rational weight, as p/q."""

    point: list[float]
    weight: str


class MembershipCertificateReply(AnalysisResponse):
    """A proof, or that there is none."""

    certified: bool
    exact: bool
    positive_weights: Annotated[list[Weight] | None, Field(description="halfspace: Σα(p,1) − Σβ(q,1) = (x,1)")]
    negative_weights: list[Weight] | None
    witness: Annotated[
        list[int] | None,
        Field(
            description="k_cnf: a clause that may hold and the point fails; monotone_dnf: the variables of a positive "
            "below the point; finite: a concept that fits and misses the point"
        ),
    ]


class LearnabilityRequest(AnalysisRequest):
    """A finite class."""

    domain_size: Domain
    """elements are 0 to domain_size − 1"""
    concepts: Concepts
    """each concept as the list of its elements"""


class LearnabilityReply(AnalysisResponse):
    """Its three numbers."""

    vc_dimension: int
    adaptive_query_compression_size: int
    no_query_compression_size: int
    witness_sample: Annotated[list[int], Field(description="positives that force the adaptive size")]
