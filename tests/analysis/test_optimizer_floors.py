"""Muon stays on its floor and error feedback does not: the paper's counterexample at full length."""

import json
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.analysis.frame import Context
from service.analysis.optimizer_convergence import OPTIMIZER_CONVERGENCE, certificates
from service.analysis.optimizer_convergence.descent import (
    descend,
    descend_diagonal,
    descend_with_feedback,
    feed_back_diagonal,
    listed,
)
from service.analysis.optimizer_convergence.norms import LMOS, RANK_TOLERANCE
from service.analysis.optimizer_convergence.objectives import DiagonalAbs
from service.analysis.optimizer_convergence.schema import OptimizerConvergenceReply
from service.analysis.optimizer_convergence.work import compute

STEPS = 20_000
SCHEDULES: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "constant": ({"type": "constant", "base_lr": 0.1}, (1.1, 0.43333, 0.15263, 0.12564)),
    "inverse_sqrt": ({"type": "power", "exponent": 0.5}, (1.00707, 0.34040, 0.05970, 0.03271)),
    "inverse": ({"type": "power", "exponent": 1.0}, (1.00005, 0.33338, 0.05268, 0.02569)),
    "notebook": ({"type": "power", "exponent": 0.51}, (1.00640, 0.33974, 0.05904, 0.03205)),
    "exponential": ({"type": "exponential", "decay": 0.999}, (1.0, 0.33333, 0.05263, 0.02564)),
    "cosine": ({"type": "cosine"}, (1.0, 0.33333, 0.05263, 0.02564)),
    "warmup": ({"type": "warmup_power", "warmup": 100}, (1.00832, 0.34165, 0.06095, 0.03396)),
    "logarithmic": ({"type": "logarithmic", "base_lr": 0.3}, (1.03029, 0.36363, 0.08292, 0.05593)),
}
MOMENTA = (0.0, 0.5, 0.9, 0.95)
FLOORS = (1.0, 0.33333, 0.05263, 0.02564)
LN2_START = np.diag([1 + math.log(2), 1 - math.log(2)])


def analyse(body: dict[str, Any], seed: int = 0) -> OptimizerConvergenceReply:
    request = OPTIMIZER_CONVERGENCE.request.model_validate_json(json.dumps(body))
    return compute(request, Context(seed))


@pytest.mark.parametrize("momentum", MOMENTA)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_muon_stays_on_its_floor(schedule: str, momentum: float) -> None:
    asked, last = SCHEDULES[schedule]
    body = {"schedule": asked, "momentum": momentum, "steps": STEPS, "error_feedback": {"enabled": False}}
    reply = analyse(body)
    column = MOMENTA.index(momentum)
    certificate, run = reply.certificate, reply.baseline
    assert certificate.kind == ("no_momentum" if momentum == 0 else "alternating")
    assert certificate.floor == pytest.approx(FLOORS[column], abs=5e-6)
    assert certificate.floor is not None
    assert run.min >= certificate.floor - 1e-9
    assert run.trace_drift == pytest.approx(0, abs=1e-8)
    assert run.final == pytest.approx(last[column], abs=2e-5)
    assert reply.verdict == "stalled"


@pytest.mark.parametrize(("momentum", "least"), [(0.5, 0.34040), (0.9, 0.05970), (0.95, 0.03271)])
def test_nesterov_stays_there_too(momentum: float, least: float) -> None:
    body = {"momentum": momentum, "nesterov": True, "error_feedback": {"enabled": False}}
    reply = analyse(body)
    assert reply.baseline.min == pytest.approx(least, abs=2e-5)
    assert reply.verdict == "stalled"


def test_the_notebooks_settings() -> None:
    start = [[0.75, 0.0], [0.0, 0.5]]
    plain = {"type": "diagonal_abs", "c": 0.5, "initial": start}
    sign = {"objective": plain, "norm": "sign", "momentum": 0.0, "steps": 1500, "error_feedback": {"enabled": False}}
    power = analyse(sign | {"schedule": {"type": "power", "exponent": 0.51}})
    assert power.baseline.min >= 0.625 - 1e-9
    polyak = analyse(sign | {"schedule": {"type": "polyak"}})
    assert polyak.baseline.min >= 0.625 - 1e-9
    assert polyak.baseline.final == pytest.approx(1.25, abs=1e-9)
    assert polyak.certificate.horizon is None
    momentum = {"objective": {"type": "diagonal_abs", "initial": LN2_START.tolist()}, "momentum": 0.9, "steps": 5000}
    assert analyse(momentum | {"schedule": {"type": "power", "exponent": 1.0}}).baseline.final == pytest.approx(
        0.05283, abs=1e-4
    )


@pytest.mark.parametrize("momentum", MOMENTA)
def test_error_feedback_goes_far_below_the_floor(momentum: float) -> None:
    objective = {"type": "diagonal_abs", "initial": LN2_START.tolist()}
    body = {"objective": objective, "momentum": momentum, "schedule": {"type": "power", "exponent": 1.0}}
    reply = analyse(body | {"error_feedback": {"step": "inverse_sqrt"}})
    assert reply.certificate.floor is not None
    assert reply.error_feedback is not None
    assert reply.baseline.min >= reply.certificate.floor - 1e-9
    assert reply.error_feedback.tail_mean <= 0.25 * reply.certificate.floor


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["spectral", "sign", "column"])
def test_error_feedback_is_within_its_bound_and_falls_as_it_says(norm: str) -> None:
    means = []
    for steps in (100, 1000, 10_000, 100_000):
        objective = {"type": "diagonal_abs", "initial": LN2_START.tolist()}
        reply = analyse({"objective": objective, "norm": norm, "steps": steps})
        run, limit = reply.error_feedback, reply.bound
        assert run is not None
        assert limit is not None
        assert reply.bound_satisfied
        assert run.mean <= limit.value + 1e-9
        assert run.max_error_norm is not None
        assert run.max_error_norm <= limit.max_error_norm
        means.append(run.mean)
        if norm == "spectral":
            assert limit.value == pytest.approx(1.2088 * math.sqrt(100 / steps), rel=1e-4)
    slope = np.polyfit(np.log([1e3, 1e4, 1e5]), np.log(means[1:]), 1)[0]
    assert -1.1 <= slope <= -0.35
    if norm == "spectral":
        assert means == pytest.approx([0.3852, 0.1256, 0.0573, 0.0194], abs=6e-5)


def jittered(seed: int, share: float) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return np.arange(1, 2001) ** -0.5 * rng.uniform(1 - share, 1 + share, 2000)


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_irregular_rates_have_no_alternating_start(share: float) -> None:
    assert all(certificates.alternating_start(jittered(seed, share)) is None for seed in range(20))


@pytest.mark.parametrize("momentum", [0.5, 0.9, 0.95])
def test_irregular_rates_still_have_a_floor_for_their_steps(momentum: float) -> None:
    schedule = {"type": "explicit", "values": jittered(1, 0.9).tolist()}
    reply = analyse({"schedule": schedule, "steps": 2000, "momentum": momentum, "error_feedback": {"enabled": False}})
    assert (reply.certificate.kind, reply.certificate.horizon) == ("finite_horizon", 2000)
    assert reply.certificate.floor is not None
    assert reply.certificate.floor > 0
    assert reply.baseline.min >= reply.certificate.floor
    assert reply.baseline.trace_drift == pytest.approx(0, abs=1e-10)
    assert {"finite_horizon_floor", "worst_case_only"} <= {one.code for one in reply.warnings}


def test_without_momentum_every_start_stalls_and_with_it_a_random_one_need_not() -> None:
    body = {"objective": {"type": "diagonal_abs", "initial": "random"}, "steps": 5000}
    for seed in range(5):
        assert analyse(body | {"momentum": 0.0}, seed).certificate.kind == "no_momentum"
        assert analyse(body | {"momentum": 0.3}, seed).verdict == "stalled"
    drifts = [analyse(body | {"momentum": 0.9}, seed).verdict for seed in range(5)]
    assert "decreasing" in drifts


@pytest.mark.parametrize("norm", ["spectral", "sign", "column", "row"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_the_fast_loop_is_the_matrix_loop(norm: str, nesterov: bool) -> None:
    rates, objective = np.arange(1, 401) ** -0.5, DiagonalAbs(1 / 38)
    start = np.array([[1.6, 0.2], [-0.3, 0.4]])
    matrix = descend(objective, LMOS[norm], start, listed(rates), 400, 0.9, nesterov=nesterov)
    plain = descend_diagonal(objective, start, rates, 0.9, RANK_TOLERANCE, nesterov=nesterov)
    np.testing.assert_allclose(plain.losses, matrix.losses, atol=1e-12)
    np.testing.assert_allclose(plain.last, matrix.last, atol=1e-12)
    fed = descend_with_feedback(objective, LMOS[norm], start, rates, 0.9)
    quick = feed_back_diagonal(objective, start, rates, 0.9, RANK_TOLERANCE)
    np.testing.assert_allclose(quick.losses, fed.losses, atol=1e-12)
    assert quick.least_delta == pytest.approx(fed.least_delta)
    assert quick.largest_error == pytest.approx(fed.largest_error)
