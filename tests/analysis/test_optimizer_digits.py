"""What error feedback costs in practice, in miniature: a small network on 8×8 digits, exact polar factors."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.analysis.optimizer_convergence.descent import compress
from service.analysis.optimizer_convergence.norms import LMOS

Matrix = NDArray[np.float64]
Update = Callable[[Matrix, float, dict[str, Matrix]], Matrix]
WIDTHS, STEPS, BATCH, MOMENTUM = (64, 48, 48, 10), 600, 64, 0.9
POLAR = LMOS["spectral"]


def muon(buffer: Matrix, rate: float, memory: dict[str, Matrix]) -> Matrix:
    return rate * POLAR(buffer)


def muon_with_feedback(buffer: Matrix, rate: float, memory: dict[str, Matrix]) -> Matrix:
    wanted = rate * buffer + memory.get("error", np.zeros_like(buffer))
    taken, _ = compress(POLAR, wanted)
    memory["error"] = wanted - taken
    return taken


def forward(layers: list[Matrix], x: Matrix) -> list[Matrix]:
    values = [x]
    for number, layer in enumerate(layers):
        z = values[-1] @ layer.T
        values.append(np.maximum(z, 0) if number + 1 < len(layers) else z)
    return values


def softmax(z: Matrix) -> Matrix:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def gradients(layers: list[Matrix], x: Matrix, y: NDArray[np.int64]) -> list[Matrix]:
    values = forward(layers, x)
    slope = softmax(values[-1])
    slope[np.arange(len(y)), y] -= 1
    slope /= len(y)
    found: list[Matrix] = []
    for number in range(len(layers) - 1, -1, -1):
        found.insert(0, slope.T @ values[number])
        slope = (slope @ layers[number]) * (values[number] > 0)
    return found


def trained_loss(update: Update, rate: float, seed: int) -> float:
    """Test cross-entropy in nats after training with a rate that falls linearly."""
    from sklearn.datasets import load_digits

    data: Any = load_digits()
    x, y = data.data / 16, data.target
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    train, test = order[:1347], order[1347:]
    layers = [rng.standard_normal((after, before)) * np.sqrt(2 / before) for before, after in pairwise(WIDTHS)]
    buffers = [np.zeros_like(layer) for layer in layers]
    memories: list[dict[str, Matrix]] = [{} for _ in layers]
    for step in range(STEPS):
        batch = rng.choice(train, BATCH, replace=False)
        for number, gradient in enumerate(gradients(layers, x[batch], y[batch])):
            buffers[number] = MOMENTUM * buffers[number] + (1 - MOMENTUM) * gradient
            layers[number] = layers[number] - update(buffers[number], rate * (1 - step / STEPS), memories[number])
    odds = softmax(forward(layers, x[test])[-1])[np.arange(len(test)), y[test]]
    return float(-np.log(np.maximum(odds, 1e-300)).mean())


def best_loss(update: Update, rates: list[float], seeds: int) -> float:
    return min(float(np.mean([trained_loss(update, rate, seed) for seed in range(seeds)])) for rate in rates)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_error_feedback_makes_a_small_network_worse() -> None:
    plain = best_loss(muon, [0.005, 0.01, 0.02], 4)
    fed = best_loss(muon_with_feedback, [0.1, 0.3, 1.0], 4)
    print(f"test cross-entropy: Muon {plain:.4f}, with error feedback {fed:.4f}")
    assert fed >= 1.1 * plain
