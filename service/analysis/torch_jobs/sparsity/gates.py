"""Hard-concrete gates of all layers of a network, as one vector."""

from collections.abc import Sequence
from math import log
from typing import NamedTuple

import torch
from torch import Tensor

from service.analysis.constrained_sparsity.gates import CLAMP, GAMMA, ZETA, active_shift

EDGE = 1e-6
"""Uniform numbers keep this distance from 0 and 1."""
INITIAL_SPREAD = 0.01


class Layer(NamedTuple):
    """A gated layer: its name, number of gates, and parameters that each gate owns."""

    name: str
    num_gates: int
    owned: int


class Gates(torch.nn.Module):
    """Logits log α of all gates.

    Args:
        layers: The gated layers, in order.
        temperature: τ.
        drop_rate: ρ: gates begin at log α ~ N(ln((1 − ρ)/ρ), 0.01).
        generator: Of the beginning and of every sample.
    """

    def __init__(
        self, layers: Sequence[Layer], temperature: float, drop_rate: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.layers, self.temperature, self.generator = list(layers), temperature, generator
        self.sizes = [layer.num_gates for layer in layers]
        noise = torch.randn(sum(self.sizes), generator=generator) * INITIAL_SPREAD
        self.log_alpha = torch.nn.Parameter(noise + log((1 - drop_rate) / drop_rate))
        self.register_buffer("layer_weight", torch.tensor([float(layer.num_gates * layer.owned) for layer in layers]))
        self.loss_gradient: Tensor | None = None

    def sample(self) -> list[Tensor]:
        """One draw of every gate, by layer."""
        u = torch.rand(self.log_alpha.shape, generator=self.generator).clamp(EDGE, 1 - EDGE)
        logits = self.log_alpha.view_as(self.log_alpha)
        if logits.requires_grad:
            logits.register_hook(self._keep)
        s = torch.sigmoid((torch.log(u) - torch.log1p(-u) + logits) / self.temperature)
        return list((s * (ZETA - GAMMA) + GAMMA).clamp(0, 1).split(self.sizes))

    def _keep(self, gradient: Tensor) -> None:
        """What came back through a sample is the loss's; the constraints' part comes by another way."""
        self.loss_gradient = gradient

    def medians(self) -> list[Tensor]:
        """Every gate's median, which is 0 exactly where P[z ≠ 0] ≤ 1/2."""
        s = torch.sigmoid(self.log_alpha.detach() / self.temperature)
        return list((s * (ZETA - GAMMA) + GAMMA).clamp(0, 1).split(self.sizes))

    def layer_densities(self) -> Tensor:
        """Expected share of the parameters kept, by layer: a closed form without noise, [L]."""
        active = torch.sigmoid(self.log_alpha - active_shift(self.temperature))
        return torch.stack([part.mean() for part in active.split(self.sizes)])

    def total_density(self, by_layer: Tensor) -> Tensor:
        """The layers' densities weighted by their parameters, [1]."""
        weight = self.get_buffer("layer_weight")
        return (by_layer @ weight / weight.sum())[None]

    @torch.no_grad()
    def slopes(self, *, by_layer: bool) -> Tensor:
        """∂g/∂log α of every gate, g its layer's density or the model's, [G]."""
        active = torch.sigmoid(self.log_alpha - active_shift(self.temperature))
        weight = self.get_buffer("layer_weight")
        share = torch.ones_like(weight) if by_layer else weight / weight.sum()
        each = (share / torch.tensor(self.sizes)).repeat_interleave(torch.tensor(self.sizes))
        return each * active * (1 - active)

    @torch.no_grad()
    def clamp(self) -> None:
        """Hold log α where no gate is lost for ever."""
        self.log_alpha.clamp_(*CLAMP)
