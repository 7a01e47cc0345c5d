"""`pac-bayes-bounds`: the request's risk and divergence, each method's bound, and its picture."""

import math
from typing import TYPE_CHECKING

import numpy as np

from service.analysis.frame import AnalysisError, Context, Notice
from service.analysis.small_data_bounds.pac_bayes import (
    best_beta,
    catoni_upper,
    divergence_of,
    log_xi,
    optimistic_upper,
    pac_bayes_kl_upper,
)
from service.analysis.small_data_bounds.schema import Configuration, PacBayesBounds, PacBayesBoundsRequest, RiskBound

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUM_TOLERANCE = 1e-9


def compute(request: PacBayesBoundsRequest, context: Context) -> PacBayesBounds:
    """Every method asked for, at the examples that the prior was not built from."""
    q, divergence = risk_and_divergence(request)
    n = examples_left(request)
    check_beta(request)
    warnings: list[Notice] = []
    if math.isinf(divergence):
        message = "the posterior has mass where the prior has none: no bound but 1"
        warnings.append(Notice(code="infinite_divergence", message=message))
    return PacBayesBounds(
        method="+".join(dict.fromkeys(request.methods)),
        seed=context.seed,
        warnings=warnings,
        n=n,
        delta=request.delta,
        empirical_risk=q,
        kl_divergence=None if math.isinf(divergence) else divergence,
        bounds=[bound(method, request, q, divergence, n) for method in dict.fromkeys(request.methods)],
    )


def risk_and_divergence(request: PacBayesBoundsRequest) -> tuple[float, float]:
    """(q, KL) as given, or of the configurations."""
    direct = {"empirical_risk": request.empirical_risk, "kl_divergence": request.kl_divergence}
    if request.configurations is not None:
        for name, value in direct.items():
            if value is not None:
                raise AnalysisError(name, "follows from `configurations`; give one or the other")
        return of_configurations(request.configurations)
    for name, value in direct.items():
        if value is None:
            raise AnalysisError(name, "is needed, unless `configurations` are given")
    assert request.empirical_risk is not None
    assert request.kl_divergence is not None
    return request.empirical_risk, request.kl_divergence


def of_configurations(configurations: list[Configuration]) -> tuple[float, float]:
    """The mixture's risk and its divergence from the prior."""
    weights = {
        "posterior": np.array([one.posterior for one in configurations]),
        "prior": np.array([one.prior for one in configurations]),
    }
    for name, weight in weights.items():
        total = math.fsum(weight)
        if abs(total - 1) > SUM_TOLERANCE:
            raise AnalysisError("configurations", f"the {name} weights sum to {total:.12g}; they must sum to 1")
    risks = np.array([one.empirical_risk for one in configurations])
    q = min(1.0, float(weights["posterior"] @ risks))
    return q, divergence_of(weights["posterior"], weights["prior"])


def examples_left(request: PacBayesBoundsRequest) -> int:
    """The examples that the prior does not know."""
    left = request.n - request.num_prior_examples
    if left < 1:
        raise AnalysisError("num_prior_examples", f"must leave at least one of the {request.n} examples for the bound")
    return left


def check_beta(request: PacBayesBoundsRequest) -> None:
    """Refuse what would be a false certificate, and what would be ignored."""
    beta = request.catoni_beta
    if "catoni" not in request.methods:
        if beta is not None:
            raise AnalysisError("catoni_beta", "is not used by the methods asked for")
    elif beta is None:
        raise AnalysisError("catoni_beta", "has no default: give one fixed before the data, or ask for pac_bayes_kl")
    if beta == "optimise" and request.certified:
        message = "fitted to the data the bound is the optimistic curve and certifies nothing"
        raise AnalysisError("catoni_beta", f"{message}; fix it, declare a grid, or say certified: false")


def bound(method: str, request: PacBayesBoundsRequest, q: float, divergence: float, n: int) -> RiskBound:
    """One method's bound; 1 where the divergence is infinite."""
    delta = request.delta
    if method == "pac_bayes_kl":
        moment = log_xi(n)
        value = 1.0 if math.isinf(divergence) else pac_bayes_kl_upper(q, divergence, n, delta, moment)
        return RiskBound(method="pac_bayes_kl", value=value, certified=True, log_moment_term=moment)
    if method == "catoni":
        return catoni(request, q, divergence, n)
    value = 1.0 if math.isinf(divergence) else optimistic_upper(q, divergence, n, delta)
    assumes = "an open problem: no convex Delta can give less, and none is known to give this"
    return RiskBound(method="optimistic_kl", value=value, certified=False, assumes=assumes)


def catoni(request: PacBayesBoundsRequest, q: float, divergence: float, n: int) -> RiskBound:
    """Catoni's bound at a fixed β, at the best of a declared grid with delta shared out, or fitted and uncertified."""
    given, delta = request.catoni_beta, request.delta
    if math.isinf(divergence):
        return RiskBound(method="catoni", value=1.0, certified=True)
    if given == "optimise":
        beta = best_beta(q, divergence, n, delta)
        value = catoni_upper(q, divergence, n, delta, beta)
        return RiskBound(method="catoni", value=value, certified=False, beta=beta, assumes="fitted to the same data")
    grid = given if isinstance(given, list) else [given]
    betas = [beta for beta in grid if isinstance(beta, float | int)]
    value, beta = min((catoni_upper(q, divergence, n, delta / len(betas), beta), beta) for beta in betas)
    assumes = "the grid of betas was fixed before the data" if len(betas) > 1 else "beta fixed before the data"
    return RiskBound(method="catoni", value=value, certified=True, beta=beta, assumes=assumes)


def draw(request: PacBayesBoundsRequest, response: PacBayesBounds) -> "Figure":
    """Each bound against the empirical risk at this n, KL and δ, with the request's own point."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    divergence = math.inf if response.kl_divergence is None else response.kl_divergence
    risks = np.linspace(0, 1, 101)
    for one in response.bounds:
        values = [bound(one.method, request, float(q), divergence, response.n).value for q in risks]
        name = one.method.replace("_", " ")
        (line,) = axes.plot(risks, values, label=name if one.certified else f"{name} (no certificate)")
        line.set_linestyle("-" if one.certified else "--")
        axes.plot(response.empirical_risk, one.value, "o", color=line.get_color())
    axes.plot(risks, risks, color="0.7", linewidth=0.8)
    shown = "infinite" if response.kl_divergence is None else f"{divergence:.3g} nats"
    axes.set(xlabel="empirical risk", ylabel="upper bound on risk", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"n = {response.n}, KL = {shown}, δ = {response.delta:g}")
    axes.legend()
    return figure
