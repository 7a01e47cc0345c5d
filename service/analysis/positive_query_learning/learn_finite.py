"""`positive-query-learning` for a finite class given in full."""

import math

from service.analysis.frame import AnalysisError, Context, Notice
from service.analysis.positive_query_learning import finite
from service.analysis.positive_query_learning.dialogue import NeedsAnswers
from service.analysis.positive_query_learning.given import (
    check_positives,
    conflict,
    dialogue,
    finite_class,
    finite_target,
    members,
)
from service.analysis.positive_query_learning.learn_halfspace import waiting
from service.analysis.positive_query_learning.schema import (
    HypothesisReply,
    PositiveQueryReply,
    PositiveQueryRequest,
    TranscriptReply,
)

METHOD = "splitting queries until the sample has a small certificate (derived)"


def learn(request: PositiveQueryRequest, context: Context) -> PositiveQueryReply:
    """Ask until a certificate is small enough for epsilon and delta, or nothing is left to ask."""
    assert request.domain_size is not None
    assert request.concepts is not None
    domain, count = request.domain_size, len(request.positive_examples)
    known = finite_class(domain, request.concepts)
    examples = members(request.positive_examples, "positive_examples", domain)
    target = None if request.oracle is None else finite_target(request.oracle, known)
    check_positives(examples, target)
    classify = members(request.classify or [], "classify", domain)
    sample = sum({1 << example for example in examples})
    if not known.members(sample):
        raise AnalysisError("positive_examples", "no concept holds all of them")
    enough = (request.epsilon * count - math.log(1 / request.delta)) / math.log(2 * domain)
    talk = dialogue(request, target)
    try:
        found = finite.learn(known, sample, talk, max(0, math.floor(enough)))
    except NeedsAnswers as missing:
        talk.finish(len(missing.queries))
        return waiting(METHOD, context, missing.queries, talk, rounds=len(talk.asked), positives=count)
    talk.finish()
    if not found.consistent:
        raise conflict("answers", "no concept fits the positives and the answers")
    size = len(talk.asked) + found.kept
    bound = min(1.0, (size * math.log(2 * domain) + math.log(1 / request.delta)) / count)
    elements = list(finite.elements(known.closure(found.consistent)))
    yes = [one.point for one in talk.asked if one.label]
    no = [one.point for one in talk.asked if not one.label]
    return PositiveQueryReply(
        method=METHOD,
        seed=context.seed,
        warnings=_notices(request, bound, budget_ended=found.budget_ended),
        status="done",
        queries=[],
        rounds_done=len(talk.asked),
        hypothesis=HypothesisReply(kind="finite", rule="one of the elements", elements=elements),
        queries_used=len(talk.asked),
        compression_size=size,
        positives_used=count,
        positives_needed=math.ceil((size * math.log(2 * domain) + math.log(1 / request.delta)) / request.epsilon),
        false_negative_upper_bound=bound,
        false_positives="none (certified)",
        transcript=TranscriptReply(positives=[*sorted(set(examples)), *yes], negatives=no),
        classified=None if request.classify is None else [one in elements for one in classify],
    )


def _notices(request: PositiveQueryRequest, bound: float, *, budget_ended: bool) -> list[Notice]:
    found = []
    if bound > request.epsilon:
        text = "there are too few positives for epsilon and delta; the bound stated holds instead"
        found.append(Notice(code="few_positives", message=text))
    if budget_ended:
        found.append(Notice(code="budget_ended", message="max_queries ended the questions early"))
    return found
