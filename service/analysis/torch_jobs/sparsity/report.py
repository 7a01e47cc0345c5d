"""From trained gates to the reply."""

from typing import NamedTuple

import torch

from service.analysis.constrained_sparsity.check import drop_rate, notices, targets
from service.analysis.constrained_sparsity.gates import floor, initial_density
from service.analysis.constrained_sparsity.schema import (
    Baseline,
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
"""A density may be so far above its target and still count as reached."""


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
    warnings = notices(request)
    if violation > TOLERANCE:
        message = f"the density is {violation:.3f} above its target: more steps or a larger dual_learning_rate"
        warnings.append(Notice(code="constraint_violated", message=message))
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
