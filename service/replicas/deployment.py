"""What Ray Serve is told of the application: how requests come, how replicas are placed, checked, stopped and scaled.

`build` is what a Serve config file names; `powercut serve --ray` comes to the same `application`.
"""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from pydantic import Field, SecretStr

from sampler.engine import EngineOptions, load_engine
from sampler.engines import ENGINES
from sampler.errors import InvalidParams
from service.keys import read_keys
from service.replicas.options import TARGET_TOKENS, Scale, shared_store
from service.replicas.replica import LoadEngine, Replica
from service.replicas.scaling import QueuedTokens
from service.settings import Settings, revealed, settings_from

NAME = "powercut"
CLOSING_S = 50
"""Seconds beyond `drain_s` after which Serve kills a replica that is still closing what it holds."""
PROBES = 256
"""Requests beside those that run or wait, as of probes and metrics, that a replica takes at once."""
STARTS = 3
"""How often a replica is tried to be started before the deployment has failed: most often the model's name is wrong."""
UPSCALE_S, DOWNSCALE_S = 10.0, 300.0
"""Seconds that more replicas, and fewer, must have been wanted: a model takes minutes to load, and is cheap to keep."""


class Deployment(Scale):
    """`args` of a Serve config file. Secrets are none of them, since Ray shows a config file to whoever may ask.

    `settings` are those of `powercut serve`, by their names; what is not given is taken from the environment.
    """

    engine: str = "transformers"
    model: str | None = None
    served_model_name: str | None = None
    dtype: str | None = None
    device: str | None = None
    max_rows: int | None = Field(default=None, ge=1, le=4096)
    kv_cache_bytes: int | None = Field(default=None, ge=0)
    url: tuple[str, ...] | None = None
    tokenizer: str | None = None
    eos_ids: tuple[int, ...] | None = None
    engine_args: dict[str, Any] | None = None
    settings: dict[str, Any] = Field(default_factory=dict)


SECRETS = ("keys", "database_url")
ELSEWHERE = ("host", "port")
"""Settings that Serve keeps itself, by other names."""


def build(args: Deployment) -> Any:
    """The Serve application that a config file's `args` ask for.

    Raises:
        InvalidParams: a secret stands in the file, or an address, or the replicas could not share their jobs.
    """
    for name in ELSEWHERE:
        if name in args.settings:
            raise InvalidParams(
                name, f"{name}: where Serve listens is said by http_options of the file, not by settings"
            )
    for name in SECRETS:
        if name in args.settings:
            variable = f"POWERCUT_{name.upper()}"
            raise InvalidParams(name, f"{name} is a secret: give {variable} in the environment of the Ray nodes")
    settings = settings_from(args.settings)
    shared_store(settings)
    options = EngineOptions(
        args.model,
        args.served_model_name,
        args.dtype,
        args.device,
        args.max_rows,
        args.kv_cache_bytes,
        url=args.url,
        api_key=os.environ.get("POWERCUT_REMOTE_API_KEY"),
        tokenizer=args.tokenizer,
        eos_ids=args.eos_ids,
        engine_args=args.engine_args,
    )
    return application(loader(args.engine, options), settings, args, spreads(args.engine_args))


def loader(engine: str, options: EngineOptions) -> LoadEngine:
    """What loads the engine in a replica. Raises `InvalidParams` for an engine that there is not."""
    if engine not in ENGINES:
        raise InvalidParams("engine", f"unknown engine {engine!r}; choose one of {', '.join(sorted(ENGINES))}")
    return partial(load_engine, engine, options)


def spreads(engine_args: Mapping[str, Any] | None) -> bool:
    """Whether vLLM places its workers by Ray, so that they may be on several machines."""
    return (engine_args or {}).get("distributed_executor_backend") == "ray"


def application(load: LoadEngine, settings: Settings, scale: Scale, spreads: bool = False) -> Any:
    """A Serve application of replicas that each load their own engine.

    Serve counts requests only to balance them: who may run is for each replica's own admission to say.
    """
    from ray import serve

    taken = settings.max_running_requests + settings.max_queued_requests + PROBES
    deployment = serve.deployment(
        name=NAME,
        max_ongoing_requests=taken,
        max_queued_requests=taken,
        backpressure_config={"status_code": 429, "retry_after_s": 5},
        graceful_shutdown_timeout_s=settings.drain_s + CLOSING_S,
        graceful_shutdown_wait_loop_s=0.2,
        max_constructor_retry_count=STARTS,
        logging_config={"log_level": "WARNING", "enable_access_log": False},
        **placement(scale, spreads),
        **replicas(scale),
    )
    return deployment(serve.ingress()(Replica)).bind(load, carried(settings))


def replicas(scale: Scale) -> dict[str, Any]:
    """A fixed number, or the autoscaler's bounds and policy."""
    if scale.max_replicas is None:
        return {"num_replicas": scale.most}
    policy = {
        "policy_function": f"{QueuedTokens.__module__}:{QueuedTokens.__name__}",
        "policy_kwargs": {"target_tokens": scale.target_queued_tokens or TARGET_TOKENS},
    }
    bounds = {"min_replicas": scale.fewest, "max_replicas": scale.max_replicas}
    delays = {"upscale_delay_s": UPSCALE_S, "downscale_delay_s": DOWNSCALE_S}
    return {"autoscaling_config": {**bounds, **delays, "policy": policy}}


def placement(scale: Scale, spreads: bool) -> dict[str, Any]:
    """The machine's share that each replica gets: GPUs of one machine, or bundles that Ray may spread.

    vLLM takes one GPU from each bundle that it finds around it.
    """
    if not spreads:
        return {"ray_actor_options": {"num_cpus": scale.cpus_per_replica, "num_gpus": scale.gpus_per_replica}}
    if scale.gpus_per_replica < 1:
        raise InvalidParams("gpus_per_replica", "workers placed by Ray need gpus_per_replica, one GPU for each")
    first, others = {"CPU": scale.cpus_per_replica, "GPU": 1}, int(scale.gpus_per_replica) - 1
    return {
        "ray_actor_options": {"num_cpus": scale.cpus_per_replica, "num_gpus": 0},
        "placement_group_bundles": [first, *({"GPU": 1} for _ in range(others))],
        "placement_group_strategy": "PACK",
    }


def carried(settings: Settings) -> Settings:
    """Settings that mean the same on another machine: what a key file holds, and not its name."""
    if settings.key_file is None:
        return settings
    text = read_keys(revealed(settings.keys), settings.key_file).text()
    return settings.model_copy(update={"keys": SecretStr(text), "key_file": None})
