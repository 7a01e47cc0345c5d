"""What a picture shows, in words, for those who do not see it: it goes into the PNG as its description."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

LONGEST = 1000
"""Characters of a description; the names of further series are left out."""


def described(figure: "Figure") -> str:
    """Titles, axes with their ranges, and the names of what is drawn, of each part of a figure; "" without words."""
    parts = [figure.get_suptitle(), *(_part(axes) for axes in figure.axes)]
    told = ". ".join(part for part in parts if part)
    return _cut(f"{told}." if told else "")


def _part(axes: "Axes") -> str:
    across, up = axes.get_xlabel(), axes.get_ylabel()
    if axes.get_label() == "<colorbar>":
        return _plain(f"colours: {up or across}") if up or across else ""
    said = [axes.get_title(), _axis("across", across, axes.xaxis), _axis("up", up, axes.yaxis), _series(axes)]
    return _plain("; ".join(part for part in said if part))


def _axis(direction: str, label: str, axis: "Axis") -> str:
    """What an axis measures and over which range, or the names that it lists."""
    ticks = [text.get_text() for text in axis.get_ticklabels()]
    names = [tick for tick in ticks if "$" not in tick and any(map(str.isalpha, tick))]  # powers of ten are no names
    if names:
        return f"{direction}: {label + ': ' if label else ''}{', '.join(names)}"
    low, high = axis.get_view_interval()
    return f"{direction}: {label}, {low:.3g} to {high:.3g}" if label else ""


def _series(axes: "Axes") -> str:
    names = axes.get_legend_handles_labels()[1]
    return f"shown: {', '.join(dict.fromkeys(names))}" if names else ""


def _plain(text: str) -> str:
    """In one line, and without the marks of matplotlib's mathematics."""
    return " ".join(text.replace("$", "").replace("\\", "").split())


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
