"""`positive-query-learning` for halfspaces."""

import math
from collections.abc import Callable

import numpy as np
from scipy.stats import beta

from service.analysis.frame import Context, Notice
from service.analysis.positive_query_learning import exact, halfspace
from service.analysis.positive_query_learning.dialogue import Dialogue, NeedsAnswers, Query
from service.analysis.positive_query_learning.exact import Points
from service.analysis.positive_query_learning.given import (
    check_positives,
    conflict,
    dialogue,
    halfspace_points,
    halfspace_target,
)
from service.analysis.positive_query_learning.halfspace import Learned, Round
from service.analysis.positive_query_learning.schema import (
    HypothesisReply,
    PositiveQueryReply,
    PositiveQueryRequest,
    QueryReply,
    RoundReply,
    TranscriptReply,
)

MAX_ROUNDS, HOLDOUT = 200, 0.2
EXACT_RULE = "x is accepted if (x,1) = Σα(p,1) − Σβ(q,1) with rational α, β ≥ 0 over the transcript's points"
FAST_RULE = "x is accepted if a round's region holds it, in float64"


def learn(request: PositiveQueryRequest, context: Context) -> PositiveQueryReply:
    """Locate, certify, repeat; then judge held-out positives."""
    sample = halfspace_points(request.positive_examples, "positive_examples")
    width = sample.shape[1]
    target = None if request.oracle is None else halfspace_target(request.oracle, width)
    check_positives(sample.tolist(), target)
    classify = halfspace_points(request.classify or [], "classify", width)
    training, held_out = split(request, sample, context.rng)
    talk, learned = dialogue(request, target), Learned()
    pending = run(request, training, talk, learned, context)
    talk.finish(len(pending))
    kept, negatives = labelled(training, talk, learned)
    if exact.contradiction(np.vstack([sample, kept]), negatives) is not None:
        raise conflict("answers", "no halfspace holds all positives and none of the negatives")
    if pending:
        return _waiting(request, context, pending, talk, learned, len(training))
    judge = judge_of(request, kept, negatives, learned)
    judged = []
    for number, point in enumerate(held_out):
        context.report(0.6 + 0.4 * number / max(1, len(held_out)), "held-out positives")
        judged.append(judge(point))
    return PositiveQueryReply(
        method="rounds of isotropic position, bisection and certification (derived)",
        seed=context.seed,
        warnings=notices(request, learned, len(held_out)),
        status="done",
        queries=[],
        rounds_done=len(learned.rounds),
        hypothesis=describe(request, learned),
        queries_used=len(talk.asked),
        compression_size=len(learned.kept) + len(talk.asked),
        positives_used=len(sample),
        positives_needed=None,
        false_negative_upper_bound=miss_bound(judged.count(False), len(judged), request.delta),
        false_positives="none (certified)" if _is_exact(request) else "none but for float64's rounding",
        transcript=TranscriptReply(positives=kept.tolist(), negatives=negatives.tolist()),
        classified=None if request.classify is None else [judge(point) for point in classify],
    )


def split(request: PositiveQueryRequest, sample: Points, rng: np.random.Generator) -> tuple[Points, Points]:
    """Positives to learn from, and ln(1/δ)/ε of them, or the share allowed, to judge by."""
    share = HOLDOUT if request.holdout_fraction is None else request.holdout_fraction
    wanted = math.ceil(math.log(1 / request.delta) / request.epsilon)
    count = min(int(share * len(sample)), wanted, len(sample) - 1)
    order = rng.permutation(len(sample))
    return sample[order[count:]], sample[order[:count]]


def run(
    request: PositiveQueryRequest, training: Points, talk: Dialogue, learned: Learned, context: Context
) -> list[Query]:
    """Learn as far as the answers go; the queries that are missing then."""
    lifted_dimension = training.shape[1] + 1
    try:
        halfspace.learn(
            training,
            talk,
            context.rng,
            subsample=request.subsample or 4 * lifted_dimension**2,
            width=request.bisection_width or 1 / (4 * lifted_dimension),
            max_rounds=request.max_rounds or MAX_ROUNDS,
            learned=learned,
            report=lambda fraction: context.report(0.6 * fraction, "rounds"),
        )
    except NeedsAnswers as missing:
        return missing.queries
    return []


def labelled(training: Points, talk: Dialogue, learned: Learned) -> tuple[Points, Points]:
    """Positives (kept sample points, then queries answered yes) and negatives."""
    width = training.shape[1]
    yes = np.array([one.point for one in talk.asked if one.label], dtype=float).reshape(-1, width)
    no = np.array([one.point for one in talk.asked if not one.label], dtype=float).reshape(-1, width)
    return np.vstack([training[learned.kept], yes]), no


def judge_of(
    request: PositiveQueryRequest, positives: Points, negatives: Points, learned: Learned
) -> Callable[[Points], bool]:
    """The hypothesis as a function of one point."""
    if _is_exact(request):
        return lambda point: exact.certify(positives, negatives, point) is not None
    return lambda point: bool(learned.accepts(point[None])[0])


def _is_exact(request: PositiveQueryRequest) -> bool:
    return request.exact_certificate is not False


def miss_bound(misses: int, judged: int, delta: float) -> float:
    """Exact binomial upper bound on the share of positives refused."""
    return 1.0 if misses >= judged else float(beta.ppf(1 - delta, misses + 1, judged - misses))


def describe(request: PositiveQueryRequest, learned: Learned) -> HypothesisReply:
    """The hypothesis as replied."""
    rule = EXACT_RULE if _is_exact(request) else FAST_RULE
    return HypothesisReply(kind="halfspace", rule=rule, rounds=[_round(one) for one in learned.rounds])


def _round(one: Round) -> RoundReply:
    return RoundReply(
        dimension=len(one.center),
        sample_points=len(one.kept),
        queries=one.queries,
        newly_certified=one.certified,
        center=(one.center @ one.frame.forward).tolist(),
        directions=(one.across.T @ one.frame.forward).tolist(),
        low=[None if math.isinf(number) else number for number in one.low.tolist()],
        high=[None if math.isinf(number) else number for number in one.high.tolist()],
    )


def notices(request: PositiveQueryRequest, learned: Learned, judged: int) -> list[Notice]:
    """What the reader must know."""
    found = []
    if judged < math.log(1 / request.delta) / request.epsilon:
        text = "too few positives are held out to show a miss rate of epsilon with confidence 1 − delta"
        found.append(Notice(code="few_held_out", message=text))
    if learned.rest:
        what = "max_queries" if learned.budget_ended else "max_rounds"
        found.append(Notice(code="budget_ended", message=f"{what} left {learned.rest} positives uncertified"))
    if not _is_exact(request):
        text = "without exact certificates a point at the boundary may pass by float64's rounding"
        found.append(Notice(code="float_test", message=text))
    return found


def _waiting(
    request: PositiveQueryRequest,
    context: Context,
    pending: list[Query],
    talk: Dialogue,
    learned: Learned,
    training: int,
) -> PositiveQueryReply:
    return waiting(
        "rounds of isotropic position, bisection and certification (derived)",
        context,
        pending,
        talk,
        rounds=len(learned.rounds),
        positives=training,
    )


def waiting(
    method: str, context: Context, pending: list[Query], talk: Dialogue, *, rounds: int, positives: int
) -> PositiveQueryReply:
    """The reply that asks."""
    return PositiveQueryReply(
        method=method,
        seed=context.seed,
        warnings=[],
        status="needs_queries",
        queries=[QueryReply(query_id=one.query_id, point=one.point) for one in pending],
        rounds_done=rounds,
        hypothesis=None,
        queries_used=len(talk.asked),
        compression_size=None,
        positives_used=positives,
        positives_needed=None,
        false_negative_upper_bound=None,
        false_positives=None,
        transcript=None,
        classified=None,
    )
