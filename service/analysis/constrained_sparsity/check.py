"""What is refused before anything is trained, and the defaults of each kind of model."""

from itertools import pairwise
from typing import NamedTuple

from service.analysis.constrained_sparsity.gates import floor, initial_density
from service.analysis.constrained_sparsity.schema import Controller, Dataset, Mlp, SparsityRequest
from service.analysis.frame import AnalysisError, Notice

MAX_CELLS = 4_000_000
MAX_WORK = 2e13
"""Weights × rows of a batch × steps × trainings of an mlp: about an hour on one core."""
MAX_LM_TOKENS = 4_000_000
"""Tokens that a language model may be trained on, repetitions counted."""


class Rates(NamedTuple):
    """The optimizer's settings, none of them left open."""

    learning_rate: float
    gate_learning_rate: float
    dual_learning_rate: float
    num_steps: int
    batch_size: int
    controller: Controller


MLP_RATES = Rates(1e-3, 1e-2, 0.1, 4000, 128, "ascent")
LM_RATES = Rates(0.0, 2e-2, 1.0, 3000, 4, "proportional_integral")
MLP_DROP_RATE, LM_DROP_RATE = 0.3, 0.05
"""Frozen weights cannot learn to bear the noise of half-open gates: those of a language model begin almost open."""
GATES_PER_DUAL_RATE = 264
"""A gate feels a multiplier by its share of the parameters: with 264 gates the rate 1 was right, with more it grows."""


def rates(request: SparsityRequest) -> Rates:
    """The request's settings over the defaults of its kind of model."""
    given = request.optimizer.model_dump(exclude_none=True)
    return (MLP_RATES if isinstance(request.model, Mlp) else LM_RATES)._replace(**given)


def drop_rate(request: SparsityRequest) -> float:
    """ρ: as given, or what the kind of model needs."""
    default = MLP_DROP_RATE if isinstance(request.model, Mlp) else LM_DROP_RATE
    return default if request.gates.drop_rate is None else request.gates.drop_rate


def check(request: SparsityRequest) -> None:
    """Raise `AnalysisError` for a request that cannot be trained."""
    check_targets(request)
    check_controller(request)
    if isinstance(request.model, Mlp):
        check_mlp(request.model, request)
    else:
        check_lm(request)


def check_targets(request: SparsityRequest) -> None:
    """Targets that gates within their clamp cannot reach are refused."""
    lowest = floor(request.gates.temperature)
    targets = request.constraint.target_density
    listed: list[float] = [*targets] if isinstance(targets, list) else [targets]
    for target in listed:
        if target < lowest:
            message = f"{target:g} cannot be reached: gates are held so that no density falls below {lowest:.4f}"
            raise AnalysisError("constraint.target_density", message, code="infeasible_target")
    if request.constraint.scope == "model" and isinstance(targets, list):
        raise AnalysisError("constraint.target_density", "one number, for the scope is the model")


def check_controller(request: SparsityRequest) -> None:
    """What belongs to ascent is refused where another controller sets the multipliers, and the other on an mlp."""
    if rates(request).controller == "ascent":
        return
    if isinstance(request.model, Mlp):
        message = "proportional_integral is for a served_lm: where weights learn beside the gates it falls far below"
        raise AnalysisError("optimizer.controller", f"{message} its target; give ascent")
    if request.optimizer.dual_learning_rate is not None:
        message = "only of controller ascent: proportional_integral finds its gains itself"
        raise AnalysisError("optimizer.dual_learning_rate", message)
    if request.dual_restarts is not None:
        raise AnalysisError("dual_restarts", "only of controller ascent: proportional_integral needs none")


def restarts(request: SparsityRequest) -> bool:
    """Whether a met constraint's multiplier goes back to 0."""
    return rates(request).controller == "ascent" and request.dual_restarts is not False


def check_mlp(model: Mlp, request: SparsityRequest) -> None:
    """The data set's form, the number of targets, and the size of the work."""
    if request.dataset is None:
        raise AnalysisError("dataset", "an mlp needs one")
    width, classes = check_dataset(request.dataset)
    sizes = [width, *model.hidden_sizes, classes]
    check_target_count(request, len(sizes) - 1)
    weights = sum(a * b for a, b in pairwise(sizes))
    settings = rates(request)
    trainings = 1 + request.compare_dense + len(request.baseline_penalties)
    if (work := float(weights) * settings.batch_size * settings.num_steps * trainings) > MAX_WORK:
        message = f"{weights} weights × batch × steps × {trainings} trainings are {work:.2g}; at most {MAX_WORK:.2g}"
        raise AnalysisError("optimizer.num_steps", message, status=413)


def check_dataset(dataset: Dataset) -> tuple[int, int]:
    """Number of features and of classes."""
    width = len(dataset.features[0])
    if any(len(row) != width for row in dataset.features):
        raise AnalysisError("dataset.features", f"every row needs {width} numbers, as the first has")
    if len(dataset.labels) != len(dataset.features):
        message = f"{len(dataset.labels)} labels for {len(dataset.features)} rows"
        raise AnalysisError("dataset.labels", message)
    if width * len(dataset.features) > MAX_CELLS:
        raise AnalysisError("dataset.features", f"at most {MAX_CELLS} numbers", status=413)
    classes = max(dataset.labels) + 1
    if classes < 2:
        raise AnalysisError("dataset.labels", "at least two classes")
    if dataset.test_fraction and not 1 <= int(dataset.test_fraction * len(dataset.labels)) < len(dataset.labels) - 1:
        raise AnalysisError("dataset.test_fraction", "must leave rows on both sides")
    return width, classes


def check_target_count(request: SparsityRequest, layers: int) -> None:
    """One target, or one for each gated layer."""
    targets = request.constraint.target_density
    if isinstance(targets, list) and len(targets) not in {1, layers}:
        raise AnalysisError("constraint.target_density", f"{len(targets)} targets for {layers} gated layers")


def check_lm(request: SparsityRequest) -> None:
    """Only what a frozen model can use, and not for days."""
    assert not isinstance(request.model, Mlp)
    if request.dataset is not None:
        raise AnalysisError("dataset", "the served model is trained on model.prompts")
    if request.optimizer.learning_rate is not None:
        raise AnalysisError("optimizer.learning_rate", "the served model's weights are frozen")
    if request.baseline_penalties:
        raise AnalysisError("baseline_penalties", "only for an mlp")
    if len(set(request.model.groups)) != len(request.model.groups):
        raise AnalysisError("model.groups", "names a group twice")
    settings = rates(request)
    tokens = settings.num_steps * settings.batch_size * request.model.context_tokens
    if tokens > MAX_LM_TOKENS:
        message = f"steps × batch × context_tokens are {tokens}; at most {MAX_LM_TOKENS} tokens"
        raise AnalysisError("optimizer.num_steps", message, status=413)


def targets(request: SparsityRequest, layers: int) -> list[float]:
    """One target for the model, or one a layer."""
    given = request.constraint.target_density
    if request.constraint.scope == "model":
        assert not isinstance(given, list)
        return [given]
    listed: list[float] = [*given] if isinstance(given, list) else [given]
    return listed if len(listed) == layers else listed * layers


def notices(request: SparsityRequest) -> list[Notice]:
    """Targets that ask for nothing."""
    given = request.constraint.target_density
    start = initial_density(drop_rate(request), request.gates.temperature)
    if min(given) >= start if isinstance(given, list) else given >= start:
        message = f"the density starts at {start:.3f}, which meets every target: nothing has to be pruned"
        return [Notice(code="trivial_target", message=message)]
    return []
