"""Multipliers as a PI controller, for gates that are trained in few steps.

With Adam and plain ascent a density falls through its target and does not come back soon: while the target is far the
multiplier grows past what holds the density there; Adam divides by the size of the whole gradient, the multiplier's
part included, so that its first moment goes on pulling when the multiplier is 0 again, and its second slows the way
back for a thousand steps. What is done about it knows neither the target, nor the number of gates, nor the loss's
unit:

* `GateDescent` takes its scale from the loss's part of the gradient alone and has no momentum: it remembers no
  multiplier.
* `PiControl` measures multipliers by the density's own response. A step moves g by −a·λ, a = η Σⱼ cⱼ²/scaleⱼ with
  cⱼ = ∂g/∂log αⱼ in closed form, so λ = (g − ε)/(a·T) takes a violation away within T steps; a sum of violations learns
  what stands against the loss's pull.
* The level ε falls from the density of the beginning to the target in the first half of the run, so that no violation
  is ever large.

Multipliers as PI controllers: Sohrabi et al. 2024, "On PI Controllers for Updating Lagrange Multipliers in Constrained
Optimization" (cooper's nuPI). That one adds up changes of the proportional part with fixed gains; here the response
grows a hundredfold while gates leave their beginning, and what was added up before makes the density fall through.
"""

from typing import Any

import torch
from torch import Tensor

from service.analysis.torch_jobs.sparsity.gates import Gates

DECAY = 0.999
"""Of the mean square of the loss's gradient, as Adam has it."""
LEAST_SCALE = 0.1
"""A gate's scale is its own and this share of all gates' mean: one that the loss hardly feels does not jump."""
LONGEST_STEP = 3.0
"""The constraint moves a gate by no more than this many learning rates in a step."""
LOWERING = 0.5
"""Share of a run in which the levels fall from the densities of the beginning to the targets."""
RUN_SHARE, SHORTEST_T = 25, 8
"""T is the run's steps by the first, but not below the second."""
INTEGRAL_TIME, RELEASE_TIME = 10, 2.5
"""The sum of violations acts within this many T: slowly, for the gates do not answer at once."""
TINY = 1e-20


class GateDescent(torch.optim.Optimizer):
    """Δ log α = −η (∇loss + Σ λ ∇g)/scale, scale the root mean square of ∇loss alone.

    Args:
        gates: What is trained.
        learning_rate: η.
        by_layer: Whether a constraint is a layer's or the model's.
    """

    def __init__(self, gates: Gates, learning_rate: float, *, by_layer: bool) -> None:
        super().__init__(gates.parameters(), {"lr": learning_rate})
        self.gates, self.learning_rate, self.by_layer = gates, learning_rate, by_layer
        self.mean_square = torch.zeros_like(gates.log_alpha)
        self.num_steps = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step, from the gradient of the Lagrangian and the part of it that came through the sample."""
        whole, of_loss = self.gates.log_alpha.grad, self.gates.loss_gradient
        assert closure is None
        assert whole is not None
        assert of_loss is not None
        self.num_steps += 1
        self.mean_square.mul_(DECAY).addcmul_(of_loss, of_loss, value=1 - DECAY)
        scale = self.scale()
        move = of_loss / scale + ((whole - of_loss) / scale).clamp(max=LONGEST_STEP)
        self.gates.log_alpha.sub_(move, alpha=self.learning_rate)

    def scale(self) -> Tensor:
        """Of every gate, [G]."""
        own = (self.mean_square / (1 - DECAY**self.num_steps)).sqrt()
        return own + LEAST_SCALE * own.mean() + TINY

    @torch.no_grad()
    def response(self) -> Tensor:
        """By how much a step moves each constrained density, per unit of its multiplier, [1] or [L]."""
        each = self.gates.slopes(by_layer=self.by_layer) ** 2 / self.scale()
        parts = [part.sum() for part in each.split(self.gates.sizes)] if self.by_layer else [each.sum()]
        return self.learning_rate * torch.stack(parts)


class PiControl(torch.optim.Optimizer):
    """Multipliers that keep densities on levels which fall to the targets.

    Args:
        multipliers: cooper's; their gradients are the violations of `levels`.
        descent: Whose response is counted on; it steps first.
        begun: Densities of the beginning, [1] or [L].
        targets: Likewise.
        num_steps: Of the run.
    """

    def __init__(self, multipliers: Any, descent: GateDescent, begun: Tensor, targets: Tensor, num_steps: int) -> None:
        super().__init__(multipliers, {"maximize": True})
        self.descent, self.targets = descent, targets
        self.way = (begun - targets).clamp(min=0)
        self.lowering_steps = LOWERING * num_steps
        self.reaction_steps = max(SHORTEST_T, num_steps / RUN_SHARE)
        self.standing = torch.zeros_like(targets)

    def levels(self) -> Tensor:
        """ε of the step that comes, [1] or [L]."""
        return self.targets + self.way * max(0.0, 1 - self.descent.num_steps / self.lowering_steps)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """λ = (the level's fall + violation/T + what stands against the loss)/a, and not below 0."""
        assert closure is None
        (multipliers,) = self.param_groups[0]["params"]
        fall = self.way / self.lowering_steps if self.descent.num_steps < self.lowering_steps else 0.0
        wanted = multipliers.grad / self.reaction_steps
        within = torch.where(wanted < 0, RELEASE_TIME, INTEGRAL_TIME) * self.reaction_steps
        self.standing = (self.standing + wanted / within).clamp(min=0)
        multipliers.copy_(((fall + wanted + self.standing) / (self.descent.response() + TINY)).clamp(min=0))
