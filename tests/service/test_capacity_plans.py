"""Plans: each figure moves the way it must, sizes of replicas, what the servers need, what the database is asked."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampler.errors import InvalidParams
from sampler.params import PowerParams
from service.capacity.cluster import SERVICE_TOKEN_S, Fleet, Work, make_plan
from service.capacity.hardware import GPUS
from service.capacity.jobs import Polling, job_load
from service.capacity.limits import ServerLimits
from service.capacity.measured import behaviour
from service.capacity.replica import MeasuredStep
from service.capacity.shape import ModelShape, estimated
from service.capacity.tokens import Lengths

WORK = Work("entropy_cut", PowerParams(1024), behaviour("entropy_cut", PowerParams(1024), 700.0), 1, 512.0, 50.0)
FLEET = Fleet(estimated(7e9), GPUS["H100"], 1000)


def plan(work: Work = WORK, fleet: Fleet = FLEET, **changes: Any) -> Any:
    """A plan, with fields of the work or of the fleet changed."""
    mine = {name: value for name, value in changes.items() if name in Work.__slots__}
    other = {name: value for name, value in changes.items() if name not in mine}
    return make_plan(replace(work, **mine), replace(fleet, **other), Polling())


def test_needs_grow_with_what_is_asked_and_capacity_with_what_there_is() -> None:
    base = plan()
    assert plan(rps=500.0).gpus_needed >= 9 * base.gpus_needed
    assert plan(gpus=2000).capacity_rps == pytest.approx(2 * base.capacity_rps, rel=0.01)
    assert plan(utilisation=0.35).gpus_needed >= 1.9 * base.gpus_needed - base.replica.gpus
    assert plan(prefix_hits=0.0).gpus_needed > base.gpus_needed
    assert plan(answers=4).gpus_needed > 3 * base.gpus_needed
    assert not plan(gpus=8, rps=500.0).suffices
    assert plan(gpus=base.gpus_needed).suffices


def test_what_runs_at_once_obeys_littles_law() -> None:
    found = plan()
    arriving = WORK.rps * found.cost.drawn / found.replicas
    assert found.rows == pytest.approx(arriving * found.replica.seconds(found.rows, WORK.load), rel=1e-6)
    assert found.busy == pytest.approx(arriving / found.replica.tokens_s)
    assert found.in_flight == pytest.approx(WORK.rps * (found.service_s + found.wait_s))


def test_a_measured_step_takes_the_data_sheets_place() -> None:
    found = plan(step=MeasuredStep(0.01, 0.001), max_rows=10)
    assert found.replica.rows == 10
    assert found.replica.tokens_s == pytest.approx(10 / 0.02)
    assert found.gpus_needed == math.ceil(WORK.rps * found.cost.drawn / 500 / 0.7)


def test_the_servers_loop_is_a_limit_too() -> None:
    found = plan(step=MeasuredStep(1e-6, 1e-9))
    assert found.replica.binds == "the server's event loop"
    assert found.replica.tokens_s == pytest.approx(1 / SERVICE_TOKEN_S)


def test_a_latency_that_is_asked_for_costs_throughput() -> None:
    base = plan()
    wanted = base.cost.depth * base.replica.step_s / 2
    quick = plan(latency_s=wanted)
    assert quick.service_s <= wanted
    assert quick.replica.tokens_s / quick.replica.gpus < base.replica.tokens_s / base.replica.gpus
    with pytest.raises(InvalidParams, match="alone"):
        plan(latency_s=0.01)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"shape": estimated(70e9), "gpus": 1}, "weights do not fit"),
        ({"shape": estimated(36e9), "group": 1, "gpus": 8, "prompt_tokens": 1e6}, "does not fit"),
        ({"group": 8, "gpus": 4}, "does not fit into 4"),
        ({"group": 16}, "at most 8, the H100s of one node"),
    ],
)
def test_what_does_not_fit_is_said_plainly(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidParams, match=says):
        plan(**changes)


def test_gpus_that_are_left_over_count_when_replicas_are_sized() -> None:
    """Two GPUs make the better replica, but of three one would idle."""
    by_two, by_one = plan(gpus=3, rps=1.8, group=2), plan(gpus=3, rps=1.8, group=1)
    assert by_two.replica.tokens_s / 2 > by_one.replica.tokens_s
    assert not by_two.suffices
    assert by_one.suffices

    assert plan(gpus=3, rps=1.8).replica.gpus == 1
    assert plan(gpus=3, rps=1.8).suffices
    assert plan(gpus=4, rps=1.8).replica.gpus == 2


@given(st.integers(1, 40), st.floats(0.1, 40.0))
@settings(max_examples=40, deadline=None)
def test_gpus_suffice_if_they_do_with_any_size_of_replica(gpus: int, rps: float) -> None:
    sizes = [size for size in (1, 2, 4, 8) if size <= gpus]
    assert plan(gpus=gpus, rps=rps).suffices == any(plan(gpus=gpus, rps=rps, group=size).suffices for size in sizes)


def test_the_servers_limits_are_told_where_they_would_bind_first() -> None:
    found = plan(group=2)
    rows = found.replica.rows
    assert rows > 256
    assert found.limits == ServerLimits(rows, rows, rows, rows * 88_064)
    assert [name for name, *_ in found.limits.above_defaults()] == [
        "max_rows",
        "max_running_requests",
        "max_running_requests_per_key",
    ]
    assert not list(plan(max_rows=128).limits.above_defaults())
    assert [each[0] for each in plan(max_rows=129).limits.above_defaults()] == [
        "max_rows",
        "max_running_requests_per_key",
    ]
    eight = plan(answers=8, group=2).limits
    assert eight.max_running_requests == math.ceil(eight.max_rows / 8), "a request of 8 answers is 8 rows"
    many = plan(step=MeasuredStep(0.01, 0.0), max_rows=1600, prompt_tokens=1.0, group=2, gpu=GPUS["B200"])
    assert ("max_running_tokens", 1600 * 88_064, 1 << 27) in many.limits.above_defaults()


def test_memory_bounds_the_rows() -> None:
    found = plan(prompt_tokens=8000.0, group=1)
    shape: ModelShape = FLEET.shape
    room = 80e9 * 0.9 - 4e9 - shape.weight_bytes("bf16")
    assert found.replica.rows == int(room / (8700.0 * shape.kv_bytes_per_token("bf16")))


WHOLE = Lengths(1024, math.inf)


def test_a_database_is_written_to_by_rows_and_asked_by_servers() -> None:
    params = PowerParams(1024)
    load = job_load("entropy_cut", params, WHOLE, 10.0, 100.0, 20, Polling())
    assert load.checkpoints == 10.0 * 15
    assert load.row_writes == load.checkpoints + 40.0
    assert load.idle_transactions == pytest.approx(20 * (3 + 4 / 30))
    assert job_load("entropy_cut", params, WHOLE, 10.0, 1.0, 20, Polling()).checkpoints == pytest.approx(50.0)
    assert job_load("smc", params, WHOLE, 10.0, 100.0, 20, Polling()).checkpoints == 0.0
    assert job_load("entropy_cut", params, WHOLE, 0.0, 100.0, 20, Polling()).written_bytes == 0.0


def test_a_checkpoint_holds_the_trace_up_to_its_stage_and_no_more_than_the_answer() -> None:
    params = PowerParams(1024)

    def tokens(mean: float) -> float:
        load = job_load("entropy_cut", params, Lengths(1024, mean), 1.0, 1e6, 1, Polling(reply_bytes=0.0))
        return load.written_bytes / load.checkpoints / Polling().token_bytes

    assert tokens(math.inf) == pytest.approx(512.0), "of 64, 128, ..., 960"
    assert tokens(20.0) == pytest.approx(20.0, rel=0.02)
    assert 350.0 < tokens(700.0) < 512.0
    long = replace(WORK, batch_share=1.0)
    assert (
        plan(long).jobs.written_bytes
        > 2 * plan(long, behaviour=replace(WORK.behaviour, answer_tokens=50.0)).jobs.written_bytes
    )
