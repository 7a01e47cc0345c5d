"""From work and GPUs to a plan: replicas, throughput, how busy they are, how long a request takes, what binds."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

from sampler.errors import InvalidParams
from sampler.params import PlainParams
from service.capacity.hardware import Gpu
from service.capacity.jobs import JobLoad, Polling, job_load
from service.capacity.limits import ServerLimits, server_limits
from service.capacity.queues import mean_wait_s
from service.capacity.replica import Efficiency, Load, MeasuredStep, Roofline, StepTime, rows_that_fit
from service.capacity.shape import ModelShape
from service.capacity.tokens import Behaviour, Cost, Lengths, Params, answer_cost

GROUPS = (1, 2, 4, 8)
"""GPUs of a replica that are tried: those of one node."""
SERVICE_TOKEN_S = 8.5e-6
"""Processor seconds of the server's one event loop for each token drawn, memo tree on (docs/speed.md, over HTTP)."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is asked for.

    `prefix_hits` is the share of prefixes found in the engine's cache, `overlap` the positions that each call computes
    again all the same: half a block of a cache that keeps whole blocks.
    """

    method: str
    params: Params
    behaviour: Behaviour
    answers: int
    prompt_tokens: float
    rps: float
    batch_share: float = 0.0
    prefix_hits: float = 1.0
    overlap: float = 8.0
    latency_s: float | None = None

    @property
    def cost(self) -> Cost:
        """One request: so many answers side by side."""
        return answer_cost(self.method, self.params, self.behaviour).times(self.answers)

    @property
    def plain_cost(self) -> Cost:
        """The same number of plain samples."""
        return answer_cost("standard", PlainParams(self.params.max_tokens), self.behaviour).times(self.answers)

    @property
    def lengths(self) -> Lengths:
        """How long answers are."""
        return Lengths(self.params.max_tokens, self.behaviour.answer_tokens)

    @property
    def load(self) -> Load:
        """What a token needs around it. The rows of a request share its prompt."""
        cost = self.cost
        context = self.prompt_tokens + cost.position
        again = cost.calls * (self.overlap + (1 - self.prefix_hits) * context)
        held = self.prompt_tokens / cost.width + min(self.params.max_tokens, self.behaviour.answer_tokens)
        return Load(context, held, (self.prompt_tokens + again) / cost.drawn)


@dataclass(frozen=True, slots=True)
class Fleet:
    """What there is. `group` fixes the GPUs of a replica, `step` measured times in place of the data sheet's.

    Raises:
        InvalidParams: `group` is more than one node holds: the links that a step is reckoned with end there.
    """

    shape: ModelShape
    gpu: Gpu
    gpus: int
    dtype: str = "bf16"
    kv_dtype: str = "bf16"
    group: int | None = None
    max_rows: int = 1024
    utilisation: float = 0.7
    efficiency: Efficiency = field(default_factory=Efficiency)
    step: MeasuredStep | None = None
    mtbf_hours: float = 50_000.0
    restart_s: float = 300.0

    def __post_init__(self) -> None:
        if self.group is not None and self.group > self.gpu.per_node:
            message = f"--tensor-parallel: at most {self.gpu.per_node}, the {self.gpu.name}s of one node"
            raise InvalidParams("tensor_parallel", message)


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica at its most: `rows` at once, `tokens_s` from them, and the part that binds."""

    gpus: int
    rows: int
    rows_by_memory: float
    step_s: float
    tokens_s: float
    binds: str
    step: StepTime

    def seconds(self, rows: float, load: Load) -> float:
        """A step of so many rows, their server's share of the work included."""
        return max(self.step.seconds(rows, load), rows * SERVICE_TOKEN_S)


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer. Rates are a second's; `service_s` a request's own time at this load, `wait_s` before it."""

    cost: Cost
    cost_ratio: float
    worst_ratio: float
    replica: Replica
    replicas: int
    capacity_rps: float
    gpus_needed: int
    rows: float
    busy: float
    service_s: float
    wait_s: float
    in_flight: float
    limits: ServerLimits
    jobs: JobLoad
    failures_per_day: float
    lost_capacity: float

    @property
    def suffices(self) -> bool:
        """Whether the GPUs carry the requests within the utilisation asked for."""
        return self.gpus_needed <= self.replicas * self.replica.gpus


def make_plan(work: Work, fleet: Fleet, polling: Polling) -> Plan:
    """The plan of the replica size with which these GPUs draw the most tokens.

    Raises:
        InvalidParams: No group of GPUs that was allowed holds the model and one row, or the latency cannot be had.
    """
    cost, load = work.cost, work.load
    replica = best_replica(work, fleet)
    usable = replica.tokens_s * fleet.utilisation
    replicas = fleet.gpus // replica.gpus
    needed = math.ceil(work.rps * cost.drawn / usable - 1e-9)
    arriving = work.rps * cost.drawn / replicas
    rows = rows_at(replica, load, arriving)
    service_s = cost.depth * replica.seconds(rows, load)
    places = max(1, int(replica.rows * replicas / cost.width))
    wait_s = mean_wait_s(places, work.rps, cost.depth * replica.step_s)
    per_day = fleet.gpus * 24 / fleet.mtbf_hours
    return Plan(
        cost,
        cost.drawn / work.plain_cost.drawn,
        cost.worst / work.plain_cost.drawn,
        replica,
        replicas,
        replicas * usable / cost.drawn,
        needed * replica.gpus,
        rows,
        arriving / replica.tokens_s,
        service_s,
        wait_s,
        work.rps * (service_s + wait_s),
        server_limits(replica.rows, cost),
        job_load(work.method, work.params, work.lengths, work.rps * work.batch_share, service_s, replicas, polling),
        per_day,
        replica.gpus * fleet.restart_s / 3600 / fleet.mtbf_hours,
    )


def best_replica(work: Work, fleet: Fleet) -> Replica:
    """The size of replicas with which all GPUs together draw the most tokens; of equals the most per GPU, the smaller.

    GPUs that are too few for one more replica idle, so the best size by the GPU need not be the best of these GPUs.
    """
    sizes = [size for size in GROUPS if size <= min(fleet.gpus, fleet.gpu.per_node)]
    groups = sizes if fleet.group is None else [fleet.group]
    if fleet.group is not None and fleet.group > fleet.gpus:
        raise InvalidParams("tensor_parallel", f"a replica of {fleet.group} GPUs does not fit into {fleet.gpus}")
    found = [replica_of(work, replace(fleet, group=size), size) for size in groups]
    fit = [replica for replica in found if replica is not None]
    if not fit:
        raise InvalidParams("gpus", _too_small(work, fleet, groups[-1]))

    def worth(replica: Replica) -> tuple[float, float, int]:
        all_s = fleet.gpus // replica.gpus * replica.tokens_s
        return all_s, replica.tokens_s / replica.gpus, -replica.gpus

    return max(fit, key=worth)


def replica_of(work: Work, fleet: Fleet, size: int) -> Replica | None:
    """A replica of so many GPUs at its most; None if not one row fits, or not one is fast enough."""
    load = work.load
    memory = fleet.efficiency.memory
    fits = rows_that_fit(fleet.shape, fleet.gpu, size, fleet.dtype, fleet.kv_dtype, memory, load.held)
    step = fleet.step or Roofline(fleet.shape, fleet.gpu, size, fleet.dtype, fleet.kv_dtype, fleet.efficiency)
    rows, binds = (int(fits), "memory for keys and values") if fits < fleet.max_rows else (fleet.max_rows, "max rows")
    if work.latency_s is not None:
        fast = rows_within(step, load, work.latency_s / work.cost.depth, rows)
        rows, binds = (fast, "latency") if fast < rows else (rows, binds)
    if rows < 1:
        return None
    step_s = step.seconds(rows, load)
    if rows * SERVICE_TOKEN_S > step_s:
        step_s, binds = rows * SERVICE_TOKEN_S, "the server's event loop"
    elif isinstance(step, Roofline) and binds != "latency":
        binds = _longest(step.parts(rows, load), binds)
    return Replica(size, rows, fits, step_s, rows / step_s, binds, step)


def _longest(parts: dict[str, float], rows_bound: str) -> str:
    """Which part of a step binds: more rows would not help where arithmetic does, and would where a fixed part does."""
    name = max(parts, key=lambda part: parts[part])
    words = {"compute": "arithmetic", "prefill": "prefill", "links": "links between GPUs", "overhead": "step overhead"}
    return words.get(name, f"memory bandwidth, rows by {rows_bound}")


def rows_within(step: StepTime, load: Load, most_s: float, most: int) -> int:
    """The most rows whose step takes no longer; a step takes longer the more there are."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if step.seconds(middle, load) <= most_s else (low, middle - 1)
    return low


def rows_at(replica: Replica, load: Load, tokens_s: float) -> float:
    """Rows at once where so many tokens a second are asked of a replica: Little's law at the step's own pace."""
    if tokens_s >= replica.tokens_s:
        return float(replica.rows)

    def lacking(rows: float) -> float:
        return rows / replica.seconds(rows, load) - tokens_s

    return root(lacking, replica.rows)


def root(lacking: Callable[[float], float], most: float) -> float:
    """Where a rising function is zero, between nearly nothing and `most`."""
    least = 1e-9
    from scipy.optimize import brentq  # here, so that the commands that plan nothing start without it

    return least if lacking(least) >= 0 else cast(float, brentq(lacking, least, most))


def _too_small(work: Work, fleet: Fleet, size: int) -> str:
    memory = fleet.efficiency.memory
    fits = rows_that_fit(fleet.shape, fleet.gpu, size, fleet.dtype, fleet.kv_dtype, memory, work.load.held)
    weights = fleet.shape.weight_bytes(fleet.dtype)
    if fits < 1:
        what = "its weights do not fit" if fits < 0 else "its weights leave no room for one answer's keys and values"
        return (
            f"the model does not fit: {weights / 1e9:.0f} GB of weights on {size} × {fleet.gpu.name} of "
            f"{fleet.gpu.memory_bytes / 1e9:.0f} GB: {what}; give more GPUs, larger ones, or a smaller --dtype"
        )
    alone = work.cost.depth * (fleet.step or roofline(fleet, size)).seconds(1, work.load)
    return f"--latency-s cannot be had: a request alone on {size} × {fleet.gpu.name} takes {alone:.3g} s"


def roofline(fleet: Fleet, size: int) -> Roofline:
    """A step by the data sheet on so many GPUs."""
    return Roofline(fleet.shape, fleet.gpu, size, fleet.dtype, fleet.kv_dtype, fleet.efficiency)
