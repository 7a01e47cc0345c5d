"""Training under a density constraint: what `constrained-sparsity` names as its work. Runs in a process of its own.

gates   hard-concrete gates of all layers      mlp   a perceptron and its gates on a data set
train   cooper's updates, restarts put back    lm    the served model, frozen, with gates on heads and channels
"""

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from service.analysis.constrained_sparsity.check import check, targets
from service.analysis.constrained_sparsity.schema import Mlp, ServedLm, SparsityRequest, SparsityResponse
from service.analysis.frame import AnalysisError, Context

if TYPE_CHECKING:
    from service.analysis.torch_jobs.sparsity.report import Parts


def compute(request: SparsityRequest, context: Context) -> SparsityResponse:
    """Train, and tell what was reached."""
    check(request)
    try:
        from service.analysis.torch_jobs.sparsity.report import respond
    except ImportError as error:
        message = f"needs torch and cooper on the server: pip install powercut[analysis] ({error.name} is missing)"
        raise AnalysisError("model", message, status=501, code="no_torch") from None
    return respond(request, context, train_model(request, context))


def train_model(request: SparsityRequest, context: Context) -> "Parts":
    """The trained gates and what to say of them."""
    if isinstance(request.model, Mlp):
        from service.analysis.torch_jobs.sparsity.mlp import train_mlp

        assert request.dataset is not None
        return train_mlp(request, request.model, request.dataset, context)
    from service.analysis.torch_jobs.sparsity.lm import train_lm

    assert isinstance(request.model, ServedLm)
    return train_lm(request, request.model, context)


def draw(request: SparsityRequest, response: SparsityResponse) -> Figure:
    """Density and multipliers on the way, and the density of each layer."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(*zip(*response.density_trace, strict=True), label="expected density")
    wanted = sum(response.target_density) / len(response.target_density)
    left.axhline(wanted, color="black", linestyle="--", label="target")
    left.set(xlabel="step", ylabel="density", ylim=(0, 1))
    costs = left.twinx()
    costs.plot(*zip(*response.multipliers.trace, strict=True), color="C1", linewidth=0.8)
    costs.set(ylabel="sum of multipliers")
    left.legend()
    places = range(len(response.layer_density))
    right.bar(places, response.layer_density)
    if request.constraint.scope == "layer":
        right.step(places, targets(request, len(places)), where="mid", color="black", linestyle="--")
    right.set(xlabel="gated layer", ylabel="expected density", ylim=(0, 1), title=f"{response.expected_density:.4f}")
    return figure
