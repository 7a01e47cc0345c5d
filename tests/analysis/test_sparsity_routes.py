"""`constrained-sparsity` as callers meet it: a job in a process of its own, and what is refused before it trains."""

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import torch

from service.analysis.analyst import Analyst
from service.analysis.constrained_sparsity import CONSTRAINED_SPARSITY, SparsityRequest
from service.analysis.constrained_sparsity.check import check_controller, targets
from service.analysis.frame import AnalysisError, Context
from service.analysis.torch_jobs import sparsity
from service.analysis.torch_jobs.sparsity.report import missed
from service.analysis.torch_jobs.sparsity.train import refuse_nonfinite
from service.errors import ApiError
from service.settings import Settings

PATH = "/v1/analysis/constrained-sparsity"
EXAMPLE = CONSTRAINED_SPARSITY.example


def changed(**changes: Any) -> dict[str, Any]:
    """The example with fields of its objects replaced."""
    return {
        **EXAMPLE,
        **{
            name: {**EXAMPLE[name], **value}
            if isinstance(EXAMPLE.get(name), dict) and isinstance(value, dict)
            else value
            for name, value in changes.items()
        },
    }


def test_it_is_a_job(http: httpx.Client) -> None:
    reply = http.post(PATH, json=EXAMPLE)
    assert reply.status_code == 422
    assert reply.json()["error"]["code"] == "job_only"


@pytest.mark.slow
def test_a_row_of_a_batch_trains_with_progress_and_an_infeasible_one_is_told_the_floor(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        analyst, seen = Analyst(Settings()), []
        reply = await analyst.analyse("constrained-sparsity", EXAMPLE, progress=lambda done, note: seen.append(done))
        assert reply["expected_density"] == pytest.approx(0.5, abs=0.01)
        assert reply["constraint_satisfied"] is True
        assert reply["metrics"]["accuracy"] == 1.0
        assert seen == sorted(seen)
        assert len(seen) > 10
        with pytest.raises(ApiError) as refused:
            await analyst.analyse("constrained-sparsity", changed(constraint={"target_density": 0.04}))
        assert (refused.value.status, refused.value.param) == (422, "constraint.target_density")
        assert "0.0471" in refused.value.message
        handlers = analyst.row_handlers(lambda context: 0)
        row = SimpleNamespace(owner="alice", key=SimpleNamespace(batch_id="batch_1", number=7))
        with caplog.at_level("INFO", "powercut.analysis"):
            await handlers[PATH](changed(optimizer={"num_steps": 20}), row)
        tenths = [record.getMessage() for record in caplog.records]
        assert tenths == [f"constrained-sparsity, row batch_1/7: {tenth} % done" for tenth in range(10, 101, 10)]
        assert not analyst.pool.idle
        await analyst.aclose()

    asyncio.run(run())


ROWS = EXAMPLE["dataset"]["features"]
REJECTED: list[tuple[dict[str, Any], str]] = [
    ({"constraint": {"target_density": 0.047}}, "constraint.target_density"),
    ({"constraint": {"target_density": [0.5, 0.5]}}, "constraint.target_density"),
    ({"constraint": {"target_density": [0.5, 0.5, 0.5], "scope": "layer"}}, "constraint.target_density"),
    ({"constraint": {"target_density": [0.5, 0.01], "scope": "layer"}}, "constraint.target_density"),
    ({"dataset": None}, "dataset"),
    ({"dataset": {"labels": [0] * len(ROWS)}}, "dataset.labels"),
    ({"dataset": {"labels": [0, 1, 0, 1]}}, "dataset.labels"),
    ({"dataset": {"features": [*ROWS[:-1], [1.0]]}}, "dataset.features"),
    ({"dataset": {"test_fraction": 0.001}}, "dataset.test_fraction"),
    ({"optimizer": {"controller": "proportional_integral"}}, "optimizer.controller"),
    (
        {"model": {"hidden_sizes": [1024] * 4}, "optimizer": {"num_steps": 20_000, "batch_size": 1024}},
        "optimizer.num_steps",
    ),
]


@pytest.mark.parametrize(("changes", "field"), REJECTED)
def test_what_cannot_be_trained(changes: dict[str, Any], field: str) -> None:
    request = SparsityRequest.model_validate(changed(**changes))
    with pytest.raises(AnalysisError) as refused:
        sparsity.compute(request, Context(0))
    assert refused.value.field == field
    assert refused.value.status in {413, 422}


SCHEMA: list[tuple[dict[str, Any], str]] = [
    ({"constraint": {"target_density": 0.0}}, "constraint.target_density"),
    ({"constraint": {"target_density": 1.1}}, "constraint.target_density"),
    ({"gates": {"temperature": 1.0}}, "gates.temperature"),
    ({"gates": {"drop_rate": 0.0}}, "gates.drop_rate"),
    ({"gates": {"drop_rate": 1.0}}, "gates.drop_rate"),
    ({"optimizer": {"num_steps": 0}}, "optimizer.num_steps"),
    ({"optimizer": {"gate_learning_rate": 0.0}}, "optimizer.gate_learning_rate"),
    ({"optimizer": {"dual_learning_rate": -1.0}}, "optimizer.dual_learning_rate"),
    ({"optimizer": {"batch_size": 0}}, "optimizer.batch_size"),
    ({"dataset": {"labels": [-1] * len(ROWS)}}, "dataset.labels"),
    ({"model": {"hidden_sizes": []}}, "model"),
    ({"model": {"hidden_sizes": [0]}}, "model"),
    ({"model": {"type": "cnn"}}, "model"),
    ({"model": {"type": "served_lm", "prompts": ["a b"], "groups": [], "hidden_sizes": None}}, "model"),
    ({"optimizer": {"learning_rate": 0.0}}, "optimizer.learning_rate"),
    ({"optimizer": {"controller": "newton"}}, "optimizer.controller"),
    ({"pruning": True}, "pruning"),
]


@pytest.mark.parametrize(("changes", "field"), SCHEMA)
def test_what_is_out_of_bounds(http: httpx.Client, changes: dict[str, Any], field: str) -> None:
    reply = http.post(PATH, json=changed(**changes))
    assert reply.status_code == 422, reply.text
    assert (reply.json()["error"]["param"] or "").startswith(field), reply.text


def test_features_that_are_no_numbers(http: httpx.Client) -> None:
    content = '{"model": {"type": "mlp", "hidden_sizes": [2]}, "constraint": {"target_density": 0.5}, "dataset": '
    content += '{"features": [[NaN], [1.0], [0.0], [2.0]], "labels": [0, 1, 0, 1]}}'
    reply = http.post(PATH, content=content, headers={"content-type": "application/json"})
    assert reply.status_code in {400, 422}


def test_a_target_that_is_met_from_the_start_says_so() -> None:
    body = changed(constraint={"target_density": 0.99}, optimizer={"num_steps": 5}, compare_dense=False)
    reply = sparsity.compute(SparsityRequest.model_validate(body), Context(0))
    assert [one.code for one in reply.warnings] == ["trivial_target"]
    assert reply.constraint_satisfied


SERVED = {
    "model": {"type": "served_lm", "prompts": ["some words"]},
    "constraint": {"target_density": [0.6, 0.999], "scope": "layer"},
}


def told(reached: list[float], **changes: Any) -> dict[str, str]:
    """Warnings by their code, for densities that a training of a served model has reached."""
    request = SparsityRequest.model_validate(SERVED | changes)
    return {one.code: one.message for one in missed(request, reached, targets(request, 2))}


def test_a_density_beside_its_target_is_told_on_either_side() -> None:
    assert told([0.605, 0.95]) == {}, "within the tolerance, and below a target that asks for nothing"
    assert told([0.591, 0.95]) == {}
    assert "0.113 below" in told([0.487, 0.95])["overshot"]
    assert set(told([0.62, 0.95])) == {"constraint_violated"}
    both = {"target_density": [0.6, 0.8], "scope": "layer"}
    assert set(told([0.62, 0.7], constraint=both)) == {"constraint_violated", "overshot"}


@pytest.mark.parametrize(("controller", "remedy"), [("ascent", "dual_learning_rate"), (None, "gate_learning_rate")])
def test_what_is_advised_is_what_the_controller_takes(controller: str | None, remedy: str) -> None:
    advice = told([0.7, 0.95], optimizer={"controller": controller})["constraint_violated"]
    assert remedy in advice
    given = SparsityRequest.model_validate(SERVED | {"optimizer": {"controller": controller, remedy: 0.1}})
    check_controller(given)


def test_a_training_that_falls_through_says_so() -> None:
    body = changed(optimizer={"num_steps": 200, "dual_learning_rate": 1.0}, compare_dense=False)
    reply = sparsity.compute(SparsityRequest.model_validate(body | {"dual_restarts": False}), Context(0))
    assert reply.expected_density < 0.48
    assert [one.code for one in reply.warnings] == ["overshot"]
    assert reply.constraint_satisfied, "as it was set: no more than the target"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"dual_restarts": False}, "dual_restarts"),
        ({"optimizer": {"dual_learning_rate": 1}}, "optimizer.dual_learning_rate"),
    ],
)
def test_what_belongs_to_ascent_alone(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(AnalysisError) as refused:
        check_controller(SparsityRequest.model_validate(SERVED | changes))
    assert refused.value.field == field


def test_a_loss_that_is_no_number_ends_it() -> None:
    with pytest.raises(AnalysisError) as refused:
        refuse_nonfinite(torch.tensor(float("nan")), 17)
    assert (refused.value.status, refused.value.code) == (500, "diverged")
    assert "17" in str(refused.value)


def test_the_picture() -> None:
    request = SparsityRequest.model_validate(changed(optimizer={"num_steps": 20}, compare_dense=False))
    response = sparsity.compute(request, Context(0))
    assert len(sparsity.draw(request, response).axes) == 3
