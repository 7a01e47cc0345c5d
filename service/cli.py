"""The `powercut` command: serve a model, or sample one prompt from the shell."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sampler.answer import Answer
from sampler.effort import EFFORTS, effort_fields
from sampler.engine import Engine, load_engine
from sampler.errors import ContextExceeded, InvalidParams
from sampler.events import Event, Extended, Stepped
from sampler.methods import METHODS, POWER_METHODS, refuse_unused
from sampler.methods.job import Job
from sampler.paper import refuse_savings
from sampler.params import Mode, PlainParams, PowerParams
from sampler.tree import MemoTree
from service.analyse_command import analyse
from service.app import create_app
from service.batch_command import batch_app
from service.check_command import check_engine
from service.console import show, show_all
from service.engine_args import given_options
from service.jobs.store import Store
from service.key_command import make_key, refuse_open_door
from service.options import (
    PASS_THROUGH,
    ApiKey,
    Device,
    DType,
    EngineName,
    EosIds,
    KVBytes,
    MaxRows,
    ModelName,
    TokenizerName,
    Urls,
    Version,
    engine_options,
    one_clear_line,
)
from service.plan_command import plan_capacity
from service.recording import check_place, write_page
from service.render import answer_text
from service.replicas.command import serve_on_ray
from service.replicas.options import (
    CpusEach,
    GpusEach,
    MaxReplicas,
    MinReplicas,
    OnRay,
    RayAddress,
    Replicas,
    TargetTokens,
    refuse_without_ray,
    scale_from,
)
from service.seed import drawn_seed
from service.server import leaving_at_sigterm, serve_app
from service.settings import settings_from
from service.settings_options import with_settings

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Reasoning out of a base model by power sampling.")

app.command("self-check", context_settings=PASS_THROUGH)(check_engine)
app.command("analyse")(analyse)
app.command("key")(make_key)
app.command("plan")(plan_capacity)
app.add_typer(batch_app, name="batch")


@app.callback()
def powercut(version: Version = False) -> None:
    """What `powercut` takes before a command's name."""


@app.command(context_settings=PASS_THROUGH)
@with_settings
def serve(
    context: typer.Context,
    settings: dict[str, Any],
    engine: EngineName = "transformers",
    model: ModelName = None,
    served_model_name: Annotated[str | None, typer.Option(help="the model's id over HTTP")] = None,
    dtype: DType = None,
    device: Device = None,
    max_rows: MaxRows = None,
    kv_cache_bytes: KVBytes = None,
    url: Urls = None,
    api_key: ApiKey = None,
    tokenizer: TokenizerName = None,
    eos_ids: EosIds = None,
    ray: OnRay = False,
    ray_address: RayAddress = None,
    replicas: Replicas = None,
    min_replicas: MinReplicas = None,
    max_replicas: MaxReplicas = None,
    target_queued_tokens: TargetTokens = None,
    cpus_per_replica: CpusEach = None,
    gpus_per_replica: GpusEach = None,
) -> None:
    """Serve a model over HTTP in OpenAI's shapes. Any other --option goes to the vllm engine as vLLM's own."""
    scale = {
        "replicas": replicas,
        "min_replicas": min_replicas,
        "max_replicas": max_replicas,
        "target_queued_tokens": target_queued_tokens,
        "cpus_per_replica": cpus_per_replica,
        "gpus_per_replica": gpus_per_replica,
    }
    with one_clear_line():
        chosen = settings_from(settings)
        refuse_open_door(chosen)
        Store(chosen).close()  # a wrong database_url is said before a model is loaded
        options = engine_options(
            context,
            model,
            dtype,
            device,
            url,
            api_key,
            tokenizer,
            eos_ids,
            served_model_name,
            max_rows,
            kv_cache_bytes,
        )
        if ray:
            sys.exit(serve_on_ray(engine, options, chosen, scale_from(scale), ray_address))
        refuse_without_ray({"ray_address": ray_address, **scale})
    with leaving_at_sigterm():
        with one_clear_line():
            loaded = load_engine(engine, options)
        info, address = loaded.info, f"http://{chosen.host}:{chosen.port}"
        typer.echo(f"powercut: {info.model} on the {info.name} engine {dict(info.details)}, at {address}")
        sys.exit(serve_app(create_app(loaded, chosen), chosen))


@app.command(context_settings=PASS_THROUGH)
def sample(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help="the prompt, as the base model should see it")],
    engine: EngineName = "transformers",
    model: ModelName = None,
    method: Annotated[str, typer.Option(help=f"one of {', '.join(METHODS)}")] = "entropy_cut",
    max_tokens: Annotated[int, typer.Option(help="longest answer, in tokens")] = 64,
    alpha: Annotated[float, typer.Option(help="power exponent")] = 4.0,
    cut_power: Annotated[float, typer.Option(help="exponent of the entropy jumps")] = 4.0,
    blocks: Annotated[int, typer.Option(help="stages")] = 4,
    steps: Annotated[int, typer.Option(help="Metropolis-Hastings steps in each stage")] = 10,
    top_k: Annotated[int, typer.Option(help="support of the k likeliest tokens; 0 = the whole vocabulary")] = 50,
    temperature: Annotated[float, typer.Option(help="of the method standard")] = 1.0,
    mode: Annotated[str, typer.Option(help="exact, or paper: the released code's chain, not exact")] = "exact",
    early_rejection: Annotated[bool, typer.Option(help="stop a proposal once it is lost")] = True,
    memo_tree: Annotated[bool, typer.Option(help="draw from rows already known for free")] = True,
    prefetch: Annotated[bool, typer.Option(help="draw later steps ahead: more tokens, less time")] = True,
    particles: Annotated[int, typer.Option(help="of smc")] = 64,
    ess_threshold: Annotated[float, typer.Option(help="of smc: resample below this share of the particles")] = 0.5,
    ramp_tokens: Annotated[int, typer.Option(help="of smc: let alpha grow from 1 over so many tokens")] = 0,
    candidates: Annotated[int, typer.Option(help="of tmc: blocks drawn at each stage")] = 8,
    rollouts: Annotated[int, typer.Option(help="of tmc: futures drawn of each block")] = 8,
    rollout_tokens: Annotated[int | None, typer.Option(help="of tmc: their length (default: to the end)")] = None,
    tries: Annotated[int, typer.Option(help="of multiple_try: suffixes at one cut")] = 4,
    samples: Annotated[int | None, typer.Option(help="of best_of_n (default: what the budget buys, or 8)")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="stop string; may be repeated")] = None,
    max_generated_tokens: Annotated[int | None, typer.Option(help="stop after so many tokens drawn")] = None,
    deadline_s: Annotated[float | None, typer.Option(help="stop after so many seconds")] = None,
    stop_when_frozen: Annotated[int | None, typer.Option(help="stop after so many steps without a move")] = None,
    effort: Annotated[str | None, typer.Option(help=f"{', '.join(EFFORTS)}: sets what is not set here")] = None,
    chains: Annotated[int, typer.Option(min=1, max=256, help="answers; their chains are compared")] = 1,
    seed: Annotated[int | None, typer.Option(help="fixes every draw")] = None,
    dtype: DType = None,
    device: Device = None,
    url: Urls = None,
    api_key: ApiKey = None,
    tokenizer: TokenizerName = None,
    eos_ids: EosIds = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
    html: Annotated[Path | None, typer.Option(help="write the chain explorer's page of this run to a file")] = None,
) -> None:
    """Sample an answer, watch its chain, and see what it cost. Any other --option goes to the vllm engine."""
    stops = tuple(stop or ())
    with one_clear_line():
        check_call(method, seed, prompt, *stops)
        given = given_options(context)
        refuse_unused(method, given)
        if html is not None:
            check_place(html)
        if mode == "paper":
            switches = {"early_rejection": early_rejection, "memo_tree": memo_tree}
            refuse_savings({name: given[name] for name, on in switches.items() if on and name in given})
        params: PowerParams | PlainParams = (
            PowerParams(
                max_tokens,
                alpha,
                cut_power,
                blocks,
                steps,
                top_k or None,
                cast(Mode, mode),
                early_rejection=early_rejection,
                memo_tree=memo_tree,
                prefetch=prefetch,
                stop=stops,
                deadline_s=deadline_s,
                max_generated_tokens=max_generated_tokens,
                particles=particles,
                ess_threshold=ess_threshold,
                ramp_tokens=ramp_tokens,
                candidates=candidates,
                rollouts=rollouts,
                rollout_tokens=rollout_tokens,
                tries=tries,
                samples=samples,
                stop_when_frozen=stop_when_frozen,
            )
            if method in POWER_METHODS
            else PlainParams(max_tokens, temperature, top_k=(top_k or None) if "top_k" in given else None, stop=stops)
        )
        if effort is not None:
            preset = effort_fields(effort, method, METHODS[method].fields)
            params = replace(params, **{name: value for name, value in preset.items() if name not in given})
        options = engine_options(context, model, dtype, device, url, api_key, tokenizer, eos_ids)
        loaded = load_engine(engine, options)
        seed = drawn_seed() if seed is None else seed
        found = asyncio.run(run_all(loaded, prompt, method, params, seed, chains, quiet=as_json, tell=html is not None))
    texts = [answer_text(answer, loaded.tokenizer, stops) for answer, _ in found]
    if chains == 1:
        show(found[0][0], texts[0], params, as_json)
    else:
        show_all(found, texts, params, as_json)
    if html is not None and isinstance(params, PowerParams):
        with one_clear_line():  # last, since a full disk must not lose the answer
            write_page(html, found, prompt, params, loaded)


def check_call(method: str, seed: int | None, *texts: str) -> None:
    """Raise `InvalidParams` for what the parameters and the engine do not see."""
    if method not in METHODS:
        raise InvalidParams("method", f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
    if seed is not None and not -(1 << 63) <= seed < 1 << 63:
        raise InvalidParams("seed", "seed must fit into 64 bits with a sign")
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidParams("prompt", "the prompt and the stop strings must be UTF-8") from None


async def run_all(
    engine: Engine,
    prompt: str,
    method: str,
    params: PowerParams | PlainParams,
    seed: int,
    chains: int,
    *,
    quiet: bool,
    tell: bool = False,
) -> list[tuple[Answer, list[Event]]]:
    """The chains' answers and events, with a progress line on standard error; `tell` keeps tokens' statistics too."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    console = Console(stderr=True, quiet=quiet)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("drawing the first tokens", total=None)
        accepted = steps = 0

        def follow(event: Event, events: list[Event]) -> None:
            nonlocal accepted, steps
            events.append(event)
            if isinstance(event, Stepped):
                steps, accepted = steps + 1, accepted + event.accepted
            progress.update(task, description=describe(event, accepted, steps))

        ids = tuple(engine.tokenizer.encode(prompt))
        if len(ids) + params.max_tokens > engine.info.context:
            message = f"{len(ids)} prompt tokens and {params.max_tokens} more do not fit the context of "
            raise ContextExceeded("max_tokens", f"{message}{engine.info.context}")
        tree = MemoTree()

        async def run(chain: int) -> tuple[Answer, list[Event]]:
            events: list[Event] = []
            job = Job(
                engine,
                ids,
                params,
                seed,
                chain,
                emit=lambda event: follow(event, events),
                tree=tree,
                tell_statistics=tell,
            )
            return await METHODS[method](job), events

        try:
            return list(await asyncio.gather(*map(run, range(chains))))
        finally:
            await engine.aclose()


def describe(event: Event, accepted: int, steps: int) -> str:
    """The progress line."""
    rate = f", accepted {accepted}/{steps}" if steps else ""
    step = "extended" if isinstance(event, Extended) else f"step {event.step}"
    return f"stage {event.stage}/{event.stages}, {step}{rate}, {event.generated_tokens} tokens drawn"


def main() -> None:
    """The console script."""
    sys.exit(app())
