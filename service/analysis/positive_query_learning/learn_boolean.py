"""`positive-query-learning` for k-CNF and monotone DNF (Valiant 1984)."""

import math

from service.analysis.frame import AnalysisError, Context, Notice
from service.analysis.positive_query_learning import boolean
from service.analysis.positive_query_learning.boolean import Vectors
from service.analysis.positive_query_learning.dialogue import Asked, NeedsAnswers
from service.analysis.positive_query_learning.given import boolean_target, check_positives, conflict, dialogue, vectors
from service.analysis.positive_query_learning.learn_halfspace import waiting
from service.analysis.positive_query_learning.schema import (
    CLAUSES_LIMIT,
    HypothesisReply,
    PositiveQueryReply,
    PositiveQueryRequest,
    TranscriptReply,
)

WIDTH = 2
CERTAIN = "none (certified)"


def learn_cnf(request: PositiveQueryRequest, context: Context) -> PositiveQueryReply:
    """All clauses that no positive falsifies."""
    sample = vectors(request.positive_examples, "positive_examples")
    variables, width = sample.shape[1], request.k or WIDTH
    count = count_clauses(variables, width)
    if count > CLAUSES_LIMIT:
        raise AnalysisError("k", f"{count} clauses of {width} of {variables} variables; at most {CLAUSES_LIMIT}")
    target = None if request.oracle is None else boolean_target(request.oracle, variables)
    check_positives(sample.astype(float).tolist(), target)
    classify = vectors(request.classify or [], "classify", variables)
    context.report(0.1, "clauses")
    clauses = boolean.learn_cnf(sample, width)
    hypothesis = HypothesisReply(kind="k_cnf", rule="every clause holds", clauses=[list(clause) for clause in clauses])
    judged = None if request.classify is None else boolean.satisfies(clauses, classify).tolist()
    return _done(request, context, "k-CNF from positives alone", sample, hypothesis, count, [], judged)


def count_clauses(variables: int, width: int) -> int:
    """Σ_{j ≤ k} C(t, j) 2^j."""
    return sum(math.comb(variables, size) * 2**size for size in range(1, width + 1))


def learn_dnf(request: PositiveQueryRequest, context: Context) -> PositiveQueryReply:
    """A term from each positive that the terms so far do not cover."""
    sample = vectors(request.positive_examples, "positive_examples")
    variables, most = sample.shape[1], request.num_terms or 1
    target = None if request.oracle is None else boolean_target(request.oracle, variables)
    check_positives(sample.astype(float).tolist(), target)
    classify = vectors(request.classify or [], "classify", variables)
    talk, terms, pending = dialogue(request, target), [], []
    complete = False
    try:
        complete = boolean.learn_dnf(sample, talk, terms, lambda fraction: context.report(fraction, "terms"))
    except NeedsAnswers as missing:
        pending = missing.queries
    talk.finish(len(pending))
    _check_monotone(sample, talk.asked)
    if len(terms) > most:
        raise conflict("answers", f"there are more than num_terms = {most} prime implicants")
    if pending:
        method = "monotone DNF by shrinking positives"
        return waiting(method, context, pending, talk, rounds=len(terms), positives=len(sample))
    hypothesis = HypothesisReply(kind="monotone_dnf", rule="some term's variables are all 1", terms=terms)
    judged = None if request.classify is None else boolean.covered(terms, classify).tolist()
    method = "monotone DNF by shrinking positives"
    reply = _done(request, context, method, sample, hypothesis, most, talk.asked, judged)
    if not complete:
        reply.false_negative_upper_bound = None
        text = "max_queries left positives that no term covers"
        reply.warnings.append(Notice(code="budget_ended", message=text))
    return reply


def _check_monotone(sample: Vectors, asked: list[Asked]) -> None:
    """No negative may lie above a positive."""
    yes = [vectors([one.point], "answers")[0] for one in asked if one.label]
    for one in asked:
        if not one.label:
            negative = vectors([one.point], "answers")[0]
            if any((negative >= positive).all() for positive in [*sample, *yes]):
                raise conflict("answers", f"query {one.query_id} is negative but lies above a positive")


def _done(
    request: PositiveQueryRequest,
    context: Context,
    method: str,
    sample: Vectors,
    hypothesis: HypothesisReply,
    mistakes: int,
    asked: list[Asked],
    classified: list[bool] | None,
) -> PositiveQueryReply:
    needed = boolean.samples_needed(mistakes, request.epsilon, request.delta)
    warnings = []
    if needed > len(sample):
        text = f"epsilon and delta need {needed} positives; these give the bound stated instead"
        warnings.append(Notice(code="few_positives", message=text))
    yes = [one.point for one in asked if one.label]
    kept = len(hypothesis.terms or []) if asked else min(len(sample), mistakes)
    return PositiveQueryReply(
        method=f"{method} (Valiant 1984)",
        seed=context.seed,
        warnings=warnings,
        status="done",
        queries=[],
        rounds_done=len(hypothesis.terms or []),
        hypothesis=hypothesis,
        queries_used=len(asked),
        compression_size=kept + len(asked),
        positives_used=len(sample),
        positives_needed=needed,
        false_negative_upper_bound=boolean.error_bound(mistakes, len(sample), request.delta),
        false_positives=CERTAIN,
        transcript=TranscriptReply(
            positives=[*request.positive_examples, *yes], negatives=[one.point for one in asked if not one.label]
        ),
        classified=classified,
    )
