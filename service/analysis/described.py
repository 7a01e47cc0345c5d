"""What a picture shows, in words, for those who do not see it: it goes into the PNG as its description."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST = 1000
"""Characters of a description; the names of further series are left out."""


def described(figure: "Figure") -> str:
    """Titles, axes with their ranges, and the names of what is drawn, of each part of a figure."""
    parts = [part for part in (_part(axes) for axes in figure.axes) if part]
    title = figure.get_suptitle()
    return _cut(". ".join([title, *parts] if title else parts) + ".")


def _part(axes: "Axes") -> str:
    title, across, up = axes.get_title(), axes.get_xlabel(), axes.get_ylabel()
    if axes.get_label() == "<colorbar>":
        return _plain(f"Colours show {up or across}") if up or across else ""
    said = [
        title,
        f"across: {across}, {_range(axes.get_xlim())}" if across else "",
        f"up: {up}, {_range(axes.get_ylim())}" if up else "",
        _series(axes),
    ]
    return _plain("; ".join(part for part in said if part))


def _series(axes: "Axes") -> str:
    names = axes.get_legend_handles_labels()[1]
    return f"shown: {', '.join(dict.fromkeys(names))}" if names else ""


def _range(limits: tuple[float, float]) -> str:
    return f"{limits[0]:.3g} to {limits[1]:.3g}"


def _plain(text: str) -> str:
    """In one line, and without the marks of matplotlib's mathematics."""
    return " ".join(text.replace("$", "").replace("\\", "").split())


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
