"""Norms and functions beside the counterexample: directions, bounds on given matrices, identities, torch."""

import itertools
import json
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from service.analysis.frame import AnalysisError, Context
from service.analysis.optimizer_convergence import OPTIMIZER_CONVERGENCE
from service.analysis.optimizer_convergence.descent import descend, descend_with_feedback, listed
from service.analysis.optimizer_convergence.norms import LMOS, newton_schulz, polar_factor
from service.analysis.optimizer_convergence.objectives import L1Regression, MaxAffine
from service.analysis.optimizer_convergence.schema import OptimizerConvergenceReply
from service.analysis.optimizer_convergence.work import compute
from tests.service.checks import assert_error

PATH = "/v1/analysis/optimizer-convergence"
DUALS = {
    "spectral": lambda m: np.linalg.svd(m, compute_uv=False).sum(),
    "sign": lambda m: np.abs(m).sum(),
    "column": lambda m: np.linalg.norm(m, axis=0).sum(),
    "row": lambda m: np.linalg.norm(m, axis=1).sum(),
    "frobenius": np.linalg.norm,
}


def analyse(body: dict[str, Any]) -> OptimizerConvergenceReply:
    return compute(OPTIMIZER_CONVERGENCE.request.model_validate_json(json.dumps(body)), Context(0))


@pytest.mark.parametrize("norm", LMOS)
def test_a_direction_attains_the_dual_norm(norm: str) -> None:
    rng = np.random.default_rng(1)
    for shape in ((3, 5), (5, 3), (4, 4)):
        buffer = rng.standard_normal(shape)
        buffer[:, 0] = 0
        direction = LMOS[norm](buffer)
        assert np.sum(buffer * direction) == pytest.approx(DUALS[norm](buffer))
        assert np.sum(direction**2) <= LMOS[norm].most_squares(shape) + 1e-12
    assert not LMOS[norm](np.zeros((2, 3))).any()


def test_newton_schulz_converges_with_the_right_coefficients_only() -> None:
    buffer = np.random.default_rng(2).standard_normal((6, 4))
    for coefficients, steps in (((1.5, -0.5, 0.0), 30), ((1.875, -1.25, 0.375), 20)):
        np.testing.assert_allclose(newton_schulz(buffer, coefficients, steps), polar_factor(buffer), atol=1e-10)
    usual = np.linalg.svd(newton_schulz(buffer, (3.4445, -4.775, 2.0315), 5), compute_uv=False)
    assert np.ptp(usual) > 0.02


def gaussian_regression(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((60, 6, 4)) / np.sqrt(24)
    return inputs, np.tensordot(inputs, rng.standard_normal((6, 4)), 2)


def check_bound(norm: str, steps: int) -> None:
    inputs, targets = gaussian_regression()
    body = {"objective": {"type": "l1_regression", "A": inputs.tolist(), "b": targets.tolist()}}
    reply = analyse(body | {"norm": norm, "steps": steps})
    assert reply.optimum == pytest.approx(0, abs=1e-12)
    assert reply.bound_satisfied
    assert reply.error_feedback is not None
    assert reply.error_feedback.min_delta is not None
    assert reply.error_feedback.min_delta >= 1 / LMOS[norm].most_squares((6, 4)) - 1e-12


@pytest.mark.parametrize("norm", LMOS)
def test_the_bound_holds_on_given_matrices(norm: str) -> None:
    check_bound(norm, 1000)


@pytest.mark.long
@pytest.mark.parametrize("norm", LMOS)
def test_the_bound_holds_on_given_matrices_at_full_length(norm: str) -> None:
    check_bound(norm, 10_000)


def test_a_max_affine_function_reaches_its_optimum_with_error_feedback() -> None:
    signs = [np.array(s, dtype=float).reshape(2, 2) for s in itertools.product([-1, 1], repeat=4)]
    body = {"objective": {"type": "max_affine", "A": [s.tolist() for s in signs], "b": [0.5] * 16}}
    body["objective"]["initial"] = [[1.0, 0.3], [-0.2, 0.7]]
    reply = analyse(body | {"steps": 4000})
    assert reply.optimum == pytest.approx(0.5)  # max over signs of ⟨S, W⟩ is ‖W‖₁
    assert reply.bound_satisfied
    assert reply.error_feedback is not None
    assert reply.error_feedback.min < 0.6


def test_optima_that_are_not_zero_are_found() -> None:
    l1 = L1Regression(np.ones((3, 1, 1)), np.array([0.0, 1.0, 5.0]))
    assert l1.optimum == pytest.approx(5 / 3)  # the median, 1
    peak = MaxAffine(np.array([[[1.0]], [[-2.0]]]), np.array([0.0, 3.0]))
    assert peak.optimum == pytest.approx(1.0)
    assert peak.minimiser(np.zeros((1, 1)))[0, 0] == pytest.approx(1.0)


class OfDiagonal:
    """Mean |⟨a_i, diag W⟩ − b_i|."""

    lipschitz, optimum = 1.0, 0.0

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.a, self.b = rng.standard_normal((9, 4)), rng.standard_normal(9)

    def evaluate(self, weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        residuals = self.a @ np.diag(weights) - self.b
        return float(np.abs(residuals).mean()), np.diag(np.sign(residuals) @ self.a / 9)

    def minimiser(self, start: NDArray[np.float64]) -> NDArray[np.float64]:
        return start


def test_four_norms_are_one_method_on_functions_of_the_diagonal() -> None:
    rates, start = np.arange(1, 401) ** -0.5, np.diag([1.0, -0.5, 0.3, 2.0])
    norms = ("spectral", "sign", "column", "row")
    plain = [descend(OfDiagonal(), LMOS[norm], start, listed(rates), 400, 0.9).losses for norm in norms]
    fed = [descend_with_feedback(OfDiagonal(), LMOS[norm], start, rates, 0.9).losses for norm in norms]
    for losses in (*plain[1:],):
        np.testing.assert_allclose(losses, plain[0], atol=1e-12)
    for losses in (*fed[1:],):
        np.testing.assert_allclose(losses, fed[0], atol=1e-12)


def test_approximate_directions_void_certificate_and_bound() -> None:
    body = {"orthogonalization": {"method": "newton_schulz"}, "steps": 3000, "momentum": 0.0}
    reply = analyse(body | {"schedule": {"type": "power", "exponent": 1.0}})
    assert reply.certificate.kind == "no_momentum"
    assert reply.verdict != "stalled"
    assert reply.baseline.trace_drift is not None
    assert abs(reply.baseline.trace_drift) > 0.1
    assert (reply.bound, reply.bound_satisfied) == (None, None)
    assert "inexact_directions" in {one.code for one in reply.warnings}


def test_frobenius_has_no_floor_and_converges() -> None:
    reply = analyse({"norm": "frobenius", "steps": 3000, "objective": {"type": "diagonal_abs", "c": 0.02}})
    assert reply.certificate.kind == "none"
    assert reply.verdict == "decreasing"
    assert reply.bound_satisfied


A, B = [[[1.0, 0.0], [0.0, 1.0]]], [0.5]
REFUSED: list[tuple[dict[str, Any], str | None]] = [
    ({"momentum": 1.0}, "momentum"),
    ({"momentum": -0.1}, "momentum"),
    ({"steps": 0}, "steps"),
    ({"steps": 200_001}, "steps"),
    ({"steps": 20_001, "norm": "frobenius"}, "steps"),
    ({"norm": "nuclear"}, "norm"),
    ({"weight_decay": 0.1}, "weight_decay"),
    ({"objective": {"type": "diagonal_abs", "c": 0.0}}, "objective"),
    ({"objective": {"type": "diagonal_abs", "c": 0.06}}, "objective.c"),
    ({"objective": {"type": "diagonal_abs", "trace": 0.0}}, "objective"),
    ({"objective": {"type": "diagonal_abs", "initial": [[1.0]]}}, "objective"),
    ({"objective": {"type": "diagonal_abs", "initial": "random", "trace": 1.0}}, "objective"),
    ({"objective": {"type": "l1_regression", "A": A, "b": [1.0, 2.0]}}, "objective"),
    ({"objective": {"type": "l1_regression", "A": [], "b": []}}, "objective"),
    ({"objective": {"type": "l1_regression", "A": [[[0.0]]], "b": B}}, "objective"),
    ({"objective": {"type": "l1_regression", "A": [[[1.0, 2.0], [3.0]]], "b": B}}, "objective"),
    ({"objective": {"type": "max_affine", "A": A, "b": B}}, "objective.A"),
    ({"schedule": {"type": "explicit", "values": []}, "steps": 1}, "schedule"),
    ({"schedule": {"type": "explicit", "values": [0.1, -0.1]}, "steps": 2}, "schedule"),
    ({"schedule": {"type": "explicit", "values": [0.1]}, "steps": 2}, None),
    ({"schedule": {"type": "explicit", "values": [0.0, 0.0]}, "steps": 2}, None),
    ({"schedule": {"type": "constant", "exponent": 0.5}}, "schedule"),
    ({"orthogonalization": {"method": "qr"}}, "orthogonalization.method"),
    ({"orthogonalization": {"method": "newton_schulz", "ns_steps": 100}}, "orthogonalization.ns_steps"),
    ({"orthogonalization": {"method": "newton_schulz", "ns_coefficients": [1.5, -0.5]}}, "orthogonalization"),
    ({"orthogonalization": {"ns_steps": 5}}, "orthogonalization"),
    ({"orthogonalization": {"method": "newton_schulz"}, "norm": "sign"}, "orthogonalization.method"),
    ({"error_feedback": {"step": "constant"}}, "error_feedback"),
    ({"error_feedback": {"step": "constant", "gamma": 0.0}}, "error_feedback.gamma"),
    ({"error_feedback": {"step": "auto", "gamma": 0.1}}, "error_feedback"),
]


@pytest.mark.parametrize(("body", "field"), REFUSED, ids=[json.dumps(body)[:60] for body, _ in REFUSED])
def test_what_is_refused_names_its_field(http: httpx.Client, body: dict[str, Any], field: str | None) -> None:
    error = assert_error(http.post(PATH, json=body), 422)
    assert (error["param"] or "schedule").startswith(field or "schedule")
    assert (field or "schedule").split(".")[-1] in error["message"]


def test_a_run_that_leaves_double_precision_is_refused() -> None:
    inputs = np.full((1, 1, 1), 1.0)
    body = {"objective": {"type": "l1_regression", "A": inputs.tolist(), "b": [0.0], "initial": [[1.0]]}}
    ns = {"orthogonalization": {"method": "newton_schulz", "ns_coefficients": [100.0, 100.0, 100.0], "ns_steps": 99}}
    with pytest.warns(RuntimeWarning), pytest.raises(AnalysisError) as caught:
        analyse(body | ns | {"steps": 3})
    assert caught.value.field == "schedule"


@pytest.mark.slow
def test_torch_muon_shows_the_floor_only_with_coefficients_that_converge(http: httpx.Client) -> None:
    reply = http.post(f"{PATH}/torch-muon", json={"momentum": 0.9, "steps": 600, "seed": 1})
    assert reply.status_code == 200, reply.text
    found = reply.json()
    exact, default, cubic, quintic = found["runs"]
    assert exact["keeps_the_floor"]
    assert default["ns_steps"] == 5
    assert abs(default["trace_drift"]) > 0.05
    assert abs(default["singular_values"][0] - default["singular_values"][1]) > 0.01
    for run in (cubic, quintic):
        assert run["keeps_the_floor"]
        assert abs(run["trace_drift"]) < 1e-3
        assert run["final"] == pytest.approx(exact["final"], abs=1e-2)
        assert run["singular_values"] == pytest.approx([1, 1], abs=1e-2)
    assert_error(http.post(f"{PATH}/torch-muon", json={"schedule": {"type": "polyak"}}), 422)
