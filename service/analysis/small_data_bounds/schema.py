"""Requests and replies of `benchmark-bounds` and `pac-bayes-bounds`."""

from typing import Annotated, Literal

from pydantic import Field

from service.analysis.frame import AnalysisRequest, AnalysisResponse, ReplyPart, SeededRequest

MAX_PROBLEMS = 20_000
MAX_N = 1_000_000
MIN_BETA, MAX_BETA = 1e-6, 50.0

Delta = Annotated[float, Field(ge=1e-12, lt=1, description="probability that the bounds may fail")]
Fraction = Annotated[float, Field(ge=0, le=1)]
BenchmarkMethod = Literal[
    "binomial_tail", "chernoff_kl", "hoeffding", "binomial_tail_one_sample", "clt_wald", "wilson", "cluster_t"
]
PacBayesMethod = Literal["pac_bayes_kl", "catoni", "optimistic_kl"]


class ProblemResult(AnalysisRequest):
    """One problem's outcome: correct answers among samples, or one fractional score."""

    problem_id: Annotated[str, Field(min_length=1, max_length=200)]
    num_correct: Annotated[int | None, Field(ge=0, le=MAX_N)] = None
    num_samples: Annotated[int, Field(ge=1, le=MAX_N, description="answers drawn for this problem")] = 1
    score: Annotated[float | None, Field(ge=0, le=1, description="a graded score, instead of `num_correct`")] = None


Results = Annotated[list[ProblemResult], Field(min_length=1, max_length=MAX_PROBLEMS, fail_fast=True)]


class BenchmarkBoundsRequest(SeededRequest):
    """Results per problem, and what the bound is to be about."""

    results: Results
    """right answers of each problem"""
    estimand: Annotated[
        Literal["problem_population", "fixed_benchmark"],
        Field(description="accuracy on problems like these, or the mean solve probability on exactly these"),
    ] = "problem_population"
    delta: Delta = 0.05
    side: Literal["lower", "upper", "two_sided"] = "lower"
    """which limit; two_sided shares delta between both"""
    methods: Annotated[
        list[BenchmarkMethod] | None,
        Field(min_length=1, max_length=7, fail_fast=True, description="left out: all that apply"),
    ] = None
    num_configurations_tried: Annotated[
        int, Field(ge=1, le=MAX_N, description="configurations among which this one was picked on these results")
    ] = 1
    prior_weight: Annotated[
        float | None,
        Field(ge=1e-9, le=1, description="this configuration's weight, fixed beforehand; not with their number"),
    ] = None
    baseline_results: Results | None = None
    """of another configuration on the same problems, for the paired test"""


class AccuracyBound(ReplyPart):
    """Limits on accuracy by one method.

    Attributes:
        lower: The accuracy is at least this; 0 where the side was not asked for.
        upper: The accuracy is at most this; 1 where the side was not asked for.
        certified: Whether the coverage is proved, under the reply's `assumptions` and `assumes`.
        assumes: What must hold beside the reply's `assumptions`.
        warning: Why not to trust it.
    """

    method: BenchmarkMethod
    lower: float
    upper: float
    certified: bool
    assumes: str | None = None
    warning: str | None = None


class PairedTest(ReplyPart):
    """Exact sign test over the problems on which the two differ."""

    wins: int
    losses: int
    ties: int
    p_value_one_sided: float


class BenchmarkBounds(AnalysisResponse):
    """Bounds on accuracy; `method` is the one to quote."""

    num_problems: int
    num_trials: int
    accuracy: float
    orientation: Literal["accuracy"] = "accuracy"
    estimand: Literal["problem_population", "fixed_benchmark"]
    delta: float
    delta_per_limit: float
    bounds: list[AccuracyBound]
    assumptions: list[str]
    paired_test: PairedTest | None


class Configuration(AnalysisRequest):
    """One of the predictors that the posterior chooses among."""

    posterior: Fraction
    prior: Fraction
    empirical_risk: Fraction


class PacBayesBoundsRequest(SeededRequest):
    """A posterior's risk and divergence, or the configurations that give both."""

    n: Annotated[int, Field(ge=1, le=MAX_N, description="examples, i.i.d.")]
    num_prior_examples: Annotated[
        int, Field(ge=0, le=MAX_N, description="of these, how many the prior was built from; the risk is on the rest")
    ] = 0
    delta: Delta = 0.05
    empirical_risk: Fraction | None = None
    """of the posterior on the examples; goes with kl_divergence"""
    kl_divergence: Annotated[float | None, Field(ge=0, le=1e9, description="KL(Q;P) in nats")] = None
    configurations: Annotated[list[Configuration] | None, Field(min_length=1, max_length=10_000, fail_fast=True)] = None
    """from which risk and divergence follow, in place of the two"""
    methods: Annotated[list[PacBayesMethod], Field(min_length=1, max_length=3, fail_fast=True)] = Field(
        default=["pac_bayes_kl"]
    )
    """which bounds"""
    catoni_beta: (
        Annotated[float, Field(ge=MIN_BETA, le=MAX_BETA)]
        | Annotated[
            list[Annotated[float, Field(ge=MIN_BETA, le=MAX_BETA)]],
            Field(min_length=1, max_length=1000, fail_fast=True),
        ]
        | Literal["optimise"]
        | None
    ) = Field(
        default=None,
        description="fixed before the data; a list is a declared grid, paid for by delta over its length; "
        "`optimise` fits it to the data and is refused unless `certified` is false",
    )
    certified: Annotated[bool, Field(description="false allows `catoni_beta: optimise`: no certificate")] = True


class RiskBound(ReplyPart):
    """An upper bound on the posterior's risk.

    Attributes:
        value: The risk is at most this.
        certified: Whether that is proved.
        assumes: What must hold for it.
        log_moment_term: ln ξ(n) for PAC-Bayes-kl, in nats.
        beta: Catoni's parameter used.
    """

    method: PacBayesMethod
    value: float
    certified: bool
    assumes: str | None = None
    log_moment_term: float | None = None
    beta: float | None = None


class PacBayesBounds(AnalysisResponse):
    """Bounds on risk; `kl_divergence` null stands for infinity."""

    n: int
    delta: float
    orientation: Literal["risk_upper_bound"] = "risk_upper_bound"
    empirical_risk: float
    kl_divergence: float | None
    bounds: list[RiskBound]
