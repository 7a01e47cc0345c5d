"""From trained gates to the reply."""

from typing import NamedTuple

import torch

from service.analysis.constrained_sparsity.check import drop_rate, notices, rates, targets
from service.analysis.constrained_sparsity.gates import floor, initial_density
from service.analysis.constrained_sparsity.schema import (
    Baseline,
    Controller,
    LmMetrics,
    MlpMetrics,
    Multipliers,
    Purged,
    SparsityRequest,
    SparsityResponse,
)
from service.analysis.frame import Context, Notice
from service.analysis.torch_jobs.sparsity.gates import Gates
from service.analysis.torch_jobs.sparsity.train import Course

TOLERANCE = 0.01
"""A density may be so far above its target and still count as reached; further below it is told, too."""
REMEDIES: dict[Controller, str] = {
    "ascent": "more steps or a larger dual_learning_rate",
    "proportional_integral": "more steps or a larger gate_learning_rate",
}
"""What may bring the density down to its target, by who sets the multipliers."""


class Parts(NamedTuple):
    """What a kind of model has to say after its training."""

    gates: Gates
    course: Course
    metrics: MlpMetrics | LmMetrics
    purged: Purged
    baselines: list[Baseline]


@torch.no_grad()
def respond(request: SparsityRequest, context: Context, parts: Parts) -> SparsityResponse:
    """The reply. Whether the constraint holds is read off the gates, never assumed."""
    gates = parts.gates
    by_layer = gates.layer_densities()
    total = float(gates.total_density(by_layer))
    wanted = targets(request, len(gates.layers))
    reached = by_layer.tolist() if request.constraint.scope == "layer" else [total]
    violation = max(density - target for density, target in zip(reached, wanted, strict=True))
    warnings = [*notices(request), *missed(request, reached, wanted)]
    return SparsityResponse(
        method=f"hard-concrete gates, {request.constraint.scope}-wise density constraint",
        seed=context.seed,
        warnings=warnings,
        expected_density=total,
        layers=[layer.name for layer in gates.layers],
        layer_density=by_layer.tolist(),
        target_density=wanted,
        violation=violation,
        constraint_satisfied=violation <= TOLERANCE,
        tolerance=TOLERANCE,
        lowest_density=floor(request.gates.temperature),
        initial_density=initial_density(drop_rate(request), request.gates.temperature),
        gated_parameters=sum(layer.num_gates * layer.owned for layer in gates.layers),
        purged=parts.purged,
        metrics=parts.metrics,
        multipliers=Multipliers(final=parts.course.final, trace=parts.course.multipliers),
        density_trace=parts.course.densities,
        baselines=parts.baselines,
    )


def missed(request: SparsityRequest, reached: list[float], wanted: list[float]) -> list[Notice]:
    """What is told of densities above their targets, and of those far below, where more was pruned than asked for.

    A target above the density of the beginning asks for nothing: nothing can fall below it by pruning too much.
    """
    controller = rates(request).controller
    start = initial_density(drop_rate(request), request.gates.temperature)
    above = max(density - target for density, target in zip(reached, wanted, strict=True))
    asking = ((density, target) for density, target in zip(reached, wanted, strict=True) if target < start)
    below = max((target - density for density, target in asking), default=0.0)
    told = list[Notice]()
    if above > TOLERANCE:
        message = f"the density is {above:.3f} above its target: {REMEDIES[controller]}"
        told.append(Notice(code="constraint_violated", message=message))
    if below > TOLERANCE:
        message = f"the density is {below:.3f} below its target: more was pruned than asked for, more steps may heal it"
        told.append(Notice(code="overshot", message=message))
    return told
