"""A plan for people, and for programs."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from service.capacity.cluster import Fleet, Plan, Work

Rows = Iterator[tuple[str, str]]


def as_json(work: Work, fleet: Fleet, plan: Plan) -> dict[str, Any]:
    """Every figure in its own unit; what is infinite is null."""
    shape, replica, cost, jobs = fleet.shape, plan.replica, plan.cost, plan.jobs
    found = {
        "suffices": plan.suffices,
        "binds": replica.binds,
        "model": {
            "params": shape.params,
            "active_params": shape.active,
            "layers": shape.layers,
            "kv_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "shape_is_estimated": shape.is_estimated,
            "weight_bytes": shape.weight_bytes(fleet.dtype),
            "kv_bytes_per_token": shape.kv_bytes_per_token(fleet.kv_dtype),
        },
        "request": {
            "method": work.method,
            "drawn_tokens": cost.drawn,
            "free_tokens": cost.free,
            "worst_case_tokens": cost.worst,
            "plain_tokens": work.plain_cost.drawn,
            "cost_ratio": plan.cost_ratio,
            "worst_cost_ratio": plan.worst_ratio,
            "engine_calls": cost.calls,
            "tokens_one_after_another": cost.depth,
            "rows_at_once": cost.width,
            "computed_positions_per_token": work.load.computed,
        },
        "replica": {
            "gpus": replica.gpus,
            "rows": replica.rows,
            "rows_by_memory": replica.rows_by_memory,
            "step_s": replica.step_s,
            "tokens_per_s": replica.tokens_s,
            "tokens_per_s_per_gpu": replica.tokens_s / replica.gpus,
        },
        "server_limits": asdict(plan.limits),
        "cluster": {
            "gpu": fleet.gpu.name,
            "gpus": fleet.gpus,
            "replicas": plan.replicas,
            "gpus_needed": plan.gpus_needed,
            "requests_per_s_possible": plan.capacity_rps,
            "busy": plan.busy,
            "rows_per_replica": plan.rows,
            "service_s": plan.service_s,
            "wait_s": plan.wait_s,
            "requests_in_flight": plan.in_flight,
        },
        "database": {
            "batch_rows_per_s": jobs.rows,
            "row_writes_per_s": jobs.row_writes,
            "checkpoints_per_s": jobs.checkpoints,
            "bytes_per_s": jobs.written_bytes,
            "polling_transactions_per_s": jobs.idle_transactions,
        },
        "failures": {
            "per_day": plan.failures_per_day,
            "capacity_share_lost_to_restarts": plan.lost_capacity,
            "requests_cut_by_one": plan.in_flight / max(1, plan.replicas),
        },
    }
    return _finite(found)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show(work: Work, fleet: Fleet, plan: Plan, console: Console) -> None:
    """The plan as a table, and what it comes to in words."""
    table = Table(show_header=False, title=verdict(work, fleet, plan), title_justify="left")
    for section in (
        _model(fleet),
        _request(work, plan),
        _replica(plan),
        _cluster(work, fleet, plan),
        _around(work, plan),
    ):
        for name, value in section:
            table.add_row(name, value)
        table.add_section()
    console.print(table)


def verdict(work: Work, fleet: Fleet, plan: Plan) -> str:
    """Whether the GPUs suffice, in one sentence."""
    have, needed = (
        f"{fleet.gpus} × {fleet.gpu.name}",
        f"{plan.gpus_needed} GPUs are needed at {fleet.utilisation:.0%} use",
    )
    if plan.suffices:
        return f"{have} carry {work.rps:g} requests/s: {needed}"
    return f"{have} do not carry {work.rps:g} requests/s: {needed}; these carry {number(plan.capacity_rps)} requests/s"


def _model(fleet: Fleet) -> Rows:
    shape = fleet.shape
    kind = "estimated" if shape.is_estimated else "from its config"
    yield "weights", f"{shape.params / 1e9:.3g} · 10⁹ parameters, {shape.weight_bytes(fleet.dtype) / 1e9:.1f} GB"
    layout = f"{shape.layers} layers, {shape.kv_heads} key heads of {shape.head_dim}, {kind}"
    yield "keys and values", f"{shape.kv_bytes_per_token(fleet.kv_dtype) / 1e3:.0f} kB a token ({layout})"


def _request(work: Work, plan: Plan) -> Rows:
    cost = plan.cost
    yield (
        "tokens drawn per request",
        f"{number(cost.drawn)} ({work.method}, {work.answers} answer(s)), {number(cost.free)} more free",
    )
    yield "at worst, as admission counts", number(cost.worst)
    yield "cost ÷ plain sampling", f"{plan.cost_ratio:.1f} (at worst {plan.worst_ratio:.1f})"
    yield "computed anew per token drawn", f"{work.load.computed:.2f} positions of prompts and prefixes"


def _replica(plan: Plan) -> Rows:
    replica = plan.replica
    yield (
        "a replica",
        f"{replica.gpus} GPU(s), {replica.rows} rows at once ({number(replica.rows_by_memory)} by memory)",
    )
    yield "its step at its most", f"{replica.step_s * 1e3:.1f} ms"
    yield "its tokens", f"{number(replica.tokens_s)}/s, {number(replica.tokens_s / replica.gpus)}/s a GPU"
    yield "what binds", replica.binds
    raised = [f"{name} {value:,} (default {default:,})" for name, value, default in plan.limits.above_defaults()]
    if raised:
        yield "its server needs", ", ".join(raised)


def _cluster(work: Work, fleet: Fleet, plan: Plan) -> Rows:
    yield "replicas", f"{plan.replicas} of {plan.replica.gpus} GPU(s)"
    yield "possible", f"{number(plan.capacity_rps)} requests/s at {fleet.utilisation:.0%} use"
    yield "busy", f"{plan.busy:.0%} at {work.rps:g} requests/s, {number(plan.rows)} rows a replica"
    wait = "grows without end" if math.isinf(plan.wait_s) else f"{number(plan.wait_s)} s"
    yield "a request takes", f"{number(plan.service_s)} s, and its wait {wait}"
    if math.isfinite(plan.in_flight):
        yield "requests in flight", number(plan.in_flight)


def _around(work: Work, plan: Plan) -> Rows:
    jobs = plan.jobs
    if work.batch_share:
        writes = f"{number(jobs.row_writes)} row writes/s, {number(jobs.checkpoints)} of them checkpoints"
        yield "database", f"{writes}; {number(jobs.written_bytes / 1e6)} MB/s"
    yield "its polling", f"{number(jobs.idle_transactions)} transactions/s by all servers, idle or not"
    lost = f"{plan.lost_capacity:.1e} of the capacity lost to restarts"
    yield "failures", f"{number(plan.failures_per_day)} a day; {lost}"


def number(value: float) -> str:
    """Three digits, thousands apart."""
    if not math.isfinite(value):
        return "∞"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
