"""Panels with known effects, as the acceptance experiments draw them."""

from typing import Any, NamedTuple

import numpy as np

from service.analysis.frame import Context
from service.analysis.panel_treatment_effects.assignment import propensities
from service.analysis.panel_treatment_effects.effects import ArmFit, Panel, fit_arm
from service.analysis.panel_treatment_effects.schema import PanelRequest

ROOT_3 = np.sqrt(3)
DEFAULTS = {name: field.default for name, field in PanelRequest.model_fields.items()}


class Drawn(NamedTuple):
    outcomes: np.ndarray
    treated: np.ndarray
    effects: np.ndarray


def draw_panel(
    rng: np.random.Generator,
    n: int,
    m: int,
    rank: int = 2,
    rate: float | None = None,
    shift: str = "none",
) -> Drawn:
    """A(a) = U·V_aᵀ with uniform factors, uniform noise of sd 0.5, row rates U(0.3, 0.7) unless given.

    `shift` adds ±0.2 to the rates: `signal` follows the sign of the treated signal, `time` a uniform draw a column.
    """
    unit = rng.uniform(-ROOT_3, ROOT_3, (n, rank)) / np.sqrt(2)
    control, treated = rng.uniform(-ROOT_3, ROOT_3, (2, m, rank))
    control, treated = unit @ control.T, unit @ (0.8 * treated + 0.6).T
    rates = rng.uniform(0.3, 0.7, (n, 1)) if rate is None else np.full((n, 1), rate)
    shifts = {"none": 0.0, "signal": 0.2 * np.sign(treated), "time": rng.uniform(-0.2, 0.2, (1, m))}
    mask = rng.random((n, m)) < rates + shifts[shift]
    noise = rng.uniform(-ROOT_3, ROOT_3, (n, m)) * 0.5
    return Drawn(np.where(mask, treated, control) + noise, mask, treated - control)


def fit(drawn: Drawn, seed: int = 0, **options: Any) -> tuple[ArmFit, ArmFit]:
    """Both arms by the estimator behind the route, without writing a million numbers as JSON."""
    request = PanelRequest.model_construct(**(DEFAULTS | options))
    panel = Panel(drawn.outcomes, drawn.treated, np.ones(len(drawn.outcomes), dtype=bool))
    model = propensities(panel.treated, request.propensity_model)
    context = Context(seed)
    control = fit_arm(request, panel, ~panel.treated, 1 - model, context, 0.0)
    return control, fit_arm(request, panel, panel.treated, model, context, 0.5)


def errors(drawn: Drawn, fits: tuple[ArmFit, ArmFit]) -> tuple[float, float]:
    """Largest root mean square error of a row, and largest error of a unit's effect."""
    control, treated = (one.estimate for one in fits)
    assert control is not None
    assert treated is not None
    wrong = treated.dense() - control.dense() - drawn.effects
    return float(np.sqrt((wrong**2).mean(axis=1)).max()), float(np.abs(wrong.mean(axis=1)).max())


def mean_errors(
    seed: int, runs: int, n: int, m: int, *, fitted: dict[str, Any] | None = None, **drawn: Any
) -> np.ndarray:
    """The two errors' means over runs."""
    rng = np.random.default_rng(seed)
    panels = [draw_panel(rng, n, m, **drawn) for _ in range(runs)]
    return np.mean([errors(panel, fit(panel, **(fitted or {}))) for panel in panels], axis=0)
