"""`benchmark-bounds`: from results per problem to limits on accuracy, by the estimand that was asked for."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from service.analysis.frame import AnalysisError, Context, Notice
from service.analysis.small_data_bounds import tails
from service.analysis.small_data_bounds.schema import (
    AccuracyBound,
    BenchmarkBounds,
    BenchmarkBoundsRequest,
    BenchmarkMethod,
    PairedTest,
    ProblemResult,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CERTIFIED = frozenset({"binomial_tail", "chernoff_kl", "hoeffding", "binomial_tail_one_sample"})
CLT_PROBLEMS = 300
"""Below a few hundred problems the normal approximation is not to be used (Bowyer et al. 2025)."""
COMMON = (
    "the grader's verdict is taken as the truth",
    "configurations tried on these problems before, by anyone whose result was looked at, count as tried",
)
POPULATION = (
    "problems are i.i.d. draws from the population meant; contamination and drift between years break this",
    "the number of samples of a problem does not depend on their outcomes",
)
FIXED = ("the samples are independent; nothing is said about other problems",)


@dataclass(frozen=True)
class Data:
    """The results as arrays.

    Attributes:
        means: Mean score of each problem, shape (N,).
        samples: Samples of each problem, shape (N,).
        correct: Correct samples of each problem, shape (N,); None where there are graded scores.
        one: Outcomes of one sample of each problem, shape (N,); None where there are graded scores.
        fixed: Whether the estimand is the mean over exactly these problems.
    """

    means: np.ndarray
    samples: np.ndarray
    correct: np.ndarray | None
    one: np.ndarray | None
    fixed: bool

    @property
    def single(self) -> bool:
        """Whether each problem has one sample."""
        return bool(np.all(self.samples == 1))

    @property
    def equal(self) -> bool:
        """Whether all problems have as many samples."""
        return bool(np.all(self.samples == self.samples[0]))


def compute(request: BenchmarkBoundsRequest, context: Context) -> BenchmarkBounds:
    """Limits on accuracy by every method that applies, or by those asked for."""
    means = problem_means(request.results, "results")
    data = arrange(request, means, context)
    chosen = list(dict.fromkeys(request.methods)) if request.methods is not None else default_methods(data)
    for method in chosen:
        refuse_inapplicable(method, data)
    quoted = next((method for method in chosen if method in CERTIFIED), chosen[0])
    delta = request.delta * occam_weight(request) / (2 if request.side == "two_sided" else 1)
    return BenchmarkBounds(
        method=quoted,
        seed=context.seed,
        warnings=warnings_for(request, data, chosen),
        num_problems=len(means),
        num_trials=int(data.samples.sum()),
        accuracy=float(means.mean()),
        estimand=request.estimand,
        delta=request.delta,
        delta_per_limit=delta,
        bounds=[accuracy_bound(method, data, delta, request.side) for method in chosen],
        assumptions=[*(FIXED if data.fixed else POPULATION), *occam_assumption(request), *COMMON],
        paired_test=paired_test(request, means),
    )


def problem_means(results: list[ProblemResult], field: str) -> np.ndarray:
    """Mean score of each problem, shape (N,); refuses what contradicts itself."""
    seen: set[str] = set()
    for number, result in enumerate(results):
        where = f"{field}.{number}"
        if result.problem_id in seen:
            raise AnalysisError(f"{where}.problem_id", "appears twice; each problem is listed once")
        seen.add(result.problem_id)
        if (result.num_correct is None) == (result.score is None):
            raise AnalysisError(f"{where}.num_correct", "give either num_correct or score")
        if result.num_correct is not None and result.num_correct > result.num_samples:
            raise AnalysisError(f"{where}.num_correct", f"is more than num_samples, {result.num_samples}")
        if result.score is not None and result.num_samples != 1:
            raise AnalysisError(f"{where}.num_samples", "is for num_correct; a score counts as one sample")
    graded = {result.score is not None for result in results}
    if len(graded) > 1:
        raise AnalysisError(field, "give num_correct for all problems, or score for all")
    return np.array([mean_of(result) for result in results])


def mean_of(result: ProblemResult) -> float:
    """A problem's score, or its share of correct samples."""
    return result.score if result.score is not None else (result.num_correct or 0) / result.num_samples


def arrange(request: BenchmarkBoundsRequest, means: np.ndarray, context: Context) -> Data:
    """The results as arrays, with one sample of each problem drawn by the seed."""
    samples = np.array([result.num_samples for result in request.results])
    fixed = request.estimand == "fixed_benchmark"
    if request.results[0].score is not None and not np.all(np.isin(means, (0.0, 1.0))):
        return Data(means, samples, None, None, fixed)
    correct = np.rint(means * samples).astype(int)
    one = (context.rng.random(len(means)) < means).astype(int)
    return Data(means, samples, correct, one, fixed)


def occam_weight(request: BenchmarkBoundsRequest) -> float:
    """The share of delta that this configuration gets: its prior weight, 1/M unless it was fixed otherwise."""
    if request.prior_weight is None:
        return 1 / request.num_configurations_tried
    if request.num_configurations_tried != 1:
        raise AnalysisError("prior_weight", "stands for 1/num_configurations_tried; give one or the other")
    return request.prior_weight


def occam_assumption(request: BenchmarkBoundsRequest) -> list[str]:
    """What the correction for picking the best rests on."""
    if request.prior_weight is not None:
        return ["prior_weight was fixed before the results, and the weights of all configurations sum to at most 1"]
    if request.num_configurations_tried > 1:
        return [f"the {request.num_configurations_tried} configurations were fixed before the results"]
    return ["one configuration, fixed before the results"]


def default_methods(data: Data) -> list[BenchmarkMethod]:
    """The methods that apply, the one to quote first."""
    if data.fixed:
        if not data.equal:
            return ["hoeffding"]
        certified: list[BenchmarkMethod] = ["binomial_tail"] if data.correct is not None else []
        return [*certified, "chernoff_kl", "hoeffding"]
    if data.correct is None or not data.single:
        drawn: list[BenchmarkMethod] = ["binomial_tail_one_sample"] if data.one is not None else []
        return ["chernoff_kl", "hoeffding", *drawn, *(["cluster_t"] if len(data.means) > 1 else [])]
    return ["binomial_tail", "chernoff_kl", "hoeffding", "clt_wald", "wilson"]


def refuse_inapplicable(method: BenchmarkMethod, data: Data) -> None:
    """Refuse a method that would be wrong on these results, and say what to ask for."""
    pooled = method in {"binomial_tail", "clt_wald", "wilson"}
    wrong = ""
    if pooled and data.correct is None:
        wrong = "is for right and wrong answers only; ask for chernoff_kl"
    elif pooled and not data.fixed and not data.single:
        wrong = "would pool several samples of a problem, which are not independent; ask for chernoff_kl"
    elif method in {"binomial_tail", "chernoff_kl", "clt_wald", "wilson"} and data.fixed and not data.equal:
        wrong = "needs as many samples of each problem, or its count estimates another mean; ask for hoeffding"
    elif method == "binomial_tail_one_sample" and (data.fixed or data.one is None):
        wrong = "is for the population of problems and right and wrong answers"
    elif method == "cluster_t" and (data.fixed or len(data.means) < 2):
        wrong = "is for the population of problems, and needs two"
    if wrong:
        raise AnalysisError("methods", f"{method} {wrong}")


def risk_upper(method: BenchmarkMethod, data: Data, delta: float) -> float:
    """Upper limit on the risk, the share of wrong answers."""
    n = int(data.samples.sum()) if data.fixed else len(data.means)
    q = float(1 - data.means.mean())
    if method == "binomial_tail":
        assert data.correct is not None
        errors = int(data.samples.sum() - data.correct.sum())
        tail = tails.pooled_binomial_upper if data.fixed else tails.binomial_tail_upper
        return tail(errors, n, delta)
    if method == "binomial_tail_one_sample":
        assert data.one is not None
        return tails.binomial_tail_upper(len(data.one) - int(data.one.sum()), len(data.one), delta)
    if method == "hoeffding" and data.fixed:
        return tails.hoeffding_unequal_upper(q, data.samples.tolist(), delta)
    if method == "cluster_t":
        return tails.cluster_t_upper(1 - data.means, delta)
    formulas: dict[str, Callable[[float, int, float], float]] = {
        "chernoff_kl": tails.chernoff_upper,
        "hoeffding": tails.hoeffding_upper,
        "clt_wald": tails.wald_upper,
        "wilson": tails.wilson_upper,
    }
    return formulas[method](q, n, delta)


def mirrored(data: Data) -> Data:
    """Right and wrong exchanged: an upper limit on risk there is one on accuracy here."""
    correct = None if data.correct is None else data.samples - data.correct
    return Data(1 - data.means, data.samples, correct, None if data.one is None else 1 - data.one, data.fixed)


def accuracy_bound(method: BenchmarkMethod, data: Data, delta: float, side: str) -> AccuracyBound:
    """One method's limits, each failing with probability at most `delta` if it is certified."""
    lower = 0.0 if side == "upper" else 1 - risk_upper(method, data, delta)
    upper = 1.0 if side == "lower" else risk_upper(method, mirrored(data), delta)
    n = len(data.means)
    assumes = warning = None
    if method == "binomial_tail_one_sample":
        assumes = "the seed, which draws the sample of each problem that counts, was fixed before the results"
    if method in {"clt_wald", "wilson"}:
        warning = f"an approximation: under-covers at n={n}" if n < CLT_PROBLEMS else "an approximation, not a bound"
    if method == "cluster_t":
        warning = "an estimate over problems, not a bound"
    certified = method in CERTIFIED
    return AccuracyBound(method=method, lower=lower, upper=upper, certified=certified, assumes=assumes, warning=warning)


def warnings_for(request: BenchmarkBoundsRequest, data: Data, chosen: list[BenchmarkMethod]) -> list[Notice]:
    """What a reader must know beside the assumptions."""
    found: list[Notice] = []
    if {"clt_wald", "wilson"} & set(chosen) and len(data.means) < CLT_PROBLEMS:
        message = f"clt_wald and wilson do not cover with {len(data.means)} problems; quote {chosen[0]}"
        found.append(Notice(code="small_sample", message=message))
    if not data.fixed and not data.single:
        message = "several samples of a problem are not independent: the bounds count problems, not samples"
        found.append(Notice(code="clustered_samples", message=message))
    if not CERTIFIED & set(chosen):
        found.append(Notice(code="no_certificate", message="none of the methods asked for is a proved bound"))
    return found


def paired_test(request: BenchmarkBoundsRequest, means: np.ndarray) -> PairedTest | None:
    """The sign test against a baseline on the same problems."""
    if request.baseline_results is None:
        return None
    baseline = problem_means(request.baseline_results, "baseline_results")
    theirs = dict(zip((one.problem_id for one in request.baseline_results), baseline, strict=True))
    ids = [one.problem_id for one in request.results]
    if set(ids) != set(theirs):
        missing = len(set(ids) ^ set(theirs))
        raise AnalysisError("baseline_results", f"must list the same problem ids as results; {missing} differ")
    signs = np.sign(means - np.array([theirs[name] for name in ids]))
    wins, losses = int((signs > 0).sum()), int((signs < 0).sum())
    p_value = tails.sign_test(wins, losses)
    return PairedTest(wins=wins, losses=losses, ties=len(means) - wins - losses, p_value_one_sided=p_value)


def draw(request: BenchmarkBoundsRequest, response: BenchmarkBounds) -> "Figure":
    """Each method's interval on one axis, the accuracy as a line, estimates dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 1.2 + 0.45 * len(response.bounds)), layout="constrained")
    axes = figure.subplots()
    for row, bound in enumerate(response.bounds):
        style, colour = ("-", "C0") if bound.certified else ("--", "C1")
        axes.plot([bound.lower, bound.upper], [row, row], linestyle=style, color=colour, marker="|")
    axes.axvline(response.accuracy, color="0.5", linewidth=0.8)
    names = [bound.method.replace("_", " ") for bound in response.bounds]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlim=(-0.01, 1.01), xlabel="accuracy (dashed: an estimate, not a bound)")
    level = 100 * (1 - request.delta)
    axes.set_title(f"{response.num_problems} problems, {math.floor(level * 100) / 100:g} % {request.side}")
    return figure
