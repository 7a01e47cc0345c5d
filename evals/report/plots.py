"""The report's plots, as SVG text that stands in a page without any file beside it."""

import io
import re
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

BINS = 24
SPREAD = 8
"""Arms whose costs differ by more than this factor are shown on a logarithmic axis."""
STYLE: dict[Any, Any] = {"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9, "axes.spines.top": False}
STYLE |= {"axes.spines.right": False, "legend.frameon": False}


def plots(found: Mapping[str, Any], name: str) -> dict[str, str]:
    """Title → SVG of one benchmark's plots; those without anything to show are left out."""
    made = {
        "Accuracy against tokens drawn": draw(accuracy_against_tokens, found, f"{name}-cost"),
        "pass@k": draw(pass_at_k, found, f"{name}-pass") if has_curve(found) else None,
        "Σ log p of the answers' text": draw(log_likelihoods, found, f"{name}-logp") if has_log_p(found) else None,
    }
    return {title: svg for title, svg in made.items() if svg is not None}


def draw(plot: Callable[[Axes, Mapping[str, Any]], None], found: Mapping[str, Any], salt: str) -> str:
    """One plot. Ids begin with `salt`, since all SVGs of a page share one name space."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": salt}):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        plot(figure.subplots(), found)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\1{salt}-", text)


def accuracy_against_tokens(axes: Axes, found: Mapping[str, Any]) -> None:
    """A point an arm, with the intervals of both."""
    drawn = [each["value"] for arm in found["arms"] if (each := arm["cost"]["generated_tokens"]) and each["value"]]
    if drawn and max(drawn) > SPREAD * min(drawn):
        axes.set_xscale("log")
    for index, arm in enumerate(found["arms"]):
        tokens, accuracy = arm["cost"]["generated_tokens"], arm["accuracy"]
        if tokens is None or accuracy["value"] is None:
            continue
        x, y, label = tokens["value"], accuracy["value"], plain(arm["label"])
        across, along = spread(accuracy), spread(tokens)
        axes.errorbar(x, y, across, along, fmt="o", color=f"C{index}", capsize=2, label=label)
    axes.set(xlabel="tokens drawn an answer", ylabel="accuracy", ylim=(-0.02, 1.02))
    legend(axes)


def pass_at_k(axes: Axes, found: Mapping[str, Any]) -> None:
    """A line an arm, with its band."""
    for index, arm in enumerate(found["arms"]):
        points = sorted((int(k), each) for k, each in arm["pass_at_k"].items() if each["value"] is not None)
        if not points:
            continue
        ks = [k for k, _ in points]
        axes.plot(ks, [e["value"] for _, e in points], "o-", ms=3, color=f"C{index}", label=plain(arm["label"]))
        if all(each["lower"] is not None for _, each in points):
            lower, upper = [e["lower"] for _, e in points], [e["upper"] for _, e in points]
            axes.fill_between(ks, lower, upper, color=f"C{index}", alpha=0.12, lw=0)
    axes.set(xlabel="k", ylabel="pass@k", ylim=(-0.02, 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes)


def log_likelihoods(axes: Axes, found: Mapping[str, Any]) -> None:
    """A histogram an arm, all with the same bins."""
    values = {plain(arm["label"]): arm["log_p"]["texts"] for arm in found["arms"] if arm["log_p"]["texts"]}
    every = np.concatenate([np.asarray(each, float) for each in values.values()])
    bins = np.linspace(every.min(), every.max() + 1e-9, BINS + 1)
    for index, (label, each) in enumerate(values.items()):
        axes.hist(each, bins=list(bins), histtype="step", density=True, color=f"C{index}", label=label)
    axes.set(xlabel="Σ log p of the answer's text (nats)", ylabel="density")
    legend(axes)


def legend(axes: Axes) -> None:
    """The arms' names, if any was drawn."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def spread(found: Mapping[str, Any]) -> list[list[float]] | None:
    """Distances to an interval's ends, as error bars want them."""
    if found["lower"] is None:
        return None
    return [[max(0.0, found["value"] - found["lower"])], [max(0.0, found["upper"] - found["value"])]]


def plain(label: str) -> str:
    """A label in which nothing is taken for mathematics or hidden."""
    return label.replace("$", r"\$").lstrip("_")


def has_curve(found: Mapping[str, Any]) -> bool:
    """Whether there is more than pass@1."""
    return any(len(arm["pass_at_k"]) > 1 for arm in found["arms"])


def has_log_p(found: Mapping[str, Any]) -> bool:
    """Whether any answer has log-probabilities."""
    return any(arm["log_p"]["texts"] for arm in found["arms"])
