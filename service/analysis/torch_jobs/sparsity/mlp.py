"""A perceptron whose linear layers have a gate on each input, trained on a data set that came with the request."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from service.analysis.constrained_sparsity.check import Rates, drop_rate, rates, restarts, targets
from service.analysis.constrained_sparsity.schema import Baseline, Dataset, Mlp, MlpMetrics, Purged, SparsityRequest
from service.analysis.frame import Context
from service.analysis.torch_jobs.sparsity.gates import Gates, Layer
from service.analysis.torch_jobs.sparsity.report import Parts
from service.analysis.torch_jobs.sparsity.train import (
    REPORTS,
    DensityProblem,
    Loss,
    descend,
    train_constrained,
    train_penalised,
)

Report = Callable[[float, str], None]


class Data:
    """Standardised features and labels, split once, and the batches of one training.

    Args:
        dataset: As it came.
        rng: Of the split.
    """

    def __init__(self, dataset: Dataset, rng: np.random.Generator) -> None:
        features = np.array(dataset.features)
        order = rng.permutation(len(features))
        num_test = int(dataset.test_fraction * len(features))
        train = order[num_test:]
        test = order[:num_test] if num_test else train
        scale = features[train].std(axis=0)
        standard = (features - features[train].mean(axis=0)) / np.where(scale > 0, scale, 1.0)
        x = torch.tensor(standard, dtype=torch.float32)
        y = torch.tensor(dataset.labels)
        self.x, self.y, self.test_x, self.test_y = x[train], y[train], x[test], y[test]
        self.width, self.classes = features.shape[1], max(dataset.labels) + 1

    def batches(self, size: int, generator: torch.Generator) -> Callable[[], tuple[Tensor, Tensor]]:
        """A function that gives the next batch; every row comes once in a pass."""
        order: list[Tensor] = []

        def following() -> tuple[Tensor, Tensor]:
            if not order:
                order.extend(torch.randperm(len(self.x), generator=generator).split(size)[::-1])
            chosen = order.pop()
            return self.x[chosen], self.y[chosen]

        return following


class Network:
    """Weights and biases of linear layers with rectifiers between them.

    Args:
        sizes: Width of the input, of each hidden layer, and number of classes.
        drop_rate: Of the gates: weights begin larger by 1/(1 − ρ), so that the gated network begins like the dense one.
        generator: Of the beginning.
    """

    def __init__(self, sizes: list[int], drop_rate: float, generator: torch.Generator) -> None:
        self.sizes = sizes
        self.weights = [torch.nn.Parameter(uniform((b, a), a, generator) / (1 - drop_rate)) for a, b in pairwise(sizes)]
        self.biases = [torch.nn.Parameter(uniform((b,), a, generator)) for a, b in pairwise(sizes)]

    @property
    def parameters(self) -> list[Tensor]:
        """All of them."""
        return [*self.weights, *self.biases]

    def logits(self, x: Tensor, gates: list[Tensor] | None) -> Tensor:
        """Class logits [rows, classes] under gates on the inputs of each layer."""
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x.relu() if number else x
            x = torch.nn.functional.linear(x if gates is None else x * gates[number], weight, bias)
        return x

    @torch.no_grad()
    def accuracy(self, data: Data, gates: list[Tensor] | None) -> float:
        """On the rows kept for it."""
        return float((self.logits(data.test_x, gates).argmax(1) == data.test_y).float().mean())

    def layers(self) -> list[Layer]:
        """One gate an input, owning that input's weights."""
        return [Layer(f"linear {number}", a, b) for number, (a, b) in enumerate(pairwise(self.sizes))]


def uniform(shape: tuple[int, ...], fan_in: int, generator: torch.Generator) -> Tensor:
    """Uniform on ±1/√fan-in."""
    return (torch.rand(shape, generator=generator) * 2 - 1) / fan_in**0.5


class Training:
    """One network on one data set; each training begins anew from numbers of its own."""

    def __init__(self, request: SparsityRequest, model: Mlp, data: Data, rng: np.random.Generator) -> None:
        self.request, self.data, self.rates = request, data, rates(request)
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        self.sizes = [data.width, *model.hidden_sizes, data.classes]
        self.network = Network(self.sizes, drop_rate(request), generator)
        self.gates = Gates(self.network.layers(), request.gates.temperature, drop_rate(request), generator)
        self.next_batch = data.batches(self.rates.batch_size, generator)
        self.generator = generator

    def loss(self) -> Loss:
        """Cross-entropy of the next batch."""

        def value(gates: list[Tensor]) -> Tensor:
            x, y = self.next_batch()
            return torch.nn.functional.cross_entropy(self.network.logits(x, gates), y)

        return value

    def accuracy(self) -> float:
        """With median gates."""
        return self.network.accuracy(self.data, self.gates.medians())


def train_mlp(request: SparsityRequest, model: Mlp, dataset: Dataset, context: Context) -> Parts:
    """The constrained training, and those it is compared with. The work is shared out equally in the progress."""
    data = Data(dataset, context.rng)
    total = 1 + request.compare_dense + len(request.baseline_penalties)

    def part(number: int) -> Report:
        return lambda fraction, note: context.report((number + fraction) / total, note)

    training = Training(request, model, data, context.rng)
    wanted = targets(request, len(training.gates.layers))
    by_layer = request.constraint.scope == "layer"
    problem = DensityProblem(training.loss(), training.gates, wanted, by_layer=by_layer)
    course = train_constrained(
        problem, training.network.parameters, training.rates, part(0), restarts=restarts(request)
    )
    baselines = [
        penalised(Training(request, model, data, context.rng), penalty, part(1 + number))
        for number, penalty in enumerate(request.baseline_penalties)
    ]
    dense = train_dense(Training(request, model, data, context.rng), part(total - 1)) if request.compare_dense else None
    metrics = MlpMetrics(accuracy=training.accuracy(), dense_accuracy=dense)
    return Parts(training.gates, course, metrics, purged(training.gates, training.sizes), baselines)


def penalised(training: Training, penalty: float, report: Report) -> Baseline:
    """A training with a fixed penalty on the model's density."""
    train_penalised(training.loss(), training.gates, training.network.parameters, penalty, training.rates, report)
    density = training.gates.total_density(training.gates.layer_densities()).item()
    return Baseline(penalty=penalty, expected_density=density, accuracy=training.accuracy())


def train_dense(training: Training, report: Report) -> float:
    """Accuracy of the same network without gates."""
    settings: Rates = training.rates
    network = Network(training.sizes, 0.0, training.generator)
    optimizer = torch.optim.Adam(network.parameters, lr=settings.learning_rate, fused=True)
    for step in range(settings.num_steps):
        x, y = training.next_batch()
        descend(torch.nn.functional.cross_entropy(network.logits(x, None), y), [optimizer], step)
        if step % max(1, settings.num_steps // REPORTS) == 0:
            report((step + 1) / settings.num_steps, "without gates")
    return network.accuracy(training.data, None)


def purged(gates: Gates, sizes: list[int]) -> Purged:
    """What is left when inputs with median 0 go: each takes its weights, and its row of the layer before."""
    active = [int((median > 0).sum()) for median in gates.medians()]
    outputs = [*active[1:], sizes[-1]]
    macs = sum(a * b for a, b in zip(active, outputs, strict=True))
    dense_macs = sum(a * b for a, b in pairwise(sizes))
    return Purged(
        parameter_fraction=(macs + sum(outputs)) / (dense_macs + sum(sizes[1:])),
        mac_fraction=macs / dense_macs,
        active_gates=active,
    )
