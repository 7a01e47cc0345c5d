"""From a request to what will run: the method, its parameters, the prompts' ids and the seeds."""

import secrets
from dataclasses import dataclass
from typing import Any, Protocol

from sampler.engine import Engine, check_context
from sampler.methods import METHODS
from sampler.params import PlainParams, PowerParams
from sampler.tokenizer import Tokenizer
from service.admission import Admission, Ticket
from service.api.power import PowerOptions, choose_method, plain_params, power_params, split_model
from service.call import Call
from service.errors import ApiError
from service.prompts import encode_prompts, list_prompts
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
    call: Call
    ticket: Ticket
    """The request's place, taken before its prompts were encoded; whoever has the plan gives it back."""

    @property
    def is_power(self) -> bool:
        """Whether a power method runs."""
        return isinstance(self.params, PowerParams)

    @property
    def wants_diagnostics(self) -> bool:
        """Whether chains are to be diagnosed."""
        return "diagnostics" in self.include


async def make_plan(asked: Asked, engine: Engine, settings: Settings, admission: Admission, call: Call) -> Plan:
    """Check a request against the model and the limits, and take a place; raises what the caller should hear."""
    method = choose_method(split_model(asked.model, engine.info.model), asked.power)
    params = choose_params(method, asked, engine.info.vocabulary)
    given = list_prompts(asked.prompt, asked.n, settings)
    check_deadline(params, call)
    call.facts |= {"model": engine.info.model, "method": method}
    ticket = admission.enter(call.key, worst_case_tokens(method, params, given, asked.n), call.priority)
    call.at_end(ticket.release)
    try:
        return await _encoded(asked, method, params, given, engine, call, ticket)
    except BaseException:
        ticket.release()
        raise


async def _encoded(
    asked: Asked,
    method: str,
    params: PowerParams | PlainParams,
    given: list[str | list[int]],
    engine: Engine,
    call: Call,
    ticket: Ticket,
) -> Plan:
    prompts = await encode_prompts(given, engine)
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
        call=call,
        ticket=ticket,
    )


def worst_case_tokens(method: str, params: PowerParams | PlainParams, prompts: list[str | list[int]], n: int) -> int:
    """What a request counts for: the tokens that its answers may draw, and its prompts by their length as given."""
    return len(prompts) * n * METHODS[method].worst_case_tokens(params) + sum(map(len, prompts))


def check_deadline(params: PowerParams | PlainParams, call: Call) -> None:
    """Refuse a deadline that the server's own would come before: a client may shorten it, never lengthen."""
    asked = params.deadline_s if isinstance(params, PowerParams) else None
    if asked is not None and call.timeout_s is not None and asked > call.timeout_s:
        message = f"power.deadline_s: must be at most {call.timeout_s:g} here, the server's request_timeout_s"
        raise ApiError(422, message, param="power.deadline_s")


def choose_params(method: str, asked: Asked, vocabulary: int) -> PowerParams | PlainParams:
    """The method's parameters, from the plain fields and the `power` object."""
    if method == "standard":
        return plain_params(asked.max_tokens, asked.temperature, asked.top_p, asked.stops)
    options = asked.power or PowerOptions.model_validate({})
    return power_params(method, options, asked.max_tokens, asked.temperature, asked.top_p, asked.stops, vocabulary)
