"""`panel-treatment-effects` as callers meet it."""

from typing import Any

import httpx
import numpy as np
import pytest

from tests.analysis.panels import draw_panel
from tests.service.checks import assert_error

PATH = "/v1/analysis/panel-treatment-effects"
N, M = 60, 50


def body(**fields: Any) -> dict[str, Any]:
    """A panel of rank 1 with a clear signal."""
    drawn = draw_panel(np.random.default_rng(0), N, M, rank=1)
    return {"outcomes": drawn.outcomes.tolist(), "treatment": drawn.treated.astype(int).tolist(), "seed": 1} | fields


def post(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    reply = http.post(PATH, json=body(**fields))
    assert reply.status_code == 200, reply.text[:500]
    return reply.json()


def codes(reply: dict[str, Any]) -> set[str]:
    return {one["code"] for one in reply["warnings"]}


def test_a_panel_gets_an_effect_for_each_unit(http: httpx.Client) -> None:
    truth = draw_panel(np.random.default_rng(0), N, M, rank=1).effects.mean(axis=1)
    reply = post(http, return_matrix=True)
    effects = np.array([unit["effect"] for unit in reply["unit_effects"]])
    assert reply["selected_rank"] == {"control": 1, "treated": 1}
    assert np.abs(effects - truth).mean() < 0.25
    assert reply["average_treatment_effect"] == pytest.approx(effects.mean())
    assert np.array(reply["effect_matrix"]).mean(axis=1) == pytest.approx(effects)
    assert [unit["unit_id"] for unit in reply["unit_effects"]] == [str(number) for number in range(N)]
    least = reply["diagnostics"]["min_propensity"]
    assert reply["error_rate_scale"] == pytest.approx(np.sqrt((1 / N + N / M**2) / least))
    assert reply["method"] == "row_scaled_spectral"


def test_without_a_gap_there_are_no_effects_rather_than_zeros(http: httpx.Client) -> None:
    noise = np.random.default_rng(3).normal(size=(N, M)).tolist()
    reply = post(http, outcomes=noise)
    assert codes(reply) >= {"no_spectral_gap"}
    assert {unit["effect"] for unit in reply["unit_effects"]} == {None}
    assert reply["average_treatment_effect"] is None
    assert all(unit["naive_difference_in_means"] is not None for unit in reply["unit_effects"])
    assert codes(post(http, gap_rule="theory")) >= {"no_spectral_gap"}


def test_units_seen_too_rarely_are_refused_or_left_out(http: httpx.Client) -> None:
    given = body()
    given["treatment"][7] = [1] * M
    error = assert_error(http.post(PATH, json=given), 422)
    assert error["param"] == "treatment.7"
    reply = http.post(PATH, json=given | {"drop_unidentified": True, "return_matrix": True}).json()
    left_out = reply["unit_effects"][7]
    assert left_out == {
        "unit_id": "7",
        "effect": None,
        "naive_difference_in_means": None,
        "propensity": 1.0,
        "identified": False,
    }
    assert reply["effect_matrix"][7] is None
    assert reply["unit_effects"][8]["effect"] is not None
    assert "unidentified_units" in codes(reply)


def test_extensions_say_that_they_are(http: httpx.Client) -> None:
    reply = post(http, propensity_model="row_column", refinement="hard_impute")
    assert reply["method"] == "row_column_scaled_spectral+hard_impute"
    assert "not_the_papers_estimator" in codes(reply)


def test_assignment_that_drifts_is_told(http: httpx.Client) -> None:
    drawn = draw_panel(np.random.default_rng(5), N, M, shift="time")
    given = {"outcomes": drawn.outcomes.tolist(), "treatment": drawn.treated.astype(int).tolist()}
    reply = http.post(PATH, json=given).json()
    assert "time_varying_assignment" in codes(reply)
    assert reply["diagnostics"]["column_assignment_p_value"] < 0.01


def test_tiny_panels_answer(http: httpx.Client) -> None:
    tiny = {"outcomes": [[1, 2], [3, 5]], "treatment": [[0, 1], [1, 0]], "min_row_observed": 1, "rank": 1}
    reply = http.post(PATH, json=tiny)
    assert reply.status_code == 200, reply.text


def with_cell(field: str, value: Any) -> dict[str, Any]:
    rows = body()[field]
    rows[2][3] = value
    return {field: rows}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"treatment": [[0, 1]] * N}, "treatment.0"),
        ({"treatment": body()["treatment"][:-1]}, "treatment"),
        ({"outcomes": [[1.0] * M] * (N - 1) + [[1.0] * (M - 1)]}, f"outcomes.{N - 1}"),
        ({"outcomes": [[1.0] * M] * N}, "outcomes"),
        ({"outcomes": [[1.0, 2.0]]}, "outcomes"),
        ({"outcomes": [[1.0], [2.0]]}, "outcomes.0"),
        ({"outcomes": "a"}, "outcomes"),
        (with_cell("outcomes", None), "outcomes.2.3"),
        (with_cell("outcomes", "1"), "outcomes.2.3"),
        (with_cell("outcomes", 1e200), "outcomes.2.3"),
        (with_cell("treatment", 2), "treatment.2.3"),
        (with_cell("treatment", 0.5), "treatment.2.3"),
        (with_cell("treatment", True), "treatment.2.3"),
        ({"rank": 0}, "rank"),
        ({"rank": 13}, "rank"),
        ({"rank": "all"}, "rank"),
        ({"max_rank": 13}, "max_rank"),
        ({"rank": 1, "max_rank": 2}, "max_rank"),
        ({"rank": 1, "gap_constant": 1.0}, "gap_constant"),
        ({"rank": 1, "gap_rule": "theory"}, "gap_rule"),
        ({"gap_rule": "theory", "gap_constant": 1.0}, "gap_constant"),
        ({"outcome_bound": 1.0}, "outcome_bound"),
        ({"gap_constant": 0}, "gap_constant"),
        ({"min_row_observed": 0}, "min_row_observed"),
        ({"unit_ids": ["a"]}, "unit_ids"),
        ({"unit_ids": ["a"] * N}, "unit_ids"),
        ({"propensity_model": "oracle"}, "propensity_model"),
        ({"refinement": "soft"}, "refinement"),
    ],
)
def test_rejections_name_the_field(http: httpx.Client, fields: dict[str, Any], param: str) -> None:
    found = assert_error(http.post(PATH, json=body(**fields)), 422)["param"]
    assert found.split(".")[: len(param.split("."))] == param.split(".")
