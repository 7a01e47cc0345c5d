"""The typed `power` object, and how it, a model alias and the plain fields become parameters."""

from typing import Annotated, Any, Literal

from pydantic import Field

from sampler.effort import Effort, effort_fields
from sampler.methods import METHODS, POWER_METHODS, refuse_unused
from sampler.paper import refuse_savings
from sampler.params import LIMITS, Mode, PlainParams, PowerParams
from service.api.schema import RequestModel
from service.errors import ApiError

ALPHA_MIN = 1.0
"""Smallest `power.alpha`; down to 0.5 goes through `temperature` alone, where it is plain that nothing is sharpened."""


def limits(name: str) -> Any:
    """A field's bounds, as the sampler has them."""
    low, high = LIMITS[name]
    return Field(ge=low, le=high, allow_inf_nan=False) if isinstance(low, float) else Field(ge=low, le=high)


class PowerOptions(RequestModel):
    """Power sampling as asked for: draws from p(x)^α instead of p(x). Every field is optional."""

    method: str | None = Field(default=None, max_length=64, json_schema_extra={"enum": [*POWER_METHODS, None]})
    """which method answers; without it the one that the model alias names, else entropy_cut"""
    alpha: Annotated[float | None, Field(ge=ALPHA_MIN, le=LIMITS["alpha"][1], allow_inf_nan=False)] = None
    """the power exponent: draws are from p(x)^alpha; 4, or 1 / temperature where that is given"""
    cut_power: Annotated[float, Field(ge=LIMITS["cut_power"][0], le=LIMITS["cut_power"][1], allow_inf_nan=False)] = 4.0
    """of entropy_cut and multiple_try: how sharply cuts prefer large jumps of entropy; 0 cuts uniformly"""
    blocks: Annotated[int, Field(ge=LIMITS["blocks"][0], le=LIMITS["blocks"][1])] = 16
    """stages; each lets the answer grow by an equal part of max_tokens"""
    steps_per_block: Annotated[int, Field(ge=LIMITS["steps_per_block"][0], le=LIMITS["steps_per_block"][1])] = 10
    """Metropolis-Hastings steps in each stage"""
    mode: Mode = "exact"
    """paper is the released code's chain, for comparison with published tables; it is not exact"""
    top_k: Annotated[int | None, Field(ge=LIMITS["top_k"][0], le=LIMITS["top_k"][1])] = 50
    """each token is drawn from so many likeliest ones; null for the whole vocabulary"""
    early_rejection: bool = True
    """stop a proposal once it is lost: the same answer for fewer tokens"""
    memo_tree: bool = True
    """draw from rows already known at no cost: the same answer for fewer tokens"""
    prefetch: bool = True
    """draw later steps ahead into idle rows: the same answer sooner, for more tokens"""
    deadline_s: Annotated[float | None, Field(ge=LIMITS["deadline_s"][0], le=LIMITS["deadline_s"][1])] = None
    """seconds until the answer is returned as it is; one cut off so is no draw from the method's law"""
    max_generated_tokens: Annotated[int | None, Field(ge=1, le=LIMITS["max_generated_tokens"][1])] = None
    """tokens that each answer may draw, rejected ones included; one cut off so is no draw from the law"""
    particles: Annotated[int, limits("particles")] = 64
    """of smc: how many particles"""
    ess_threshold: Annotated[float, limits("ess_threshold")] = 0.5
    """of smc: resample where the effective sample size falls below this share of the particles"""
    ramp_tokens: Annotated[int, limits("ramp_tokens")] = 0
    """of smc: let the exponent grow from 1 to alpha over so many tokens; 0 for no ramp"""
    candidates: Annotated[int, limits("candidates")] = 8
    """of tmc: blocks drawn at each stage"""
    rollouts: Annotated[int, limits("rollouts")] = 8
    """of tmc: futures drawn of each candidate"""
    rollout_tokens: Annotated[int | None, limits("rollout_tokens")] = None
    """of tmc: the futures' length; null for to the end"""
    tries: Annotated[int, limits("tries")] = 4
    """of multiple_try: suffixes drawn at one cut"""
    samples: Annotated[int | None, limits("samples")] = None
    """of best_of_n: how many draws; null for as many as max_generated_tokens buys, or 8"""
    stop_when_frozen: Annotated[int | None, limits("stop_when_frozen")] = None
    """stop after so many steps without a move; biases the answer"""
    effort: Effort | None = None
    """sets the fields that say how much is spent; a field given beside it wins"""
    include: list[Literal["chain", "diagnostics", "tokens"]] = Field(default=[], max_length=8, fail_fast=True)
    """what the reply shall have more: every step (chain), whether the chain has mixed (diagnostics), and with
    stream_events every token drawn (tokens)"""
    stream_events: bool = False
    """with stream: tell every step while the chain runs"""


def split_model(name: str, served: str) -> str | None:
    """The method of a model alias `<model>:<method>`, None for the plain name; 404 for any other model."""
    if name == served:
        return None
    base, _, method = name.rpartition(":")
    if base == served and method in METHODS:
        return method
    raise ApiError(
        404, f"the model {name!r} does not exist; GET /v1/models lists them", param="model", code="model_not_found"
    )


def choose_method(alias: str | None, options: PowerOptions | None) -> str:
    """The method asked for by the alias and the `power` object together."""
    asked = options.method if options else None
    if asked is not None and asked not in POWER_METHODS:
        known = ", ".join(POWER_METHODS)
        raise ApiError(422, f"power.method: unknown method {asked!r}; choose one of {known}", param="power.method")
    if alias is None:
        return asked or ("entropy_cut" if options is not None else "standard")
    if (asked is not None and asked != alias) or (alias == "standard" and options is not None):
        raise ApiError(422, f"power.method contradicts the model alias, which asks for {alias}", param="power.method")
    return alias


def power_params(
    method: str,
    options: PowerOptions,
    max_tokens: int,
    temperature: float | None,
    top_p: float | None,
    stop: tuple[str, ...],
    vocabulary: int,
) -> PowerParams:
    """`PowerParams` of a request; α is `power.alpha`, or 1 / temperature, or 4."""
    given = options.model_fields_set - {"method"}
    refuse_unused(method, {name: f"power.{name}" for name in type(options).model_fields if name in given})
    if top_p is not None and top_p != 1.0:
        raise ApiError(422, "top_p: power sampling takes power.top_k as its support, not top_p", param="top_p")
    if options.effort is not None:
        preset = effort_fields(options.effort, method, METHODS[method].fields, "power.effort")
        options = options.model_copy(update={name: value for name, value in preset.items() if name not in given})
    if options.mode == "paper":
        refuse_savings({name: f"power.{name}" for name in given if getattr(options, name) is True})
    return PowerParams(
        max_tokens=max_tokens,
        alpha=choose_alpha(options.alpha, temperature),
        cut_power=options.cut_power,
        blocks=options.blocks,
        steps_per_block=options.steps_per_block,
        top_k=min(options.top_k, vocabulary) if options.top_k is not None else None,
        mode=options.mode,
        early_rejection=options.early_rejection,
        memo_tree=options.memo_tree,
        prefetch=options.prefetch,
        stop=stop,
        deadline_s=options.deadline_s,
        max_generated_tokens=options.max_generated_tokens,
        particles=options.particles,
        ess_threshold=options.ess_threshold,
        ramp_tokens=options.ramp_tokens,
        candidates=options.candidates,
        rollouts=options.rollouts,
        rollout_tokens=options.rollout_tokens,
        tries=options.tries,
        samples=options.samples,
        stop_when_frozen=options.stop_when_frozen,
    )


def choose_alpha(alpha: float | None, temperature: float | None) -> float:
    """α from `power.alpha` or the sequence-level temperature, which must not contradict each other."""
    if temperature is None:
        return 4.0 if alpha is None else alpha
    if temperature == 0:
        message = "temperature: 0 has no power distribution; leave it out and give power.alpha (up to 100) instead"
        raise ApiError(422, message, param="temperature")
    if not 1 / LIMITS["alpha"][1] <= temperature:
        raise ApiError(
            422, "temperature: with a power method at least 0.01 (alpha = 1 / temperature)", param="temperature"
        )
    if alpha is not None and abs(alpha * temperature - 1) > 1e-6:
        message = (
            f"temperature: {temperature:g} means alpha = {1 / temperature:g} and contradicts power.alpha = {alpha:g}"
        )
        raise ApiError(422, message, param="temperature")
    return 1 / temperature if alpha is None else alpha


def plain_params(max_tokens: int, temperature: float | None, top_p: float | None, stop: tuple[str, ...]) -> PlainParams:
    """`PlainParams` of a request, with OpenAI's defaults."""
    return PlainParams(
        max_tokens,
        1.0 if temperature is None else temperature,
        1.0 if top_p is None else top_p,
        stop=stop,
    )
