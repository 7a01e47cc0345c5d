"""The path of a wrong field is the caller's own: what Pydantic adds for a union's branch is not in it."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from service.analysis.constrained_sparsity.schema import SparsityRequest
from service.analysis.optimizer_convergence.schema import OptimizerConvergenceRequest
from service.api.completions import CompletionRequest
from service.api.schema import RequestModel
from service.errors import describe_validation

LM = {"type": "served_lm", "prompts": ["a", "b"]}
REGRESSION = {"type": "l1_regression", "A": [[[1.0]], [[2.0]]], "b": [1.0, 2.0]}
HALF = {"target_density": 0.5}
LAYERS = {"scope": "layer", "target_density": [0.5, "half"]}


def told(model: type[RequestModel], sent: Any) -> tuple[str | None, str]:
    """Field and message of the answer to a body."""
    with pytest.raises(ValidationError) as raised:
        model.model_validate(sent)
    found = [{**one, "loc": ("body", *one["loc"])} for one in raised.value.errors()]
    status, shown = describe_validation(found, sent)
    assert status == 422
    return shown["error"]["param"], shown["error"]["message"]


@pytest.mark.parametrize(
    ("model", "sent", "param"),
    [
        (SparsityRequest, {"model": LM | {"context_tokens": 2}, "constraint": HALF}, "model.context_tokens"),
        (SparsityRequest, {"model": {"type": "served_lm"}, "constraint": HALF}, "model.prompts"),
        (SparsityRequest, {"model": LM | {"served_lm": 1}, "constraint": HALF}, "model.served_lm"),
        (SparsityRequest, {"model": {"type": "other"}, "constraint": HALF}, "model"),
        (SparsityRequest, {"model": {}, "constraint": HALF}, "model"),
        (SparsityRequest, {"model": LM, "constraint": LAYERS}, "constraint.target_density.1"),
        (SparsityRequest, {"model": LM}, "constraint"),
        (OptimizerConvergenceRequest, {"objective": REGRESSION | {"b": [1.0]}}, "objective"),
        (OptimizerConvergenceRequest, {"objective": REGRESSION | {"A": [[[1.0]], [["x"]]]}}, "objective.A.1.0.0"),
        (CompletionRequest, {"model": "m", "prompt": [1, -2]}, "prompt.1"),
        (CompletionRequest, {"model": "m", "prompt": "a", "stop": ["a", 2]}, "stop.1"),
        (CompletionRequest, {"model": "m", "prompt": "a", "power": {"alfa": 2}}, "power.alfa"),
    ],
)  # fmt: skip
def test_a_field_is_named_as_it_was_written(model: type[RequestModel], sent: dict[str, Any], param: str) -> None:
    found, message = told(model, json.loads(json.dumps(sent)))
    assert found == param
    assert message.startswith(f"{param}: ")


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
