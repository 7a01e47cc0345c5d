"""`make pictures`: computes the docs' figures anew, draws them, and writes both into docs/pictures.

The drawings are the same to the byte for the same numbers: no date, no random ids. Colours are those of Okabe and Ito,
which colour-blind people can tell apart; shapes differ as well.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from docs.tools.figures import STEPS, all_figures

Json = dict[str, Any]
FOLDER = Path(__file__).parents[1] / "pictures"
NUMBERS = "figures.json"
STYLE: Any = {
    "svg.hashsalt": "powercut",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}
BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#777777"
FATES = {
    "moved": ("accepted", "o", GREEN, GREEN),
    "same": ("accepted, the same text", "o", "none", GREEN),
    "rejected": ("rejected at its end", "X", RED, RED),
    "early": ("rejected early", "x", RED, RED),
}


def laws(figures: Json) -> Figure:
    """p, token-wise sharpening and the power distribution of the four answers of a small tree."""
    found = figures["laws"]
    figure, axes = one_plot(6.4, 2.9)
    places = np.arange(len(found["answers"]))
    series = {"p": ("model p", GREY), "q": ("each token sharpened", ORANGE), "pi": ("whole answer sharpened", BLUE)}
    for i, (name, (label, colour)) in enumerate(series.items()):
        bars = axes.bar(places + 0.27 * (i - 1), found[name], 0.25, label=label, color=colour)
        axes.bar_label(bars, [f"{value:.2f}" for value in found[name]], fontsize=7)
    axes.set_xticks(places, [answer.strip() for answer in found["answers"]])
    axes.set_ylabel("probability")
    axes.set_ylim(top=0.7)
    axes.legend(frameon=False, ncols=3, loc="upper center")
    return figure


def convergence(figures: Json) -> Figure:
    """Mean distance to p^α against steps, for both cut laws."""
    figure, axes = one_plot(6.4, 3.2)
    for (cut, rows), colour, marker in zip(figures["distances"].items(), (BLUE, ORANGE), "os", strict=True):
        axes.plot(STEPS, np.mean(rows, axis=0), marker=marker, color=colour, label=f"{cut} cut")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_yscale("log")
    axes.set_xticks(STEPS, [str(step) for step in STEPS])
    axes.minorticks_off()
    axes.set_xlabel("Metropolis–Hastings steps in each stage")
    axes.set_ylabel("distance to p^α")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def chain(figures: Json) -> Figure:
    """A chain's steps: where each cuts, how far its proposal went and what became of it, over the tokens' entropy."""
    found = figures["chain"]
    length = len(found["tokens"])
    figure = Figure(figsize=(8.6, 6.2), layout="constrained")
    strip, axes = figure.subplots(2, 1, height_ratios=[1, 14], sharex=True)
    top = max(found["entropy"])
    strip.imshow([found["entropy"]], aspect="auto", cmap="cividis", vmin=0, vmax=top, extent=(-0.5, length - 0.5, 0, 1))
    strip.set_yticks([])
    strip.set_title("entropy of the row that each token of the answer was drawn from", fontsize=9)
    figure.colorbar(ScalarMappable(Normalize(0, top), "cividis"), ax=strip, label="nats", fraction=0.05)
    for row, step in enumerate(found["steps"], 1):
        axes.plot([step["cut"], step["cut"] + step["proposed"] - 1], [row, row], color="#cccccc", linewidth=2, zorder=1)
    for fate, (label, marker, face, edge) in FATES.items():
        rows = [(step["cut"], row) for row, step in enumerate(found["steps"], 1) if step["fate"] == fate]
        points: Json = {"c": edge} if marker == "x" else {"facecolors": face, "edgecolors": edge}
        axes.scatter(
            *zip(*rows, strict=True) if rows else ([], []), marker=marker, s=34, label=label, zorder=2, **points
        )
    steps = [step["stage"] for step in found["steps"]]
    for row in (i for i in range(1, len(steps)) if steps[i] != steps[i - 1]):
        axes.axhline(row + 0.5, color=GREY, linewidth=0.6, linestyle=":")
    axes.invert_yaxis()
    axes.set_ylabel("step (dotted: a new stage)")
    axes.set_xticks(range(length), [token.strip() or "end" for token in found["tokens"]], rotation=90)
    axes.legend(frameon=True, loc="upper right", fontsize=8)
    return figure


def log_pi(figures: Json) -> Figure:
    """α Σ log p of the trace after each step, of several chains."""
    found = figures["chain"]
    figure, axes = one_plot(6.4, 3.0)
    styles = zip(found["log_pi"], (BLUE, ORANGE, GREEN, RED), ("-", "--", "-.", ":"), strict=True)
    for i, (values, colour, line) in enumerate(styles):
        axes.step(range(1, len(values) + 1), values, where="mid", color=colour, linestyle=line, label=f"chain {i}")
    axes.set_xlabel("step")
    axes.set_ylabel("log π up to a constant, nats")
    axes.legend(frameon=False, fontsize=8)
    return figure


def savings(figures: Json) -> Figure:
    """Tokens that the engine drew for the same chain, with and without early rejection and the memo tree."""
    figure, axes = one_plot(6.4, 3.0)
    drawn = figures["chain"]["drawn"]
    for (name, counts), colour, line in zip(drawn.items(), (GREY, ORANGE, BLUE), ("-", "--", "-."), strict=True):
        axes.plot(range(1, len(counts) + 1), counts, color=colour, linestyle=line, label=f"{name}: {counts[-1]}")
    axes.set_xlabel("step")
    axes.set_ylabel("tokens drawn so far")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    return figure


PICTURES: dict[str, Callable[[Json], Figure]] = {
    "laws.svg": laws,
    "convergence.svg": convergence,
    "chain.svg": chain,
    "log-pi.svg": log_pi,
    "savings.svg": savings,
}


def one_plot(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one plot; inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def write(figures: Json, folder: Path) -> None:
    """Draw everything into a folder, with the numbers beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NUMBERS).write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, draw in PICTURES.items():
        with rc_context(STYLE):
            draw(figures).savefig(folder / name, metadata={"Date": None})


if __name__ == "__main__":
    write(all_figures() if "--draw-only" not in sys.argv else json.loads((FOLDER / NUMBERS).read_text()), FOLDER)
