"""The path of a wrong field is the caller's own: what Pydantic adds for a union's branch is not in it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.analysis.constrained_sparsity.schema import SparsityRequest
from service.analysis.optimizer_convergence.schema import OptimizerConvergenceRequest
from service.api.completions import CompletionRequest
from service.api.schema import RequestModel
from service.errors import describe_validation

LM = {"type": "served_lm", "prompts": ["a", "b"]}
REGRESSION = {"type": "l1_regression", "A": [[[1.0]], [[2.0]]], "b": [1.0, 2.0]}
LAYERS = {"scope": "layer", "target_density": [0.5, "half"]}


def told(model: type[RequestModel], sent: Any) -> tuple[str | None, str]:
    """Field and message of the answer to a body."""
    with pytest.raises(ValidationError) as raised:
        model.model_validate(sent)
    found = [{**one, "loc": ("body", *one["loc"])} for one in raised.value.errors()]
    status, shown = describe_validation(found, sent)
    assert status == 422
    return shown["error"]["param"], shown["error"]["message"]


def check(model: type[RequestModel], sent: dict[str, Any], param: str | None) -> None:
    """The answer names this field, and its message begins with it."""
    found, message = told(model, json.loads(json.dumps(sent)))
    assert found == param
    assert message.startswith(f"{param}: ")


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        (LM | {"context_tokens": 2}, "model.context_tokens"),
        ({"type": "served_lm"}, "model.prompts"),
        ({"type": "served_lm", "served_lm": LM}, "model.prompts"),
        (LM | {"served_lm": 1}, "model.served_lm"),
        (LM | {"prompts": ["a", 1]}, "model.prompts.1"),
        (LM | {"prompts": ["a", 1], "served_lm": {"prompts": []}}, "model.served_lm"),
        ({"type": "other"}, "model"),
        ({}, "model"),
    ],
)
def test_the_tag_of_a_model_is_not_in_the_path(sent: dict[str, Any], param: str) -> None:
    check(SparsityRequest, {"model": sent, "constraint": {"target_density": 0.5}}, param)


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"objective": REGRESSION | {"b": [1.0]}}, "objective"),
        ({"objective": REGRESSION | {"A": [[[1.0]], [["x"]]]}}, "objective.A.1.0.0"),
        ({"schedule": {"type": "power", "exponent": -1, "power": {}}}, "schedule.exponent"),
        ({"schedule": {"type": "explicit", "values": [0.1], "explicit": {}}}, "schedule.explicit"),
        ({"schedule": {"type": "explicit", "values": [0.1, -1], "explicit": {"values": []}}}, "schedule.values.1"),
    ],
)
def test_the_tag_of_an_objective_or_a_schedule_is_not_in_the_path(sent: dict[str, Any], param: str) -> None:
    check(OptimizerConvergenceRequest, sent, param)


@pytest.mark.parametrize(
    ("model", "sent", "param"),
    [
        (SparsityRequest, {"model": LM, "constraint": LAYERS}, "constraint.target_density.1"),
        (SparsityRequest, {"model": LM}, "constraint"),
        (CompletionRequest, {"model": "m", "prompt": [1, -2]}, "prompt.1"),
        (CompletionRequest, {"model": "m", "prompt": "a", "stop": ["a", 2]}, "stop.1"),
        (CompletionRequest, {"model": "m", "prompt": "a", "power": {"alfa": 2}}, "power.alfa"),
    ],
)
def test_a_type_that_was_tried_is_not_in_the_path(model: type[RequestModel], sent: dict[str, Any], param: str) -> None:
    check(model, sent, param)


def test_others_are_named_in_the_same_way_and_once() -> None:
    sent = {
        "model": LM | {"context_tokens": 2, "objective": "x"},
        "constraint": {"target_density": [0.0, 0.0]},
        "seed": -1,
    }
    param, message = told(SparsityRequest, sent)
    assert param == "seed"
    assert message.endswith("(also wrong: constraint.target_density, model.context_tokens, model.objective)")


def test_a_body_that_is_no_object_has_no_field() -> None:
    assert told(SparsityRequest, [1, 2])[0] is None


NAMES = ["type", "model", "served_lm", "mlp", "prompts", "objective", "schedule", "power", "explicit", "values", "A"]
LEAVES = st.sampled_from(["served_lm", "mlp", "power", "explicit", "l1_regression", "x", 1, -1.5, None, True])
KEYS = st.sampled_from(NAMES)
BODIES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner), max_leaves=12)


@pytest.mark.parametrize("model", [SparsityRequest, OptimizerConvergenceRequest, CompletionRequest])
@given(sent=st.dictionaries(KEYS, BODIES))
def test_whatever_is_sent_the_path_leads_there_or_to_what_is_missing(
    model: type[RequestModel], sent: dict[str, Any]
) -> None:
    try:
        model.model_validate(sent)
    except ValidationError:
        *path, last = (told(model, sent)[0] or "model").split(".")
        at: Any = sent
        for part in path:
            at = at[int(part)] if isinstance(at, list) else at[part]
        assert isinstance(at, list) or not last.isdecimal()
        assert isinstance(at, list | dict)
