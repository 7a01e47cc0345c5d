"""`panel-treatment-effects`: from a panel to an effect for each unit, and its picture."""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from service.analysis.frame import AnalysisError, Context, Notice
from service.analysis.panel_treatment_effects.assignment import column_p_value, difference_in_means, propensities
from service.analysis.panel_treatment_effects.schema import (
    MAX_CELLS,
    ArmRanks,
    ArmValues,
    BothArms,
    PanelDiagnostics,
    PanelEffects,
    PanelRequest,
    UnitEffect,
)
from service.analysis.panel_treatment_effects.spectral import (
    LowRank,
    hard_impute,
    inverse_propensity,
    leading,
    noise_edge,
    rank_by_gap,
    theory_threshold,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAP_CONSTANT = 0.5
SEARCHED_RANKS = 8
DRIFT_P_VALUE = 0.01


class Panel(NamedTuple):
    """The rows that are estimated: outcomes (n, m), treated (n, m) of bool, and which of all rows they are."""

    outcomes: np.ndarray
    treated: np.ndarray
    kept: np.ndarray


class ArmFit(NamedTuple):
    """One arm: its estimate (None at rank 0), the singular values searched, and the threshold if one was used."""

    estimate: LowRank | None
    values: np.ndarray
    threshold: float | None

    @property
    def rank(self) -> int:
        """The rank that the estimate was cut to."""
        return 0 if self.estimate is None else len(self.estimate.values)


def compute(request: PanelRequest, context: Context) -> PanelEffects:
    """Fit both arms and take their difference."""
    refuse_unused(request)
    outcomes, treated = arrays(request)
    panel = identified(request, outcomes, treated)
    model = propensities(panel.treated, request.propensity_model)
    control = fit_arm(request, panel, ~panel.treated, 1 - model, context, 0.0)
    treated_fit = fit_arm(request, panel, panel.treated, model, context, 0.5)
    return reply(request, context, outcomes, treated, panel, control, treated_fit)


def refuse_unused(request: PanelRequest) -> None:
    """Refuse what the chosen rule would ignore."""
    auto = request.rank == "auto"
    unused = {
        "gap_constant": request.gap_constant is not None and (not auto or request.gap_rule != "noise_edge"),
        "outcome_bound": request.outcome_bound is not None and (not auto or request.gap_rule != "theory"),
        "max_rank": request.max_rank is not None and not auto,
        "gap_rule": request.gap_rule != "noise_edge" and not auto,
    }
    for field, is_unused in unused.items():
        if is_unused:
            raise AnalysisError(field, f"is not used with rank {request.rank!r} and gap_rule {request.gap_rule!r}")


def arrays(request: PanelRequest) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes as float and treatment as bool, both (n, m)."""
    n, m = len(request.outcomes), len(request.outcomes[0])
    if n * m > MAX_CELLS:
        raise AnalysisError("outcomes", f"has {n} x {m} cells; at most {MAX_CELLS}")
    for field, rows in (("outcomes", request.outcomes), ("treatment", request.treatment)):
        if len(rows) != n:
            raise AnalysisError(field, f"has {len(rows)} rows, and outcomes has {n}")
        for number, row in enumerate(rows):
            if len(row) != m:
                raise AnalysisError(f"{field}.{number}", f"has {len(row)} columns, and the first row of outcomes {m}")
    if request.unit_ids is not None and (len(request.unit_ids) != n or len(set(request.unit_ids)) != n):
        raise AnalysisError("unit_ids", f"must be {n} different names, one a row")
    outcomes = np.array(request.outcomes, dtype=float)
    if np.ptp(outcomes) == 0:
        raise AnalysisError("outcomes", "are all the same; there is nothing to estimate")
    return outcomes, np.array(request.treatment, dtype=bool)


def identified(request: PanelRequest, outcomes: np.ndarray, treated: np.ndarray) -> Panel:
    """The units seen often enough in both arms; refuses the others unless they are to be left out."""
    ones = treated.sum(axis=1)
    seen = np.minimum(ones, treated.shape[1] - ones)
    kept = seen >= request.min_row_observed
    if not kept.all() and not request.drop_unidentified:
        first = int(np.flatnonzero(~kept)[0])
        message = f"has a unit with {seen[first]} times in an arm, under min_row_observed {request.min_row_observed}"
        others = f"; {int((~kept).sum())} such units; drop_unidentified leaves them out"
        raise AnalysisError(f"treatment.{first}", message + others)
    if kept.sum() < 2:
        raise AnalysisError("treatment", "leaves fewer than two units with enough times in both arms")
    return Panel(outcomes[kept], treated[kept], kept)


def largest_rank(panel: Panel) -> int:
    """min(n, m)/4, and at least 1."""
    return max(1, min(panel.outcomes.shape) // 4)


def fit_arm(
    request: PanelRequest, panel: Panel, mask: np.ndarray, propensity: np.ndarray, context: Context, done: float
) -> ArmFit:
    """Scale, find the rank, cut, and refine if asked."""
    context.report(done, "leading singular values")
    matrix = inverse_propensity(panel.outcomes, mask, propensity)
    if request.rank == "auto":
        found, threshold, rank = search(request, panel, matrix, propensity, context)
    else:
        rank, threshold = request.rank, None
        if rank > largest_rank(panel):
            raise AnalysisError("rank", f"is at most min(n, m)/4 = {largest_rank(panel)} here")
        found = leading(matrix, rank + 1, context.rng)
    if rank == 0:
        return ArmFit(None, found.values, threshold)
    estimate = found.cut(rank)
    if request.refinement == "hard_impute":
        estimate = hard_impute(
            panel.outcomes,
            mask,
            estimate,
            context.rng,
            lambda number: context.report(done + 0.02 * number, f"hard imputation, round {number + 1}"),
        )
    return ArmFit(estimate, found.values, threshold)


def search(
    request: PanelRequest, panel: Panel, matrix: np.ndarray, propensity: np.ndarray, context: Context
) -> tuple[LowRank, float, int]:
    """The leading triples, the gap threshold, and the rank it picks."""
    limit = largest_rank(panel)
    searched = min(SEARCHED_RANKS, limit) if request.max_rank is None else request.max_rank
    if searched > limit:
        raise AnalysisError("max_rank", f"is at most min(n, m)/4 = {limit} here")
    found = leading(matrix, searched + 1, context.rng)
    if request.gap_rule == "theory":
        bound = request.outcome_bound or float(np.abs(panel.outcomes).max())
        threshold = theory_threshold(bound, propensity, *matrix.shape)
    else:
        constant = GAP_CONSTANT if request.gap_constant is None else request.gap_constant
        threshold = constant * noise_edge(matrix, found.values, searched)
    return found, threshold, rank_by_gap(found.values, threshold)


def reply(
    request: PanelRequest,
    context: Context,
    outcomes: np.ndarray,
    treated: np.ndarray,
    panel: Panel,
    control: ArmFit,
    treated_fit: ArmFit,
) -> PanelEffects:
    """Everything that is told."""
    n, m = panel.outcomes.shape
    effects = np.full(len(outcomes), np.nan)
    matrix: list[list[float] | None] | None = None
    leverage = None
    if control.estimate is not None and treated_fit.estimate is not None:
        effects[panel.kept] = treated_fit.estimate.row_means() - control.estimate.row_means()
        leverage = max(control.estimate.top_leverage(), treated_fit.estimate.top_leverage())
        if request.return_matrix:
            rows = iter((treated_fit.estimate.dense() - control.estimate.dense()).tolist())
            matrix = [next(rows) if kept else None for kept in panel.kept]
    shares = panel.treated.mean(axis=1)
    least = float(np.minimum(shares, 1 - shares).min())
    p_value = column_p_value(panel.treated)
    naive = difference_in_means(outcomes, treated)
    units = unit_effects(request, effects, naive, treated.mean(axis=1), panel.kept)
    return PanelEffects(
        method=f"{request.propensity_model}_scaled_spectral"
        + ("+hard_impute" if request.refinement == "hard_impute" else ""),
        seed=context.seed,
        warnings=warnings_for(request, panel, control, treated_fit, p_value),
        unit_effects=units,
        average_treatment_effect=finite(float(np.mean(effects[panel.kept]))),
        average_naive_difference=finite(float(np.mean(naive[panel.kept]))),
        selected_rank=ArmRanks(control=control.rank, treated=treated_fit.rank),
        singular_values=ArmValues(control=control.values.tolist(), treated=treated_fit.values.tolist()),
        gap_threshold=BothArms(control=control.threshold, treated=treated_fit.threshold),
        error_rate_scale=math.sqrt((1 / n + n / m**2) / least),
        diagnostics=PanelDiagnostics(
            min_propensity=least, column_assignment_p_value=p_value, top_row_leverage=leverage
        ),
        effect_matrix=matrix,
    )


def finite(number: float) -> float | None:
    """The number, or None for a NaN."""
    return number if math.isfinite(number) else None


def unit_effects(
    request: PanelRequest, effects: np.ndarray, naive: np.ndarray, shares: np.ndarray, kept: np.ndarray
) -> list[UnitEffect]:
    """One object a unit, in the order of the rows."""
    ids = request.unit_ids if request.unit_ids is not None else [str(number) for number in range(len(effects))]
    return [
        UnitEffect(
            unit_id=name,
            effect=finite(effect),
            naive_difference_in_means=finite(difference),
            propensity=share,
            identified=is_kept,
        )
        for name, effect, difference, share, is_kept in zip(
            ids, effects.tolist(), naive.tolist(), shares.tolist(), kept.tolist(), strict=True
        )
    ]


def warnings_for(
    request: PanelRequest, panel: Panel, control: ArmFit, treated: ArmFit, p_value: float | None
) -> list[Notice]:
    """Assumptions that the data speak against."""
    found: list[Notice] = []
    empty = [name for name, fit in (("control", control), ("treated", treated)) if fit.rank == 0]
    if empty:
        message = f"no gap between singular values reaches the threshold in {' and '.join(empty)}; effects are null"
        found.append(Notice(code="no_spectral_gap", message=message))
    if p_value is not None and p_value < DRIFT_P_VALUE and request.propensity_model == "row":
        message = f"treatment shares differ between times (p = {p_value:.2g}); the row propensity is then biased"
        found.append(Notice(code="time_varying_assignment", message=message))
    if not panel.kept.all():
        message = f"{int((~panel.kept).sum())} units have too few times in an arm and were left out"
        found.append(Notice(code="unidentified_units", message=message))
    if request.propensity_model != "row" or request.refinement != "none":
        message = "row_column and hard_impute are extensions; the paper's guarantee is not about them"
        found.append(Notice(code="not_the_papers_estimator", message=message))
    return found


def draw(request: PanelRequest, response: PanelEffects) -> "Figure":
    """Each unit's effect in falling order with its naive difference, and the singular values with the thresholds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    units = [unit for unit in response.unit_effects if unit.identified]
    key = [unit.effect if unit.effect is not None else unit.naive_difference_in_means or 0.0 for unit in units]
    order = np.argsort(key)[::-1]
    naive = np.array([unit.naive_difference_in_means for unit in units], dtype=float)[order]
    left.plot(naive, ".", color="0.6", label="difference in means")
    if response.average_treatment_effect is not None:
        left.plot(np.array(key)[order], "-", color="C0", label="estimated effect")
        left.axhline(response.average_treatment_effect, color="C0", linewidth=0.8, linestyle=":")
    left.set(xlabel="unit, by effect", ylabel="effect in outcome units")
    left.legend()
    arms = (("control", response.singular_values.control), ("treated", response.singular_values.treated))
    for colour, (name, values) in enumerate(arms):
        rank = getattr(response.selected_rank, name)
        right.plot(range(1, len(values) + 1), values, "o-", color=f"C{colour}", label=f"{name}: rank {rank}")
    right.set(xlabel="number", ylabel="singular value", ylim=(0, None))
    right.legend()
    return figure
