"""Effort presets are sets of parameters: medium is the defaults, and each costs what the documentation says."""

from collections.abc import Set
from dataclasses import fields
from typing import Any

import pytest

from sampler.effort import EFFORTS, effort_fields
from sampler.errors import InvalidParams
from sampler.methods import METHODS
from sampler.params import PowerParams

WITHOUT = {"standard", "low_temperature"}
"""Methods with nothing to spend more on."""


def params(max_tokens: int, effort: str, uses: Set[str]) -> PowerParams:
    """The parameters of a chain with an effort."""
    preset: dict[str, Any] = dict(effort_fields(effort, "entropy_cut", uses))
    return PowerParams(max_tokens, **preset)


def test_presets_set_the_same_fields_and_medium_is_every_default() -> None:
    defaults = {field.name: field.default for field in fields(PowerParams)}
    assert set(EFFORTS) == {"low", "medium", "high"}
    assert len({frozenset(preset) for preset in EFFORTS.values()}) == 1
    assert EFFORTS["medium"] == {name: defaults[name] for name in EFFORTS["low"]}


def test_no_effort_changes_the_law() -> None:
    law = {"alpha", "cut_power", "top_k", "max_tokens", "mode", "stop", "temperature", "ramp_tokens", "rollout_tokens"}
    assert not law & set(EFFORTS["low"])


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("method", METHODS)
def test_a_method_gets_what_it_uses_or_refuses(effort: str, method: str) -> None:
    uses = METHODS[method].fields
    if method in WITHOUT:
        with pytest.raises(InvalidParams, match=f"the method {method} has nothing to spend") as caught:
            effort_fields(effort, method, uses, "power.effort")
        assert caught.value.field == "power.effort"
        return
    found = effort_fields(effort, method, uses)
    assert found
    assert set(found) <= uses
    params(64, effort, uses)


@pytest.mark.parametrize("method", sorted(set(METHODS) - WITHOUT))
def test_more_effort_sets_more(method: str) -> None:
    low, medium, high = (effort_fields(effort, method, METHODS[method].fields) for effort in ("low", "medium", "high"))
    assert low != medium != high
    for name in low:
        values = [preset[name] for preset in (low, medium, high)]
        known = [value for value in values if value is not None]
        assert known == sorted(known)


def test_an_unknown_effort_is_refused() -> None:
    with pytest.raises(InvalidParams, match="effort must be one of low, medium, high, not 'huge'"):
        effort_fields("huge", "entropy_cut", METHODS["entropy_cut"].fields)


def test_the_documented_worst_cases_of_a_chain() -> None:
    """docs/api.md: multiples of one answer of max_tokens tokens, for a chain whose every proposal is whole."""
    longest = 3072
    multiples = {
        effort: params(longest, effort, {"blocks", "steps_per_block"}).worst_case_tokens / longest for effort in EFFORTS
    }
    assert multiples == {"low": 11.0, "medium": 86.0, "high": 341.0}
