"""Controlled sparsity: train gates until a density chosen beforehand is kept (arXiv 2208.04425).

schema   request and reply                      check   what is refused before anything is trained
gates    closed forms of hard-concrete gates    The training itself is in `service.analysis.torch_jobs.sparsity`.
"""

from service.analysis.constrained_sparsity.schema import SparsityRequest, SparsityResponse
from service.analysis.frame import Analysis, Paper

ROWS = [[float((i * step) % 7 - 3) for step in (1, 2, 3, 5)] for i in range(1, 43)]

CONSTRAINED_SPARSITY = Analysis(
    "constrained-sparsity",
    Paper("Controlled Sparsity via Constrained Optimization", "2208.04425"),
    "Prune a network to an expected density chosen beforehand, with no penalty to tune",
    SparsityRequest,
    SparsityResponse,
    "service.analysis.torch_jobs.sparsity",
    {
        "model": {"type": "mlp", "hidden_sizes": [8]},
        "dataset": {"features": ROWS, "labels": [int(row[0] > 0) for row in ROWS], "test_fraction": 0},
        "constraint": {"target_density": 0.5},
        "optimizer": {"num_steps": 800, "batch_size": 16},
        "seed": 0,
    },
    job_only=True,
    own_process=True,
)
