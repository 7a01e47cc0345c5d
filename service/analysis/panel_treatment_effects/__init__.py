"""Each unit's treatment effect from a panel in which every cell shows one arm only.

Mehrotra, Tran, Vu, Zampetakis: Heterogeneous Treatment-Effect Estimation via Matrix Completion, arXiv 2605.30319.
`spectral` is the estimator, `assignment` what is said of the propensities, `effects` answers the route.
"""

from service.analysis.frame import Analysis, Paper
from service.analysis.panel_treatment_effects.example import example_panel
from service.analysis.panel_treatment_effects.schema import PanelEffects, PanelRequest

PANEL_TREATMENT_EFFECTS = Analysis(
    name="panel-treatment-effects",
    paper=Paper("Heterogeneous Treatment-Effect Estimation via Matrix Completion", "2605.30319"),
    summary="Each unit's effect from a units x times panel where each cell shows one arm, by row-scaled low rank",
    request=PanelRequest,
    response=PanelEffects,
    work="service.analysis.panel_treatment_effects.effects",
    example=example_panel(),
)
