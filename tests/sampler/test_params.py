import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampler.errors import InvalidParams
from sampler.params import LIMITS, PlainParams, PowerParams

BAD = [
    ("alpha", 0.49),
    ("alpha", 100.5),
    ("alpha", math.nan),
    ("alpha", math.inf),
    ("cut_power", -0.1),
    ("cut_power", 65.0),
    ("blocks", 0),
    ("blocks", 257),
    ("steps_per_block", -1),
    ("top_k", 0),
    ("deadline_s", 0.0),
    ("max_generated_tokens", 0),
    ("max_tokens", 0),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_value_out_of_range_is_refused_by_its_name_and_limits(name: str, value: float) -> None:
    low, high = LIMITS[name]
    with pytest.raises(InvalidParams, match=f"{name} must be between {low} and {high}".replace("+", r"\+")) as error:
        PowerParams(**{"max_tokens": 16, name: value})  # type: ignore[arg-type]
    assert error.value.field == name


def test_the_defaults_are_the_paper_s() -> None:
    params = PowerParams(3072)
    assert (params.alpha, params.cut_power, params.blocks, params.steps_per_block, params.top_k) == (4, 4, 16, 10, 50)
    assert params.horizons == tuple(range(192, 3073, 192))
    assert params.planned_steps == 160


@pytest.mark.parametrize(
    ("length", "blocks", "horizons"),
    [(6, 3, (2, 4, 6)), (10, 3, (4, 7, 10)), (3, 16, (1, 2, 3)), (1, 256, (1,)), (5, 1, (5,))],
)
def test_horizons_are_rounded_up_and_never_repeated(length: int, blocks: int, horizons: tuple[int, ...]) -> None:
    assert PowerParams(length, blocks=blocks).horizons == horizons


@given(st.integers(1, 5000), st.integers(1, 256))
def test_horizons_rise_to_max_tokens(length: int, blocks: int) -> None:
    horizons = PowerParams(length, blocks=blocks).horizons
    assert list(horizons) == sorted(set(horizons))
    assert horizons[-1] == length
    assert horizons[0] >= 1
    assert len(horizons) == min(length, blocks)


def test_the_worst_case_counts_a_whole_redraw_at_every_step() -> None:
    assert PowerParams(6, blocks=3, steps_per_block=10).worst_case_tokens == 6 + 10 * (2 + 4 + 6)


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(InvalidParams, match="must not be empty") as error:
        PowerParams(4, stop=("a", ""))
    assert error.value.field == "stop"


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(InvalidParams, match="mode"):
        PowerParams(4, mode="fast")  # type: ignore[arg-type]


def test_plain_temperature_is_one_over_alpha_and_zero_is_greedy() -> None:
    assert PlainParams(4, temperature=0.25).alpha == 4
    assert PlainParams(4, temperature=0.0).alpha == math.inf


def test_two_supports_at_once_are_refused() -> None:
    with pytest.raises(InvalidParams, match="not both"):
        PlainParams(4, top_k=5, top_p=0.5)
