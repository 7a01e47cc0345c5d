"""What is estimated of the treatment assignment, and tested about it."""

import numpy as np
from scipy import stats

LEAST_PROPENSITY = 0.01
"""The row-column model is not a probability near 0 and 1; weights of more than a hundred would be its error."""


def propensities(treated: np.ndarray, model: str) -> np.ndarray:
    """Modelled P[treated]: (n, 1) row shares, or (n, m) row share + column share − total share for `row_column`."""
    rows = treated.mean(axis=1, keepdims=True)
    if model == "row":
        return rows
    both = rows + treated.mean(axis=0, keepdims=True) - treated.mean()
    return np.clip(both, LEAST_PROPENSITY, 1 - LEAST_PROPENSITY)


def column_p_value(treated: np.ndarray) -> float | None:
    """Cochran's Q: whether column totals vary more than chance allows, given the row totals; None without chance."""
    m = treated.shape[1]
    rows, columns = treated.mean(axis=1), treated.sum(axis=0)
    variance = float((rows * (1 - rows)).sum())
    if variance == 0:
        return None
    statistic = (m - 1) * float(((columns - columns.mean()) ** 2).sum()) / (m * variance)
    return float(stats.chi2.sf(statistic, m - 1))


def difference_in_means(outcomes: np.ndarray, treated: np.ndarray) -> np.ndarray:
    """Mean treated minus mean control outcome of each unit, (n,); NaN where an arm was never seen."""
    ones, zeros = treated.sum(axis=1), (~treated).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (outcomes * treated).sum(axis=1) / ones - (outcomes * ~treated).sum(axis=1) / zeros
