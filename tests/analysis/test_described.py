"""Pictures say in words what they show."""

import io

from matplotlib.figure import Figure
from PIL import Image

from service.analysis import ANALYSES
from service.analysis.described import LONGEST, described
from service.analysis.run import run


def test_axes_ranges_and_series_are_told() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    left.plot([0, 10], [1, 2], label="first")
    left.plot([0, 10], [2, 1], label="second")
    left.set(title="Two $\\alpha$ lines", xlabel="step", ylabel="loss\nin nats", xlim=(0, 10), ylim=(0.5, 2.5))
    left.legend()
    right.bar(["plain", "power"], [1, 2])
    right.set(ylabel="share", ylim=(0, 3))
    assert described(figure) == (
        "Two alpha lines; across: step, 0 to 10; up: loss in nats, 0.5 to 2.5; shown: first, second. "
        "across: plain, power; up: share, 0 to 3."
    )


def test_powers_of_ten_are_a_range_and_no_names() -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.loglog([1, 1e5], [1, 2])
    axes.set(xlabel="step", xlim=(1, 1e5))
    assert described(figure).startswith("across: step, 1 to 1e+05")


def test_a_figure_without_words_has_an_empty_description() -> None:
    figure = Figure()
    figure.subplots()
    assert described(figure) == ""
    assert described(Figure()) == ""


def test_a_description_has_an_end() -> None:
    figure = Figure()
    axes = figure.subplots()
    for at in range(1000):
        axes.plot([0], [0], label=f"series {at}")
    assert len(described(figure)) == LONGEST


def test_the_png_carries_its_description() -> None:
    analysis = ANALYSES["pac-bayes-bounds"]
    outcome = run(analysis, analysis.request.model_validate(analysis.example), 3, picture=True)
    assert outcome.picture is not None
    told = Image.open(io.BytesIO(outcome.picture)).info
    assert "empirical risk" in told["Description"]
    assert told["Comment"] == "seed 3"
