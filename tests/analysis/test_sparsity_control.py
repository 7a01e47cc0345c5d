"""The controller of densities: what a step moves, what it does not depend on, and targets kept in few steps."""

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from service.analysis.constrained_sparsity.check import LM_RATES
from service.analysis.frame import AnalysisError
from service.analysis.torch_jobs.sparsity.control import GateDescent, PiControl
from service.analysis.torch_jobs.sparsity.gates import Gates, Layer
from service.analysis.torch_jobs.sparsity.train import Course, DensityProblem, Loss, train_constrained

TAU = 2 / 3
LAYERS = [Layer("few and large", 20, 10), Layer("many", 300, 1), Layer("more", 100, 2)]
RATES = LM_RATES._replace(num_steps=250, gate_learning_rate=0.1)


def make_gates(seed: int = 0) -> Gates:
    return Gates(LAYERS, TAU, 0.05, torch.Generator().manual_seed(seed))


def noisy_loss(unit: float, seed: int = 1) -> Loss:
    """What gates lose when they close, each its own amount over three decades, and as much noise of batches."""
    generator = torch.Generator().manual_seed(seed)
    worth = [10 ** (3 * torch.rand(layer.num_gates, generator=generator) - 3) for layer in LAYERS]

    def loss(gates: list[Tensor]) -> Tensor:
        parts = [
            (value * (1 + torch.randn(value.shape, generator=generator)) * (1 - gate)).sum()
            for value, gate in zip(worth, gates, strict=True)
        ]
        return unit * torch.stack(parts).sum()

    return loss


def train(target: list[float], *, by_layer: bool, unit: float = 1.0) -> tuple[Gates, Course]:
    gates = make_gates()
    problem = DensityProblem(noisy_loss(unit), gates, target, by_layer=by_layer)
    return gates, train_constrained(problem, [], RATES, lambda fraction, note: None, restarts=False)


@pytest.mark.slow
@pytest.mark.parametrize("target", [0.6, 0.8])
def test_targets_are_kept_in_few_steps(target: float) -> None:
    gates, course = train([target], by_layer=False)
    assert gates.total_density(gates.layer_densities()).item() == pytest.approx(target, abs=0.01)
    assert min(density for _, density in course.densities) > target - 0.02, "it did not fall through on the way"


def test_targets_of_layers_are_kept() -> None:
    targets = [0.7, 0.5, 0.9]
    gates, _ = train(targets, by_layer=True)
    assert gates.layer_densities().tolist() == pytest.approx(targets, abs=0.02)


@pytest.mark.slow
def test_the_losss_unit_does_not_matter() -> None:
    ours, theirs = (train([0.6], by_layer=False, unit=unit) for unit in (1.0, 2.0**12))
    assert torch.allclose(ours[0].log_alpha, theirs[0].log_alpha, atol=1e-3)
    assert theirs[1].final[0] == pytest.approx(2.0**12 * ours[1].final[0], rel=1e-2)


@pytest.mark.parametrize("by_layer", [False, True])
def test_the_response_is_what_a_step_moves(by_layer: bool) -> None:
    """A multiplier moves its density by −a·λ beside what the loss does, to first order."""
    gates = make_gates()
    gates.log_alpha.data = torch.randn(420, generator=torch.Generator().manual_seed(3))
    start = gates.log_alpha.detach().clone()
    descent = GateDescent(gates, 1e-2, by_layer=by_layer)

    def densities() -> Tensor:
        layers = gates.layer_densities()
        return (layers if by_layer else gates.total_density(layers)).detach()

    def stepped(multipliers: Tensor) -> Tensor:
        gates.log_alpha.data = start.clone()
        descent.num_steps = 0
        descent.mean_square.zero_()
        layers = gates.layer_densities()
        pull = (multipliers * (layers if by_layer else gates.total_density(layers))).sum()
        gates.zero_grad()
        (noisy_loss(1.0)(gates.sample()) + pull).backward()
        descent.step()
        return densities()

    gates.generator.manual_seed(5)
    without = stepped(torch.zeros(3 if by_layer else 1))
    gates.log_alpha.data = start.clone()
    response = descent.response()
    gates.generator.manual_seed(5)
    moved = without - stepped(2e-4 / response)
    assert moved.tolist() == pytest.approx([2e-4] * len(response), rel=0.05)


def test_multipliers_are_those_of_the_written_controller() -> None:
    gates = make_gates()
    descent = GateDescent(gates, 0.1, by_layer=False)
    multiplier = torch.nn.Parameter(torch.zeros(1))
    control = PiControl([multiplier], descent, torch.tensor([0.99]), torch.tensor([0.49]), 100)
    assert control.levels().item() == pytest.approx(0.99)
    gates.loss_gradient = torch.ones(420)
    gates.log_alpha.grad = torch.ones(420)
    standing = 0.0
    for violation in (0.05, 0.02, -0.01):
        descent.step()
        multiplier.grad = torch.tensor([violation])
        control.step()
        wanted = violation / 8
        standing = max(0.0, standing + wanted / (8 * (10 if violation > 0 else 2.5)))
        moved = 0.5 / 50 + wanted + standing
        assert multiplier.item() == pytest.approx(max(0.0, moved) / descent.response().item(), rel=1e-4)
    assert control.levels().item() == pytest.approx(0.99 - 3 * 0.5 / 50)
    descent.num_steps = 50
    assert control.levels().item() == pytest.approx(0.49)
    multiplier.grad = torch.tensor([-0.3])
    control.step()
    assert multiplier.item() == 0.0
    assert not math.copysign(1.0, multiplier.item()) < 0


@pytest.mark.parametrize("controller", ["ascent", "proportional_integral"])
def test_a_training_that_diverges_fails_with_its_step(controller: Literal["ascent", "proportional_integral"]) -> None:
    """Whatever multipliers follow, a loss that is no number is no result."""
    losses = iter([1.0, 1.0, 1.0, float("inf")])
    problem = DensityProblem(lambda gates: next(losses) * torch.cat(gates).sum(), make_gates(), [0.5], by_layer=False)
    rates = RATES._replace(controller=controller)
    with pytest.raises(AnalysisError, match="step 3") as failed:
        train_constrained(problem, [], rates, lambda fraction, note: None, restarts=False)
    assert (failed.value.status, failed.value.code) == (500, "diverged")
