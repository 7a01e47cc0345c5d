"""Densities chosen beforehand are met with one set of rates; penalties miss, and so does ascent without restarts."""

from typing import Any

import pytest

from service.analysis.constrained_sparsity.schema import MlpMetrics
from tests.analysis.digits import accuracy, train

TARGETS = (0.2, 0.35, 0.5, 0.65, 0.8)
SHORT: dict[str, Any] = {"optimizer": {"num_steps": 1500, "batch_size": 64}}
"""What `make test` has time for: fewer steps, the same rates."""
PENALTIES = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]


@pytest.mark.slow
@pytest.mark.parametrize(("target", "scope"), [(0.2, "model"), (0.5, "layer"), (0.8, "model")])
def test_targets_are_met_without_tuning(target: float, scope: str) -> None:
    reply = train(target, scope=scope, **SHORT)
    assert reply.expected_density == pytest.approx(target, abs=0.01)
    assert reply.constraint_satisfied == (reply.violation <= 0.01)
    if scope == "layer":
        assert reply.layer_density == pytest.approx([target] * 3, abs=0.015)
    assert accuracy(reply) > 0.85


@pytest.mark.slow
def test_a_penalty_misses_and_so_does_ascent_without_restarts() -> None:
    swept = train(0.5, **SHORT, baseline_penalties=[1e-2, 1e-1], dual_restarts=False)
    densities = [one.expected_density for one in swept.baselines]
    assert all(abs(density - target) > 0.05 for density in densities for target in (0.2, 0.35, 0.5))
    assert swept.expected_density < 0.45  # far below its target of 0.5
    # The multiplier that made it fall that far was still there long after the target was met.
    both = zip(swept.density_trace, swept.multipliers.trace, strict=True)
    assert any(density < 0.49 and multiplier > 0 for (_, density), (_, multiplier) in both)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("target", TARGETS)
def test_all_targets_by_model(target: float, seed: int) -> None:
    reply = train(target, seed=seed)
    print(f"target {target}, seed {seed}: {reply.expected_density:.4f}, accuracy {accuracy(reply):.3f}")
    assert abs(reply.expected_density - target) <= 0.01
    assert accuracy(reply) > 0.9


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("target", TARGETS)
def test_all_targets_by_layer(target: float, seed: int) -> None:
    reply = train(target, scope="layer", seed=seed)
    print(f"target {target}, seed {seed}: {reply.expected_density:.4f}, layers {reply.layer_density}")
    assert abs(reply.expected_density - target) <= 0.01
    assert all(abs(density - target) <= 0.015 for density in reply.layer_density)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_five_decades_of_penalties_miss_and_restarts_matter() -> None:
    swept = train(0.5, baseline_penalties=PENALTIES, compare_dense=True)
    densities = [one.expected_density for one in swept.baselines]
    nearest = {target: min(abs(density - target) for density in densities) for target in TARGETS}
    print("penalties:", [round(density, 3) for density in densities], "misses:", nearest)
    assert sum(miss > 0.05 for miss in nearest.values()) >= 3
    assert isinstance(swept.metrics, MlpMetrics)
    assert swept.metrics.dense_accuracy is not None
    assert swept.metrics.accuracy >= swept.metrics.dense_accuracy - 0.02
    unrestarted = train(0.5, dual_restarts=False)
    print("without restarts:", unrestarted.expected_density)
    assert unrestarted.expected_density < 0.40
    assert abs(swept.expected_density - 0.5) <= 0.01


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_dual_rate_hardly_matters() -> None:
    for target in (0.2, 0.5, 0.8):
        found = [
            train(target, optimizer={"dual_learning_rate": rate}).expected_density for rate in (0.03, 0.1, 0.3, 1.0)
        ]
        print(target, [round(density, 4) for density in found])
        assert max(found) - min(found) < 0.011
