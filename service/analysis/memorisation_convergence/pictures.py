"""A picture of each mode."""

from matplotlib.figure import Figure

from service.analysis.memorisation_convergence.schema import SampleMeasures, SplitHalfCurves, TheoryCurves

SIZE = (6.8, 4.4)


def draw_theory(spikes: list[float], curves: TheoryCurves) -> Figure:
    """Convergence, recovery of each spike, and the memorisation ratio against the load."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.plot(curves.load, curves.convergence, "o-", markersize=3, label="convergence q")
    for theta, overlap in zip(spikes, curves.latent_overlap_sq, strict=True):
        axes.plot(curves.load, overlap, "--", label=f"latent overlap Q², θ = {theta:g}")
    axes.set(xscale="log", xlabel="load n/d", ylabel="q and Q²", ylim=(-0.02, 1.05))
    if curves.memorisation_ratio is not None:
        right = axes.twinx()
        right.plot(curves.load, curves.memorisation_ratio, ":", color="0.4", label="memorisation ratio")
        right.set(ylabel="memorisation ratio (dotted)", ylim=(1, None))
    axes.legend()
    return figure


def draw_samples(found: SampleMeasures) -> Figure:
    """The measures as bars, the convergence with its interval."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    q, latent, memorised = found.convergence, found.latent_recovery, found.memorisation
    bars = {
        "convergence": q.mean,
        "predicted": q.predicted,
        "latent overlap²": latent.overlap_sq,
        "between models": latent.between_models_overlap_sq,
        "nearest, own": memorised.mean_nearest_similarity,
        "nearest, held out": memorised.holdout,
    }
    axes.bar(list(bars), list(bars.values()), color=["C0", "C0", "C1", "C1", "C2", "C2"], alpha=0.7)
    axes.vlines(0, *q.ci95, color="k")
    axes.set(ylim=(min(0.0, q.ci95[0]), 1.05))
    axes.tick_params(axis="x", labelrotation=20)
    axes.set_title(f"{found.verdict.replace('_', ' ')}; memorisation ratio {memorised.ratio:.2f}")
    return figure


def draw_halves(curves: SplitHalfCurves) -> Figure:
    """All measures against the rows in each half."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.plot(curves.n, curves.convergence, "o-", label="convergence q")
    axes.plot(curves.n, curves.predicted_convergence, "--", color="C0", label="predicted q")
    axes.plot(curves.n, curves.latent_overlap_sq, "s-", color="C1", label="latent overlap² with all rows")
    axes.plot(curves.n, curves.between_halves_overlap_sq, "s--", color="C1", label="between the halves")
    axes.set(xscale="log", xlabel="rows in each half", ylabel="q and overlap²", ylim=(-0.02, 1.05))
    right = axes.twinx()
    right.plot(curves.n, curves.memorisation_ratio, "^:", color="C2")
    right.set(ylabel="memorisation ratio (dotted)", ylim=(1, None))
    axes.legend()
    return figure
