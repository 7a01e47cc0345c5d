"""Descent in weights and gates, ascent in multipliers: cooper's simultaneous updates, with dual restarts put back.

The paper's library reset the multiplier of a met constraint to 0; cooper 1.x does not, and without it the density
falls far below its target. Here it is done after each step. `control` is the other way to hold a density.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from cooper.cmp import CMPState, ConstrainedMinimizationProblem
from cooper.constraints.constraint import Constraint
from cooper.constraints.constraint_state import ConstraintState
from cooper.multipliers.multipliers import DenseMultiplier
from cooper.optim.constrained_optimizers.simultaneous_optimizer import SimultaneousOptimizer
from cooper.utils.annotations import ConstraintType
from torch import Tensor

from service.analysis.constrained_sparsity.check import Rates
from service.analysis.frame import AnalysisError
from service.analysis.torch_jobs.sparsity.control import GateDescent, PiControl
from service.analysis.torch_jobs.sparsity.gates import Gates

TRACE_POINTS = 200
REPORTS = 100

Loss = Callable[[list[Tensor]], Tensor]
"""The loss of the next batch under gates [one tensor a layer]; averaged over the batch."""


class Course(NamedTuple):
    """What happened on the way: (step, density) and (step, sum of multipliers), and the multipliers at the end."""

    densities: list[tuple[int, float]]
    multipliers: list[tuple[int, float]]
    final: list[float]


class DensityProblem(ConstrainedMinimizationProblem):
    """min E[loss] with density ≤ target, by model (one constraint) or by layer; on the way `levels` are the targets."""

    def __init__(self, loss: Loss, gates: Gates, targets: list[float], *, by_layer: bool) -> None:
        super().__init__()
        self.loss, self.gates, self.by_layer = loss, gates, by_layer
        self.targets = self.levels = torch.tensor(targets)
        self.multiplier = DenseMultiplier(num_constraints=len(targets))
        self.density = Constraint(constraint_type=ConstraintType.INEQUALITY, multiplier=self.multiplier)

    def compute_cmp_state(self) -> CMPState:
        """Loss of one sample of gates; violations in closed form."""
        loss = self.loss(self.gates.sample())
        state = ConstraintState(violation=self.constrained() - self.levels)
        return CMPState(loss=loss, observed_constraints={self.density: state})

    def constrained(self) -> Tensor:
        """What the targets are for: the layers' densities [L], or the model's [1]."""
        layers = self.gates.layer_densities()
        return layers if self.by_layer else self.gates.total_density(layers)

    @torch.no_grad()
    def restart_met(self, violation: Tensor) -> None:
        """Set the multipliers of met constraints to 0."""
        self.multiplier.weight[violation <= 0] = 0.0


def primal_optimizers(weights: list[Tensor], gates: Gates, rates: Rates) -> list[torch.optim.Optimizer]:
    """Adam for weights, if they are trained, and for gates, with rates of their own."""
    return [torch.optim.Adam(gates.parameters(), lr=rates.gate_learning_rate, fused=True), *weight_adam(weights, rates)]


def weight_adam(weights: list[Tensor], rates: Rates) -> list[torch.optim.Optimizer]:
    """Adam for weights, if they are trained."""
    return [torch.optim.Adam(weights, lr=rates.learning_rate, fused=True)] if weights else []


def controlled(
    problem: DensityProblem, weights: list[Tensor], rates: Rates
) -> tuple[list[torch.optim.Optimizer], PiControl]:
    """Descent whose scale knows no multiplier, and the multipliers that count on its response."""
    descent = GateDescent(problem.gates, rates.gate_learning_rate, by_layer=problem.by_layer)
    begun = problem.constrained().detach()
    control = PiControl(problem.dual_parameters(), descent, begun, problem.targets, rates.num_steps)
    return [descent, *weight_adam(weights, rates)], control


def train_constrained(
    problem: DensityProblem,
    weights: list[Tensor],
    rates: Rates,
    report: Callable[[float, str], None],
    *,
    restarts: bool,
) -> Course:
    """Train until the steps are done.

    Raises:
        AnalysisError: The loss is no number any more.
    """
    control: PiControl | None = None
    if rates.controller == "ascent":
        primal = primal_optimizers(weights, problem.gates, rates)
        dual = torch.optim.SGD(problem.dual_parameters(), lr=rates.dual_learning_rate, maximize=True)
    else:
        primal, dual = controlled(problem, weights, rates)
        control = dual
    optimizer = SimultaneousOptimizer(problem, primal, dual)
    densities: list[tuple[int, float]] = []
    multipliers: list[tuple[int, float]] = []
    for step in range(rates.num_steps):
        if control:
            problem.levels = control.levels()
        rolled = optimizer.roll()
        refuse_nonfinite(rolled.loss, step)
        if restarts:
            problem.restart_met(rolled.cmp_state.observed_constraints[problem.density].violation)
        problem.gates.clamp()
        last = step == rates.num_steps - 1
        if last or step % max(1, rates.num_steps // TRACE_POINTS) == 0:
            densities.append((step, problem.gates.total_density(problem.gates.layer_densities()).item()))
            multipliers.append((step, problem.multiplier.weight.sum().item()))
        if last or step % max(1, rates.num_steps // REPORTS) == 0:
            report((step + 1) / rates.num_steps, f"density {densities[-1][1]:.3f}")
    return Course(densities, multipliers, problem.multiplier.weight.detach().tolist())


def train_penalised(
    loss: Loss, gates: Gates, weights: list[Tensor], penalty: float, rates: Rates, report: Callable[[float, str], None]
) -> None:
    """Train on loss + penalty × density, as one does who has no constraint."""
    optimizers = primal_optimizers(weights, gates, rates)
    for step in range(rates.num_steps):
        value = loss(gates.sample())
        descend(value + penalty * gates.total_density(gates.layer_densities())[0], optimizers, step)
        gates.clamp()
        if step % max(1, rates.num_steps // REPORTS) == 0:
            report((step + 1) / rates.num_steps, f"penalty {penalty:g}")


def descend(value: Tensor, optimizers: list[torch.optim.Optimizer], step: int) -> None:
    """One step of plain training."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    value.backward()
    for optimizer in optimizers:
        optimizer.step()
    refuse_nonfinite(value, step)


def refuse_nonfinite(loss: Tensor | None, step: int) -> None:
    """A training that has diverged has no result."""
    if loss is None or not math.isfinite(loss.item()):
        message = f"the loss is no finite number at step {step}: lower the learning rates"
        raise AnalysisError("optimizer", message, status=500, code="diverged")
