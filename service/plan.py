"""From a request to what will run: the method, its parameters, the prompts' ids and the seeds."""

import secrets
from dataclasses import dataclass
from typing import Any, Protocol

from sampler.engine import Engine, check_context
from sampler.params import PlainParams, PowerParams
from sampler.tokenizer import Tokenizer
from service.api.power import PowerOptions, choose_method, plain_params, power_params, split_model
from service.prompts import encode_prompts
from service.settings import Settings


class Asked(Protocol):
    """The fields that completions and chat share."""

    model: str
    prompt: Any
    max_tokens: int
    temperature: float | None
    top_p: float | None
    n: int
    seed: int | None
    logprobs: int | None
    power: PowerOptions | None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """A valid request: what will run."""

    method: str
    params: PowerParams | PlainParams
    prompts: list[tuple[int, ...]]
    seeds: list[int]
    n: int
    logprobs: int | None
    include: frozenset[str]
    tokenizer: Tokenizer
    seeded: bool

    @property
    def is_power(self) -> bool:
        """Whether a power method runs."""
        return isinstance(self.params, PowerParams)

    @property
    def wants_diagnostics(self) -> bool:
        """Whether chains are to be diagnosed."""
        return "diagnostics" in self.include


async def make_plan(asked: Asked, engine: Engine, settings: Settings) -> Plan:
    """Check a request against the model and the limits; raises what the caller should hear."""
    method = choose_method(split_model(asked.model, engine.info.model), asked.power)
    params = choose_params(method, asked, engine.info.vocabulary)
    prompts = await encode_prompts(asked.prompt, asked.n, engine, settings)
    for ids in prompts:
        check_context(len(ids), params.max_tokens, engine.info)
    # One seed means the same answer to the same prompt; without one, equal prompts get different answers.
    seeds = [secrets.randbits(63) if asked.seed is None else asked.seed for _ in prompts]
    return Plan(
        method,
        params,
        prompts,
        seeds,
        asked.n,
        asked.logprobs,
        frozenset[str](asked.power.include if asked.power is not None else ()),
        engine.tokenizer,
        seeded=asked.seed is not None,
    )


def choose_params(method: str, asked: Asked, vocabulary: int) -> PowerParams | PlainParams:
    """The method's parameters, from the plain fields and the `power` object."""
    if method == "standard":
        return plain_params(asked.max_tokens, asked.temperature, asked.top_p, asked.stops)
    options = asked.power or PowerOptions.model_validate({})
    return power_params(method, options, asked.max_tokens, asked.temperature, asked.top_p, asked.stops, vocabulary)
