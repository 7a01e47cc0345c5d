"""Pictures of `associative-memory`."""

import numpy as np
from matplotlib.figure import Figure

from service.analysis.associative_memory.schema import CapacityReply, FitReply, SimulationReply
from service.analysis.associative_memory.theory import mean_field_sq_distance

GREY = "0.6"


def draw_fit(figure: Figure, found: FitReply) -> None:
    """Own score against threshold, and the singular values beside the quarter circle."""
    left, right = figure.subplots(1, 2)
    for label, one, colour in (("Hebbian", found.hebbian, GREY), ("solution", found.solution, "C0")):
        own, threshold = np.array(one.scores).T
        left.scatter(threshold, own, s=8, label=f"{label}: recall {one.recall_top1:.2f}", color=colour)
        right.hist(one.singular_values, bins=12, range=(0, 2.4), density=True, alpha=0.5, label=label, color=colour)
    ends = [*left.get_xlim()]
    left.plot(ends, ends, color="black", linewidth=0.8, label="recall needs to be above")
    left.set(xlabel="best competitor's score", ylabel="own target's score", title=f"status: {found.status}")
    left.legend()
    grid = np.linspace(0, 2, 200)
    right.plot(grid, np.sqrt(4 - grid**2) / np.pi, color="black", label="quarter circle")
    right.set(xlabel="singular value / root mean square", ylabel="density")
    right.legend()


def draw_shares(figure: Figure, found: SimulationReply) -> None:
    """Shares of instances."""
    axes = figure.subplots()
    names = ["feasible", "infeasible", "undecided", "Hebbian recalls all"]
    shares = [found.feasible_fraction, found.infeasible_fraction, found.undecided_fraction, found.hebbian_fraction]
    axes.bar(names, shares, color=["C0", "C3", GREY, "C1"])
    axes.set(ylim=(0, 1), ylabel="share of instances", title=f"{found.trials} instances of {found.num_facts} facts")


def draw_limit(figure: Figure, theory: CapacityReply) -> None:
    """How slowly p log p/d² reaches its limit."""
    axes = figure.subplots()
    logs = np.geomspace(3, 1e5, 120)
    axes.plot(logs, [one * theory.rank_factor / mean_field_sq_distance(one) for one in logs], label="theory")
    axes.axhline(theory.asymptotic_constant, color="black", linestyle="--", label="limit")
    axes.axhline(theory.capacity_constant, color="C1", linestyle=":", label="at the sizes asked for")
    axes.set(xscale="log", xlabel="log of the number of targets", ylabel="capacity · log(targets)/(d_in d_out)")
    axes.legend()
