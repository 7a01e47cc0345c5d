"""`powercut plan`: how many GPUs so many requests a second need, and what binds."""

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sampler.effort import EFFORTS, effort_fields
from sampler.errors import InvalidParams
from sampler.methods import METHODS, POWER_METHODS, refuse_unused
from sampler.params import PlainParams, PowerParams
from service.capacity.cluster import Fleet, Work, make_plan
from service.capacity.hardware import GPUS, gpu_of
from service.capacity.jobs import CHECKPOINTED, Polling
from service.capacity.measured import behaviour
from service.capacity.replica import Efficiency, MeasuredStep
from service.capacity.report import as_json, show
from service.capacity.shape import BYTES, ModelShape, estimated, from_config
from service.capacity.tokens import Params
from service.engine_args import given_options
from service.options import one_clear_line

STEPS = {"acceptance", "remaining", "lost_after", "watch_interval"}
DATA_SHEET = {"active_params", "bandwidth_efficiency", "compute_efficiency", "step_overhead_s"}
COMPUTED_ANEW = {"prefix_hits", "overlap"}
REJECTION = {"acceptance", "lost_after", "watch_interval"}


def share(text: str) -> Any:
    """An option between 0 and 1."""
    return typer.Option(min=0.0, max=1.0, help=text)


def plan_capacity(
    context: typer.Context,
    gpus: Annotated[int, typer.Option(min=1, max=1_000_000, help="GPUs there are")],
    rps: Annotated[float, typer.Option(min=1e-6, max=1e7, help="requests a second")],
    model_params: Annotated[float | None, typer.Option(min=1e6, max=1e14, help="parameters, as 7e9")] = None,
    active_params: Annotated[float | None, typer.Option(min=1e6, max=1e14, help="those that work on one token")] = None,
    model_config: Annotated[Path | None, typer.Option(help="config.json of the model, or its folder")] = None,
    dtype: Annotated[str, typer.Option(help=f"of the weights: {', '.join(BYTES)}")] = "bf16",
    kv_dtype: Annotated[str, typer.Option(help="of keys and values")] = "bf16",
    gpu: Annotated[str, typer.Option(help=f"one of {', '.join(GPUS)}")] = "H100",
    tensor_parallel: Annotated[int | None, typer.Option(min=1, max=64, help="GPUs of a replica (best)")] = None,
    max_rows: Annotated[int, typer.Option(min=1, max=65536, help="rows of one replica at most")] = 1024,
    method: Annotated[str, typer.Option(help=f"one of {', '.join(METHODS)}")] = "entropy_cut",
    max_tokens: Annotated[int, typer.Option(help="longest answer, in tokens")] = 1024,
    blocks: Annotated[int, typer.Option(help="stages")] = 16,
    steps: Annotated[int, typer.Option(help="steps in each stage")] = 10,
    alpha: Annotated[float, typer.Option(help="power exponent; under 1 nothing is rejected early")] = 4.0,
    early_rejection: Annotated[bool, typer.Option(help="proposals stop once lost")] = True,
    memo_tree: Annotated[bool, typer.Option(help="known rows are free")] = True,
    particles: Annotated[int, typer.Option(help="of smc")] = 64,
    candidates: Annotated[int, typer.Option(help="of tmc")] = 8,
    rollouts: Annotated[int, typer.Option(help="of tmc")] = 8,
    rollout_tokens: Annotated[int | None, typer.Option(help="of tmc")] = None,
    tries: Annotated[int, typer.Option(help="of multiple_try")] = 4,
    samples: Annotated[int | None, typer.Option(help="of best_of_n")] = None,
    max_generated_tokens: Annotated[int | None, typer.Option(help="token budget of an answer")] = None,
    effort: Annotated[str | None, typer.Option(help=f"{', '.join(EFFORTS)}: sets what is not set here")] = None,
    answers: Annotated[int, typer.Option("--n", min=1, max=256, help="answers of a request")] = 1,
    prompt_tokens: Annotated[float, typer.Option(min=1, max=1e7, help="of a request, mean")] = 512.0,
    answer_tokens: Annotated[float | None, typer.Option(min=1, max=1e7, help="mean length (the longest)")] = None,
    acceptance: Annotated[float | None, share("accepted ÷ steps (default: measured)")] = None,
    remaining: Annotated[float | None, share("share of the trace behind the cut (default: measured)")] = None,
    lost_after: Annotated[
        float | None, typer.Option(min=0, max=1e7, help="tokens until one is lost (measured)")
    ] = None,
    watch_interval: Annotated[int, typer.Option(min=1, max=4096, help="tokens between two looks: vLLM's 4")] = 4,
    free_share: Annotated[
        float | None, typer.Option(min=0, max=0.99, help="free ÷ (free + drawn) tokens (default: measured)")
    ] = None,
    prefix_hits: Annotated[float, share("prefixes found in the engine's cache")] = 1.0,
    overlap: Annotated[float, typer.Option(min=0, max=4096, help="positions each call computes again")] = 8.0,
    latency_s: Annotated[float | None, typer.Option(min=1e-3, max=1e6, help="a request's own time at most")] = None,
    utilisation: Annotated[float, typer.Option(min=0.01, max=0.99, help="how busy replicas may be")] = 0.7,
    memory_share: Annotated[float, typer.Option(min=0.1, max=1.0, help="of a GPU's memory that is used")] = 0.9,
    bandwidth_efficiency: Annotated[float, typer.Option(min=0.01, max=1.0, help="share of the data sheet's")] = 0.7,
    compute_efficiency: Annotated[float, typer.Option(min=0.01, max=1.0, help="share of the data sheet's")] = 0.5,
    step_overhead_s: Annotated[float, typer.Option(min=0, max=10, help="fixed part of a step")] = 0.002,
    fixed_step_s: Annotated[float | None, typer.Option(min=0, max=100, help="measured, with --row-step-s")] = None,
    row_step_s: Annotated[float | None, typer.Option(min=0, max=100, help="measured: what a row adds")] = None,
    position_step_s: Annotated[
        float | None, typer.Option(min=1e-12, max=100, help="measured: what a position computed anew adds")
    ] = None,
    batch_share: Annotated[float, share("of the requests that are rows of batches")] = 0.0,
    batch_poll_s: Annotated[float, typer.Option(min=0.01, max=3600, help="setting of the servers")] = 1.0,
    lease_s: Annotated[float, typer.Option(min=0.1, max=3600, help="setting of the servers")] = 30.0,
    checkpoint_s: Annotated[float, typer.Option(min=0.001, max=3600, help="setting of the servers")] = 0.2,
    gpu_mtbf_hours: Annotated[float, typer.Option(min=1, max=1e9, help="hours between failures of one GPU")] = 50_000,
    restart_s: Annotated[float, typer.Option(min=0, max=86_400, help="until a lost replica is back")] = 300.0,
    as_json_text: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Plan GPUs: tokens a request draws, what a GPU gives, how many are needed, what binds. Exit code 1: too few."""
    with one_clear_line():
        check_types(dtype, kv_dtype)
        if method not in METHODS:
            raise InvalidParams("method", f"--method: unknown method {method!r}; choose one of {', '.join(METHODS)}")
        given = given_options(context)
        refuse_unused(method, given)
        rejects = early_rejection and alpha >= 1
        refuse_idle(method, given, rejects=rejects, memo_tree=memo_tree, batches=batch_share > 0)
        fields = {
            "alpha": alpha,
            "blocks": blocks,
            "steps_per_block": steps,
            "early_rejection": early_rejection,
            "memo_tree": memo_tree,
            "particles": particles,
            "candidates": candidates,
            "rollouts": rollouts,
            "rollout_tokens": rollout_tokens,
            "tries": tries,
            "samples": samples,
            "max_generated_tokens": max_generated_tokens,
        }
        params = params_of(method, max_tokens, fields, effort, given)
        if answer_tokens is not None and answer_tokens > max_tokens:
            raise InvalidParams("answer_tokens", f"--answer-tokens: at most --max-tokens, which is {max_tokens}")
        how = behaviour(method, params, answer_tokens, acceptance, remaining, lost_after, free_share, watch_interval)
        work = Work(method, params, how, answers, prompt_tokens, rps, batch_share, prefix_hits, overlap, latency_s)
        fleet = Fleet(
            shape_of(model_params, active_params, model_config),
            gpu_of(gpu),
            gpus,
            dtype,
            kv_dtype,
            tensor_parallel,
            max_rows,
            utilisation,
            Efficiency(memory_share, bandwidth_efficiency, compute_efficiency, step_overhead_s),
            measured_step(fixed_step_s, row_step_s, position_step_s),
            gpu_mtbf_hours,
            restart_s,
        )
    try:
        plan = make_plan(work, fleet, Polling(batch_poll_s, lease_s, checkpoint_s))
    except InvalidParams as error:
        typer.echo(json.dumps({"suffices": False, "reason": str(error)}) if as_json_text else f"powercut: {error}")
        raise typer.Exit(1) from None
    if as_json_text:
        typer.echo(json.dumps(as_json(work, fleet, plan), allow_nan=False))
    else:
        show(work, fleet, plan, Console())
    if not plan.suffices:
        raise typer.Exit(1)


def check_types(*dtypes: str) -> None:
    """Raise `InvalidParams` for a type that is not known."""
    for dtype in dtypes:
        if dtype not in BYTES:
            raise InvalidParams(
                "dtype", f"--dtype, --kv-dtype: unknown type {dtype!r}; choose one of {', '.join(BYTES)}"
            )


def refuse_idle(method: str, given: dict[str, str], *, rejects: bool, memo_tree: bool, batches: bool) -> None:
    """Raise `InvalidParams` for an option that would say nothing here, as the model is asked."""
    idle: dict[str, str] = {}
    if not rejects:
        idle |= dict.fromkeys(REJECTION, "nothing is rejected early")
    if "steps_per_block" not in METHODS[method].fields:
        idle |= dict.fromkeys(STEPS, f"the method {method} makes no steps")
    if not memo_tree or method == "standard":
        idle["free_share"] = "there is no memo tree"
    if "fixed_step_s" in given:
        idle |= dict.fromkeys(DATA_SHEET, "the step was measured")
        if "position_step_s" not in given:
            idle |= dict.fromkeys(COMPUTED_ANEW, "the step was measured without --position-step-s")
    if method not in CHECKPOINTED:
        idle["checkpoint_s"] = f"the method {method} saves no stages"
    if not batches:
        idle["checkpoint_s"] = "there are no batches"
    for name in given.keys() & idle.keys():
        raise InvalidParams(name, f"{given[name]}: {idle[name]}")


def params_of(
    method: str, max_tokens: int, fields: dict[str, Any], effort: str | None, given: dict[str, str]
) -> Params:
    """The method's parameters; `effort` sets what was not given."""
    if method not in POWER_METHODS:
        if effort is not None:
            raise InvalidParams("effort", f"--effort: the method {method} does not use it")
        return PlainParams(max_tokens)
    preset = {} if effort is None else effort_fields(effort, method, METHODS[method].fields)
    return PowerParams(max_tokens, **{**fields, **{name: value for name, value in preset.items() if name not in given}})


def shape_of(params: float | None, active: float | None, config: Path | None) -> ModelShape:
    """The model's size from what was given of it."""
    if active is not None and (params is None or active > params):
        raise InvalidParams("active_params", "--active-params: a part of --model-params, which must be given")
    if config is not None:
        return from_config(config, params, active)
    if params is None:
        raise InvalidParams("model_params", "say how large the model is: --model-params 7e9, or --model-config FILE")
    return estimated(params, active)


def measured_step(fixed_s: float | None, row_s: float | None, position_s: float | None) -> MeasuredStep | None:
    """Measured times of a step: the first two or none, and what a position computed anew adds if that is known."""
    if (fixed_s is None) != (row_s is None):
        raise InvalidParams("fixed_step_s", "--fixed-step-s and --row-step-s: give both or none")
    if fixed_s is None or row_s is None:
        if position_s is not None:
            raise InvalidParams("position_step_s", "--position-step-s: goes with --fixed-step-s and --row-step-s")
        return None
    if math.isclose(fixed_s + row_s, 0.0):
        raise InvalidParams("fixed_step_s", "--fixed-step-s and --row-step-s: a step takes some time")
    return MeasuredStep(fixed_s, row_s, position_s or 0.0)
