"""Trainings on scikit-learn's handwritten digits, each in this process."""

from typing import Any

from sklearn.datasets import load_digits

from service.analysis.constrained_sparsity.schema import MlpMetrics, SparsityRequest, SparsityResponse
from service.analysis.frame import Context
from service.analysis.torch_jobs import sparsity

TEST_FRACTION = 397 / 1797 + 1e-9


def train(target: float | list[float], **changes: Any) -> SparsityResponse:
    """A training of the perceptron 64-300-100-10 with the default rates."""
    digits: Any = load_digits()
    body: dict[str, Any] = {
        "model": {"type": "mlp", "hidden_sizes": [300, 100]},
        "dataset": {
            "features": digits.data.tolist(),
            "labels": digits.target.tolist(),
            "test_fraction": TEST_FRACTION,
        },
        "constraint": {"target_density": target, "scope": changes.pop("scope", "model")},
        "compare_dense": False,
        "seed": 0,
    }
    request = SparsityRequest.model_validate(body | changes)
    return sparsity.compute(request, Context(request.seed))


def accuracy(reply: SparsityResponse) -> float:
    assert isinstance(reply.metrics, MlpMetrics)
    return reply.metrics.accuracy
