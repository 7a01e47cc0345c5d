"""Whether a generative model copies its training set, agrees with its twin, and has found what matters.

Maillard, Goldt: Memorisation, convergence and generalisation in generative models, arXiv 2605.21402. The model is
theirs; the formulas in `theory` were derived for this service and checked by simulation. `measures` does samples and
halves of a data set, `modes` answers the route.
"""

from service.analysis.frame import Analysis, Paper
from service.analysis.memorisation_convergence.schema import MemorisationReply, MemorisationRequest

MEMORISATION_CONVERGENCE = Analysis(
    name="memorisation-convergence",
    paper=Paper("Memorisation, convergence and generalisation in generative models", "2605.21402"),
    summary="Memorisation, agreement of two models and recovery of latent directions: in theory, of samples, of halves",
    request=MemorisationRequest,
    response=MemorisationReply,
    work="service.analysis.memorisation_convergence.modes",
    example={"mode": "theory", "spikes": [0.5, 2.0], "seed": 0},
)
