"""Computes and draws `associative-memory`."""

from typing import TYPE_CHECKING

import numpy as np

from service.analysis.associative_memory.capacity import Capacity, Memory, NoCapacity, predict
from service.analysis.associative_memory.fitting import ITERATIONS, TOLERANCE, fit
from service.analysis.associative_memory.given import given_facts
from service.analysis.associative_memory.instances import Facts, Shared, draw_decoupled, draw_shared
from service.analysis.associative_memory.mechanism import score
from service.analysis.associative_memory.schema import (
    DECOUPLED_LIMIT,
    SHARED_LIMIT,
    SOLVED_DIMENSION_LIMIT,
    AssociativeMemoryReply,
    AssociativeMemoryRequest,
    CapacityReply,
    FitReply,
    SimulationReply,
)
from service.analysis.associative_memory.solver import find, find_factored, hebbian
from service.analysis.frame import AnalysisError, Context, Notice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIMENSION, TRIALS, SAMPLES = 16, 20, 20_000
AUTO_LOAD = 0.95
ASYMPTOTIC, HEBBIAN = 0.5, 0.125
FEW_FACTS = 3
ISOTROPIC_SHARE = 0.7
"""Of the participation ratio that isotropic vectors would have."""
METHODS = {
    "theory": "capacity by the conic formula, with E by isotonic pooling, mean field or least distances",
    "simulate": "L-BFGS on the squared hinge, stopped by a proof",
    "fit": "L-BFGS on the squared hinge with a falling penalty",
}


def compute(request: AssociativeMemoryRequest, context: Context) -> AssociativeMemoryReply:
    """The prediction, and what the mode asks beside it.

    Raises:
        AnalysisError: Sizes disagree or are over their limits, or vectors cannot be facts.
    """
    instance = None if request.inputs is None else given_facts(request)
    sizes = memory(request) if instance is None else memory_of(instance, request)
    if request.mode != "theory" and max(sizes.input_dim, sizes.output_dim) > SOLVED_DIMENSION_LIMIT:
        raise AnalysisError("input_dim", f"at most {SOLVED_DIMENSION_LIMIT} with mode: {request.mode}")
    context.report(0.0, "capacity")
    key = np.random.SeedSequence([0 if context.seed is None else context.seed, 1])
    capacity = _predict(sizes, request, key)
    number, simulation, found = request.num_facts, None, None
    if request.mode != "theory":
        number = len(instance.inputs) if instance is not None else number or _auto(capacity)
        check_size(request, number, sizes.targets or number, sizes.output_dim)
    if request.mode == "simulate":
        assert number is not None
        simulation = simulate(request, sizes, number, context)
    if request.mode == "fit":
        assert number is not None
        instance = instance or draw_facts(request, sizes, number, context.rng)
        found = fit(request, instance, sizes, context)
    return AssociativeMemoryReply(
        method=METHODS[request.mode],
        seed=context.seed,
        warnings=notices(sizes, number, found),
        derived=True,
        theory=None if capacity is None else _capacity_reply(capacity, number),
        simulation=simulation,
        fit=found,
    )


def _auto(capacity: Capacity | None) -> int:
    assert capacity is not None
    return max(2, int(AUTO_LOAD * capacity.facts))


def _predict(sizes: Memory, request: AssociativeMemoryRequest, key: np.random.SeedSequence) -> Capacity | None:
    """The prediction; None if a fit of facts that are there anyway can do without."""
    try:
        return predict(sizes, request.mc_samples or SAMPLES, key)
    except NoCapacity:
        if request.mode == "fit" and (request.num_facts or request.inputs):
            return None
        raise AnalysisError("margin", "is so large that not even two facts are held") from None


def _capacity_reply(capacity: Capacity, facts: int | None) -> CapacityReply:
    return CapacityReply.model_validate(
        {
            "capacity": capacity.facts,
            "load": None if facts is None else facts / capacity.facts,
            "expected_sq_distance": capacity.distance.mean,
            "capacity_constant": capacity.constant,
            "asymptotic_constant": ASYMPTOTIC * capacity.rank_share,
            "rank_factor": capacity.rank_share,
            "hebbian_constant": HEBBIAN,
            "method": capacity.method,
            "std_error": capacity.facts * capacity.distance.std_error / capacity.distance.mean,
        }
    )


def notices(sizes: Memory, facts: int | None, found: FitReply | None) -> list[Notice]:
    """What the reader must know."""
    text = "at sizes like these p log p/d² is 0.7 to 1.3; the limit 1/2 belongs to sizes that no machine holds"
    notes = [Notice(code="slow_limit", message=text)]
    if sizes.targets is not None and sizes.targets <= sizes.output_dim:
        text = "no more targets than output dimensions: only K − 1 of them count, and the models differ"
        notes.append(Notice(code="few_targets", message=text))
    if facts is not None and facts < FEW_FACTS * sizes.input_dim:
        text = "fewer than 3 facts an input dimension: the predicted margin may be off by a fifth"
        notes.append(Notice(code="few_facts", message=text))
    if found is not None:
        count = facts or 1
        fills = [(found.input_participation, sizes.input_dim), (found.target_participation, sizes.output_dim)]
        if any(filled < ISOTROPIC_SHARE * size / (1 + size / count) for filled, size in fills):
            text = "the vectors are not isotropic; the prediction is for vectors that are, the fit is for yours"
            notes.append(Notice(code="anisotropic", message=text))
        if found.status == "undecided":
            text = "no proof either way; a search with hidden_dim or margin, and weights of your own, give none"
            notes.append(Notice(code="undecided", message=text))
    return notes


def memory(request: AssociativeMemoryRequest) -> Memory:
    """Sizes asked for, with defaults."""
    columns = request.input_dim or DIMENSION
    rows = request.output_dim or columns
    hidden = min(rows, columns) if request.hidden_dim is None else request.hidden_dim
    if hidden > min(rows, columns):
        raise AnalysisError("hidden_dim", f"at most min(input_dim, output_dim) = {min(rows, columns)}")
    return Memory(columns, rows, hidden, request.num_targets, request.margin or 0.0)


def memory_of(instance: Shared, request: AssociativeMemoryRequest) -> Memory:
    """Sizes of the facts given."""
    columns, rows = instance.inputs.shape[1], instance.targets.shape[1]
    hidden = min(rows, columns) if request.hidden_dim is None else request.hidden_dim
    if hidden > min(rows, columns):
        raise AnalysisError("hidden_dim", f"at most {min(rows, columns)}, the smaller dimension")
    return Memory(columns, rows, hidden, len(instance.targets), request.margin or 0.0)


def check_size(request: AssociativeMemoryRequest, facts: int, targets: int, output_dim: int) -> None:
    """Refuse instances that do not fit into memory and patience."""
    if request.model == "decoupled":
        size, limit, what = facts * targets * output_dim, DECOUPLED_LIMIT, "num_facts × num_targets × output_dim"
    else:
        size, limit, what = facts * targets, SHARED_LIMIT, "num_facts × num_targets"
    if size > limit:
        raise AnalysisError("num_facts", f"{what} is {size}; at most {limit}")


def draw_facts(request: AssociativeMemoryRequest, sizes: Memory, facts: int, rng: np.random.Generator) -> Facts:
    """A Gaussian instance."""
    targets = sizes.targets or facts
    if request.model == "decoupled":
        return draw_decoupled(facts, targets, sizes.input_dim, sizes.output_dim, rng)
    identity = sizes.targets is None
    return draw_shared(facts, targets, sizes.input_dim, sizes.output_dim, rng, identity=identity)


def simulate(request: AssociativeMemoryRequest, sizes: Memory, facts: int, context: Context) -> SimulationReply:
    """Shares over instances."""
    trials, iterations = request.trials or TRIALS, request.max_iter or ITERATIONS
    full = sizes.hidden_dim >= min(sizes.input_dim, sizes.output_dim)
    statuses: list[str] = []
    residuals: list[float] = []
    recalls: list[float] = []
    for trial in range(trials):
        context.report(trial / trials, f"instance {trial + 1} of {trials}")
        instance = draw_facts(request, sizes, facts, context.rng)
        found = (
            find(instance, iterations, request.tolerance or TOLERANCE)
            if full
            else find_factored(instance, sizes.hidden_dim, iterations, context.rng)
        )
        statuses.append(found.status)
        residuals += [] if found.residual is None else [found.residual]
        recalls.append(score(instance, hebbian(instance)).recall)
    return SimulationReply(
        trials=trials,
        num_facts=facts,
        feasible_fraction=statuses.count("feasible") / trials,
        infeasible_fraction=statuses.count("infeasible") / trials,
        undecided_fraction=statuses.count("undecided") / trials,
        max_certificate_residual=max(residuals, default=None),
        hebbian_fraction=recalls.count(1.0) / trials,
        hebbian_recall=float(np.mean(recalls)),
    )


def draw(request: AssociativeMemoryRequest, response: AssociativeMemoryReply) -> "Figure":
    """The prediction's curve; or shares of instances; or scores against thresholds beside the spectrum."""
    from matplotlib.figure import Figure

    from service.analysis.associative_memory import pictures

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    if response.fit is not None:
        pictures.draw_fit(figure, response.fit)
    elif response.simulation is not None:
        pictures.draw_shares(figure, response.simulation)
    else:
        assert response.theory is not None
        pictures.draw_limit(figure, response.theory)
    return figure
