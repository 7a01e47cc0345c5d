"""How many replicas there should be, what a command line may say of them, and what Serve is told."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from service.cli import app
from service.replicas.deployment import DOWNSCALE_S
from service.replicas.options import TARGET_TOKENS, scale_from
from service.replicas.scaling import QUEUED, ROWS, SHARE, QueuedTokens
from tests.ray.cluster import require_ray
from tests.service.serving import ROOT

TARGET = 1000


@dataclass
class Seen:
    """What Serve tells a policy."""

    aggregated_metrics: Mapping[str, Mapping[Any, float]] | None
    current_num_replicas: int = 3
    target_num_replicas: int = 3


def wanted(queued: list[float], share: list[float], rows: float = 0.0) -> int:
    """The policy's word on replicas that tell these numbers."""
    names = range(len(share))
    told = {QUEUED: dict(zip(names, queued, strict=True)), SHARE: dict(zip(names, share, strict=True))}
    return QueuedTokens(TARGET)(Seen({**told, ROWS: dict.fromkeys(names, rows)}))[0]


@pytest.mark.parametrize(
    ("queued", "share", "rows", "replicas"),
    [
        ([0], [0], 0, 1),  # idle: as few as may be
        ([0, 0], [0.8, 0.8], 0, 2),  # as full as they should be
        ([0, 0], [0.9, 0.9], 0, 3),
        ([1, 0], [1, 1], 0, 3),  # full, and little waits
        ([4000, 500], [1, 1], 0, 5),  # the queue asks for more than the work that runs
        ([0, 0, 0], [0.1, 0.1, 0], 0, 1),
        ([0], [0.1], 3.2, 4),  # rows of a batch, of which few run here
        ([0, 0], [0.5, 0.5], 3.2, 4),  # both see the same rows: they are counted once
        ([1000], [0], 0, 1),
        ([1001], [0], 0, 2),
    ],
)
def test_the_policy_asks_for_what_most_asks_for(
    queued: list[float], share: list[float], rows: float, replicas: int
) -> None:
    assert wanted(queued, share, rows) == replicas


@pytest.mark.parametrize("told", [None, {}, {SHARE: {}}])
def test_nothing_is_changed_while_no_replica_has_told(told: Mapping[str, Mapping[Any, float]] | None) -> None:
    assert QueuedTokens(TARGET)(Seen(told))[0] == 3


def test_more_work_never_asks_for_fewer_replicas() -> None:
    grid = [0.0, 0.3, 0.7, 1.0]
    for share in grid:
        counts = [wanted([queued] * 2, [share] * 2) for queued in (0.0, 400.0, 900.0, 5000.0)]
        assert counts == sorted(counts)
    assert [wanted([0, 0], [share, share]) for share in grid] == sorted(wanted([0, 0], [s, s]) for s in grid)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--replicas", "2"], "--replicas needs --ray"),
        (["--max-replicas", "2"], "--max-replicas needs --ray"),
        (["--ray-address", "127.0.0.1:1"], "--ray-address needs --ray"),
        (["--gpus-per-replica", "1"], "--gpus-per-replica needs --ray"),
        (["--ray", "--replicas", "0"], "--replicas: Input should be greater than or equal to 1"),
        (["--ray", "--replicas", "2", "--max-replicas", "3"], "replicas is a fixed number"),
        (["--ray", "--min-replicas", "2"], "min_replicas needs max_replicas"),
        (["--ray", "--min-replicas", "3", "--max-replicas", "2"], "must not be less"),
        (["--ray", "--target-queued-tokens", "5"], "target_queued_tokens needs max_replicas"),
        (["--ray", "--gpus-per-replica", "1.5"], "whole number"),
        (["--ray", "--port", "0"], "the port must be named"),
        (["--ray", "--ray-address", "127.0.0.1:1"], "PostgreSQL"),
        (["--ray", "--ray-address", "127.0.0.1:1", "--database-url", "postgresql://a@b/c"], "nobody answers at 127"),
        (["--ray", "--ray-address", "auto", "--database-url", "postgresql://a@b/c"], "want HOST:PORT"),
        (["--ray", "--engine", "abacus"], "unknown engine 'abacus'"),
        (["--ray", "--host", "0.0.0.0"], "no key is set"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_clear_line(table_file: Path, options: list[str], says: str) -> None:
    result = CliRunner().invoke(app, ["serve", "--engine", "tabular", "--model", str(table_file), *options])
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("powercut: ")
    assert says in line


def test_without_ray_the_command_says_what_to_install(table_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "token")  # so that what the command sets is taken back
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr("service.replicas.command.STAY_HERE", {})
    monkeypatch.setattr("service.replicas.command.environment", lambda settings: {})
    result = CliRunner().invoke(app, ["serve", "--ray", "--engine", "tabular", "--model", str(table_file)])
    assert result.exit_code == 2
    assert "pip install 'powercut[ray]'" in result.stderr
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    result = CliRunner().invoke(app, ["serve", "--ray", "--engine", "tabular", "--model", str(table_file)])
    assert result.exit_code == 2
    assert "without its token" in result.stderr


def told_to_serve(**scale: float) -> dict[str, Any]:
    """What Serve is told of replicas and places."""
    from service.replicas.deployment import placement, replicas

    chosen = scale_from(scale)
    return {**replicas(chosen), **placement(chosen, spreads=False)}


def test_serve_is_told_of_replicas_and_their_places() -> None:
    from service.replicas.deployment import placement, spreads

    assert told_to_serve() == {"num_replicas": 1, "ray_actor_options": {"num_cpus": 1.0, "num_gpus": 0.0}}
    grows = told_to_serve(min_replicas=2, max_replicas=5, gpus_per_replica=2)
    assert grows["ray_actor_options"]["num_gpus"] == 2
    scaling = grows["autoscaling_config"]
    assert (scaling["min_replicas"], scaling["max_replicas"]) == (2, 5)
    assert scaling["policy"]["policy_kwargs"] == {"target_tokens": TARGET_TOKENS}
    assert spreads({"distributed_executor_backend": "ray"})
    assert not spreads(None)
    wide = placement(scale_from({"gpus_per_replica": 3}), spreads=True)
    assert wide["placement_group_bundles"] == [{"CPU": 1.0, "GPU": 1}, {"GPU": 1}, {"GPU": 1}]
    assert wide["ray_actor_options"]["num_gpus"] == 0, "vLLM's own workers take them"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, when it is imported
@pytest.mark.parametrize(("wanted_for_s", "left"), [(DOWNSCALE_S - 20, 6), (DOWNSCALE_S + 20, 1)])
def test_serve_stops_all_that_are_too_many_at_once_as_the_page_says(wanted_for_s: float, left: int) -> None:
    """Serve's own autoscaler, on what it is told: it does not go down by one replica after the other."""
    require_ray()
    from ray.serve._private import constants
    from ray.serve.autoscaling_policy import _apply_autoscaling_config
    from ray.serve.config import AutoscalingConfig

    scaling = told_to_serve(min_replicas=1, max_replicas=8)["autoscaling_config"]
    idle = {SHARE: dict.fromkeys(range(6), 0.0)}
    seen = SimpleNamespace(
        **vars(Seen(idle, 6, 6)),
        config=AutoscalingConfig(**scaling),
        total_num_requests=0,
        policy_state={
            constants.SERVE_AUTOSCALING_DECISION_COUNTERS_KEY: -1,
            constants.SERVE_AUTOSCALING_DECISION_TIMESTAMP_KEY: time.time() - wanted_for_s,
        },
    )
    policy: Any = QueuedTokens(TARGET)
    told: Any = seen
    assert _apply_autoscaling_config(policy)(told)[0] == left
    page = (ROOT / "docs" / "replicas.md").read_text(encoding="utf-8")
    assert "all that are too many are stopped at once" in page
