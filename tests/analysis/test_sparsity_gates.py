"""Hard-concrete gates against their closed forms, and the training step against one written out by hand."""

import math

import pytest
import torch

from service.analysis.constrained_sparsity.check import MLP_RATES
from service.analysis.constrained_sparsity.gates import CLAMP, active_probability, floor, initial_density
from service.analysis.torch_jobs.sparsity.gates import Gates, Layer
from service.analysis.torch_jobs.sparsity.train import DensityProblem, train_constrained

TAU = 2 / 3


def gates_at(*log_alpha: float, tau: float = TAU) -> Gates:
    """One layer with a gate at each value."""
    gates = Gates([Layer("only", len(log_alpha), 1)], tau, 0.3, torch.Generator().manual_seed(0))
    gates.log_alpha.data = torch.tensor(log_alpha)
    return gates


def test_probability_of_an_active_gate() -> None:
    many = gates_at(*[0.3] * 1_000_000)
    active = (many.sample()[0] > 0).float().mean().item()
    assert active_probability(0.3, TAU) == pytest.approx(0.8697, abs=1e-4)
    assert active == pytest.approx(active_probability(0.3, TAU), abs=0.002)
    assert many.layer_densities().item() == pytest.approx(active_probability(0.3, TAU), abs=1e-5)


def test_the_median_is_zero_exactly_where_half_are() -> None:
    half = TAU * math.log(0.1 / 1.1)  # P[z ≠ 0] = 1/2 here
    assert active_probability(half, TAU) == pytest.approx(0.5)
    below, above = gates_at(half - 1e-4, half + 1e-4).medians()[0].tolist()
    assert below == 0.0
    assert above > 0.0
    full = TAU * math.log(1.1 / 0.1)
    assert full == pytest.approx(1.598, abs=1e-3)
    below, above = gates_at(full - 1e-2, full + 1e-2).medians()[0].tolist()
    assert below < 1.0
    assert above == 1.0


def test_floor_and_beginning() -> None:
    assert floor(TAU) == pytest.approx(0.0471, abs=1e-4)
    gates = gates_at(-99.0, 99.0)
    gates.clamp()
    assert gates.log_alpha.tolist() == pytest.approx(list(CLAMP))
    for rate, density in {0.05: 0.9895, 0.1: 0.978, 0.2: 0.952, 0.3: 0.920, 0.5: 0.832}.items():
        assert initial_density(rate, TAU) == pytest.approx(density, abs=5e-4)
        begun = Gates([Layer("only", 1000, 1)], TAU, rate, torch.Generator().manual_seed(0))
        assert begun.layer_densities().item() == pytest.approx(density, abs=2e-3)


def test_the_models_density_weighs_layers_by_parameters() -> None:
    gates = Gates([Layer("small", 2, 5), Layer("large", 3, 100)], TAU, 0.3, torch.Generator().manual_seed(0))
    gates.log_alpha.data = torch.tensor([9.0, 9.0, -2.0, -2.0, -2.0])
    low = active_probability(-2.0, TAU)
    expected = (10 * active_probability(9.0, TAU) + 300 * low) / 310
    assert gates.total_density(gates.layer_densities()).item() == pytest.approx(expected, rel=1e-5)
    gates.total_density(gates.layer_densities()).backward()
    assert gates.log_alpha.grad is not None
    assert (gates.log_alpha.grad > 0).all()


@pytest.mark.parametrize("restarts", [True, False])
def test_the_multipliers_are_those_of_the_written_update(restarts: bool) -> None:
    """cooper's simultaneous step with restarts, beside λ ← max(0, λ + η(g − ε)) and Adam on a Lagrangian by hand."""
    rates = MLP_RATES._replace(num_steps=60, gate_learning_rate=0.05, dual_learning_rate=0.3)
    layers = [Layer("a", 4, 3), Layer("b", 6, 2)]
    wanted = torch.tensor([0.7, 0.5])

    def loss(values: list[torch.Tensor]) -> torch.Tensor:
        return sum(((1 - z) ** 2).mean() for z in values)  # type: ignore[return-value]

    cooped = Gates(layers, TAU, 0.1, torch.Generator().manual_seed(7))
    problem = DensityProblem(loss, cooped, wanted.tolist(), by_layer=True)
    course = train_constrained(problem, [], rates, lambda fraction, note: None, restarts=restarts)
    gates = Gates(layers, TAU, 0.1, torch.Generator().manual_seed(7))
    optimizer = torch.optim.Adam(gates.parameters(), lr=rates.gate_learning_rate)
    multipliers, trace = torch.zeros(2), []
    for _ in range(60):
        optimizer.zero_grad()
        sample, violation = gates.sample(), gates.layer_densities() - wanted
        (loss(sample) + (multipliers * violation).sum()).backward()
        optimizer.step()
        multipliers = (multipliers + rates.dual_learning_rate * violation.detach()).clamp(min=0)
        if restarts:
            multipliers = torch.where(violation.detach() <= 0, 0.0, multipliers)
        gates.clamp()
        trace.append(multipliers.sum().item())
    assert max(trace) > 0.5
    assert [value for _, value in course.multipliers] == pytest.approx(trace, abs=1e-5)
    assert course.final == pytest.approx(multipliers.tolist(), abs=1e-5)
    assert torch.allclose(cooped.log_alpha, gates.log_alpha, atol=1e-5)
