"""Muon does not converge on convex Lipschitz functions, and error feedback does: runs, floors and bounds.

Parshakova, Khaled, Crawshaw, Garrigos, Gower: Muon Does Not Converge on Convex Lipschitz Functions, arXiv 2605.08980.
The counterexample and the error-feedback rule are the authors' public notebooks'; floors and bound are derived here.
"""

from service.analysis.frame import Analysis, Paper
from service.analysis.optimizer_convergence.schema import (
    OptimizerConvergenceReply,
    OptimizerConvergenceRequest,
    TorchMuonReply,
    TorchMuonRequest,
)

PAPER = Paper("Muon Does Not Converge on Convex Lipschitz Functions", "2605.08980")

OPTIMIZER_CONVERGENCE = Analysis(
    name="optimizer-convergence",
    paper=PAPER,
    summary="Whether Muon and its relatives reach the optimum on a convex function, and what error feedback changes",
    request=OptimizerConvergenceRequest,
    response=OptimizerConvergenceReply,
    work="service.analysis.optimizer_convergence.work",
    example={
        "objective": {"type": "diagonal_abs", "initial": "adversarial"},
        "norm": "spectral",
        "momentum": 0.9,
        "steps": 20000,
        "schedule": {"type": "power", "exponent": 0.5},
        "error_feedback": {"step": "inverse_sqrt"},
        "seed": 0,
    },
)

TORCH_MUON = Analysis(
    name="optimizer-convergence/torch-muon",
    paper=PAPER,
    summary="torch.optim.Muon on the counterexample, with its default and with converged Newton-Schulz steps",
    request=TorchMuonRequest,
    response=TorchMuonReply,
    work="service.analysis.torch_jobs.muon",
    example={"momentum": 0.9, "steps": 1000, "schedule": {"type": "power", "exponent": 1.0}, "seed": 0},
    own_process=True,
)
