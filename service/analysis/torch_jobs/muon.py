"""`torch.optim.Muon` on the counterexample: why its default does not show the floor, and what does.

Its default takes five Newton-Schulz steps with coefficients that do not converge: two unequal singular values come
out unequal, so the trace drifts. Coefficients that converge, with enough steps, give the polar factor and the floor.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from service.analysis.frame import AnalysisError, Context, Notice
from service.analysis.optimizer_convergence import certificates
from service.analysis.optimizer_convergence.descent import descend_diagonal
from service.analysis.optimizer_convergence.norms import RANK_TOLERANCE
from service.analysis.optimizer_convergence.objectives import DiagonalAbs
from service.analysis.optimizer_convergence.schedules import PolyakSchedule
from service.analysis.optimizer_convergence.schema import TorchMuonReply, TorchMuonRequest, TorchRun
from service.analysis.optimizer_convergence.work import describe_floor, thin

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORTHOGONALISERS = (((3.4445, -4.775, 2.0315), 5), ((1.5, -0.5, 0.0), 30), ((1.875, -1.25, 0.375), 20))
"""torch's default, and the cubic and quintic iterations that converge to the polar factor."""
UNEQUAL = (1.0, 0.3)
SLACK = 1e-3
"""torch iterates in bfloat16: a floor kept to this is kept."""


def load_torch() -> Any:
    """The library, imported only here.

    Raises:
        AnalysisError: It is not installed, or too old to have Muon.
    """
    try:
        import torch
        import torch.optim
    except ImportError:
        raise AnalysisError("torch", "is not installed on this server", status=503, code="no_torch") from None
    if not hasattr(torch.optim, "Muon"):
        raise AnalysisError("torch", "has no Muon here; 2.9 or newer has", status=503, code="no_torch")
    return torch


def compute(request: TorchMuonRequest, context: Context) -> TorchMuonReply:
    """The exact run and torch's, from one start with one list of rates."""
    torch = load_torch()
    assert not isinstance(request.schedule, PolyakSchedule)
    rates = request.schedule.rates(request.steps)
    floor, diagonal, c = certificates.adversarial(
        None, request.trace, rates, request.momentum, nesterov=request.nesterov
    )
    start, level = np.diag(diagonal), 0.0 if floor is None else floor.value
    exact = descend_diagonal(DiagonalAbs(c), start, rates, request.momentum, RANK_TOLERANCE, nesterov=request.nesterov)
    drift = float(np.trace(exact.last) - request.trace)
    runs = [_describe("exact polar factor", None, [1.0, 1.0], exact.losses, drift, level, request.max_points)]
    for number, orthogonaliser in enumerate(ORTHOGONALISERS):
        context.report((number + 0.5) / 3.5, "torch.optim.Muon")
        losses, drift = run_torch(torch, c, start, rates, request, orthogonaliser)
        values = singular_values(torch, orthogonaliser)
        runs.append(_describe("torch.optim.Muon", orthogonaliser, values, losses, drift, level, request.max_points))
    notice = "weight_decay is 0 here; torch's default of 0.1 pulls to this function's minimiser and would fake success"
    return TorchMuonReply(
        method="torch.optim.Muon beside the exact polar factor",
        seed=context.seed,
        warnings=[Notice(code="weight_decay_off", message=notice)],
        torch_version=str(torch.__version__),
        certificate=describe_floor(floor, start),
        runs=runs,
    )


def run_torch(
    torch: Any,
    c: float,
    start: NDArray[np.float64],
    rates: NDArray[np.floating],
    request: TorchMuonRequest,
    orthogonaliser: tuple[tuple[float, float, float], int],
) -> tuple[NDArray[np.float64], float]:
    """f(W_0) … f(W_T), and how far the trace moved."""
    coefficients, steps = orthogonaliser
    weights = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = torch.optim.Muon(
        [weights],
        lr=0.0,
        weight_decay=0.0,
        momentum=request.momentum,
        nesterov=request.nesterov,
        ns_coefficients=coefficients,
        ns_steps=steps,
    )
    objective = DiagonalAbs(c)
    losses = np.empty(len(rates) + 1)
    for step, rate in enumerate(rates.tolist()):
        losses[step], gradient = objective.evaluate(weights.detach().numpy())
        weights.grad = torch.from_numpy(gradient)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    last = weights.detach().numpy()
    losses[-1] = objective.evaluate(last)[0]
    return losses, float(np.trace(last) - np.trace(start))


def singular_values(torch: Any, orthogonaliser: tuple[tuple[float, float, float], int]) -> list[float]:
    """Of the direction that torch takes for diag(1, 0.3)."""
    coefficients, steps = orthogonaliser
    weights = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))
    optimizer = torch.optim.Muon(
        [weights], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False, ns_coefficients=coefficients, ns_steps=steps
    )
    weights.grad = torch.diag(torch.tensor(UNEQUAL, dtype=torch.float64))
    optimizer.step()
    return np.linalg.svd(weights.detach().numpy(), compute_uv=False).tolist()


def _describe(
    name: str,
    orthogonaliser: tuple[tuple[float, float, float], int] | None,
    values: list[float],
    losses: NDArray[np.float64],
    drift: float,
    floor: float,
    max_points: int,
) -> TorchRun:
    coefficients, steps = orthogonaliser or (None, None)
    return TorchRun(
        optimizer=name,
        ns_coefficients=None if coefficients is None else list(coefficients),
        ns_steps=steps,
        singular_values=values,
        loss=thin(losses, max_points),
        final=float(losses[-1]),
        trace_drift=drift,
        keeps_the_floor=bool(losses.min() >= floor - SLACK),
    )


def draw(request: TorchMuonRequest, response: TorchMuonReply) -> "Figure":
    """Loss against steps, a curve a run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for run in response.runs:
        label = run.optimizer if run.ns_steps is None else f"{run.optimizer}, {run.ns_coefficients}, {run.ns_steps}"
        axes.plot([step + 1 for step, _ in run.loss], [max(loss, 1e-16) for _, loss in run.loss], label=label)
    if response.certificate.floor is not None:
        axes.axhline(response.certificate.floor, color="black", linestyle="--", label="certified floor")
    axes.set(xscale="log", yscale="log", xlabel="step + 1", ylabel="loss", title=response.method)
    axes.legend()
    return figure
