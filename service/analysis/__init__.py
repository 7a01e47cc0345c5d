"""Analyses of eight papers beside the sampler's own: one package a paper, one line here a route."""

from typing import Any

from service.analysis.associative_memory import ASSOCIATIVE_MEMORY
from service.analysis.constrained_sparsity import CONSTRAINED_SPARSITY
from service.analysis.frame import Analysis
from service.analysis.memorisation_convergence import MEMORISATION_CONVERGENCE
from service.analysis.optimizer_convergence import OPTIMIZER_CONVERGENCE, TORCH_MUON
from service.analysis.panel_treatment_effects import PANEL_TREATMENT_EFFECTS
from service.analysis.positive_query_learning import CERTIFICATE, LEARNABILITY, POSITIVE_QUERY_LEARNING
from service.analysis.private_subspace import PRIVATE_SUBSPACE
from service.analysis.small_data_bounds import BENCHMARK_BOUNDS, PAC_BAYES_BOUNDS

ANALYSES: dict[str, Analysis[Any, Any]] = {
    analysis.name: analysis
    for analysis in (
        CONSTRAINED_SPARSITY,
        POSITIVE_QUERY_LEARNING,
        CERTIFICATE,
        LEARNABILITY,
        OPTIMIZER_CONVERGENCE,
        TORCH_MUON,
        ASSOCIATIVE_MEMORY,
        BENCHMARK_BOUNDS,
        PAC_BAYES_BOUNDS,
        PRIVATE_SUBSPACE,
        PANEL_TREATMENT_EFFECTS,
        MEMORISATION_CONVERGENCE,
    )
}
"""Every route under `/v1/analysis/`, by its name."""
