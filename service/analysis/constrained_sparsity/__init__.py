"""Controlled sparsity: train gates until a density chosen beforehand is kept (arXiv 2208.04425).

schema   request and reply                      check   what is refused before anything is trained
gates    closed forms of hard-concrete gates    The training itself is in `service.analysis.torch_jobs.sparsity`.
"""

from service.analysis.constrained_sparsity.schema import SparsityRequest, SparsityResponse
from service.analysis.frame import Analysis, Paper

CORNERS = [[x, y] for x in (-1.0, -0.5, 0.5, 1.0) for y in (-1.0, -0.5, 0.5, 1.0)]

CONSTRAINED_SPARSITY = Analysis(
    "constrained-sparsity",
    Paper("Controlled Sparsity via Constrained Optimization", "2208.04425"),
    "Prune a network to an expected density chosen beforehand, with no penalty to tune",
    SparsityRequest,
    SparsityResponse,
    "service.analysis.torch_jobs.sparsity",
    {
        "model": {"type": "mlp", "hidden_sizes": [16]},
        "dataset": {"features": CORNERS, "labels": [int(x * y > 0) for x, y in CORNERS], "test_fraction": 0},
        "constraint": {"target_density": 0.5},
        "optimizer": {"num_steps": 1500, "batch_size": 16},
        "seed": 0,
    },
    job_only=True,
    own_process=True,
)
