"""From a request to what will run: the method, its parameters, the prompts' ids and the seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sampler.engine import Engine, EngineInfo, check_context
from sampler.errors import ContextExceeded
from sampler.methods import METHODS
from sampler.params import LIMITS, PlainParams, PowerParams
from sampler.tokenizer import Tokenizer
from service.admission import Admission, Ticket
from service.api.power import PowerOptions, choose_method, plain_params, power_params, split_model
from service.call import Call
from service.errors import ApiError
from service.patience import Patience
from service.prompts import Ask, check_sizes, encode_prompts, length_of, prompt_text
from service.seed import drawn_seed
from service.settings import Settings


class Asked(Protocol):
    """What completions and chat share."""

    model: str
    temperature: float | None
    top_p: float | None
    n: int
    seed: int | None
    stream: bool
    user: str | None
    power: PowerOptions | None

    @property
    def max_tokens(self) -> int | None:
        """The longest answer; None for the room that is left."""
        ...

    @property
    def asks(self) -> list[Ask]:
        """What is to be continued."""
        ...

    @property
    def echo(self) -> bool:
        """Whether the reply begins with the prompt."""
        ...

    @property
    def alternatives(self) -> int | None:
        """How many alternatives to show of each token; None for no log-probabilities."""
        ...

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        ...

    def check(self) -> None:
        """Refuse fields that contradict each other."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """A valid request: what will run. `echo` holds the prompts' texts if the reply begins with them."""

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
    echo: tuple[str, ...] | None = None
    draws: bool = True
    """False where only the prompt is scored: `max_tokens: 0`."""
    stream: bool = False
    stream_events: bool = False

    @property
    def is_power(self) -> bool:
        """Whether a power method runs."""
        return isinstance(self.params, PowerParams)

    @property
    def wants_diagnostics(self) -> bool:
        """Whether chains are to be diagnosed."""
        return "diagnostics" in self.include

    @property
    def keeps_events(self) -> bool:
        """Whether the reply says what its chains did."""
        return bool(self.include & {"chain", "diagnostics"})

    @property
    def scores_prompts(self) -> bool:
        """Whether the prompts' own log-probabilities are wanted."""
        return self.echo is not None and self.logprobs is not None

    @property
    def is_live(self) -> bool:
        """Whether text is sent as it is drawn. Log-probabilities come with the whole answer."""
        return self.stream and not self.is_power and self.logprobs is None


async def make_plan(asked: Asked, engine: Engine, settings: Settings, admission: Admission, call: Call) -> Plan:
    """Check a request against the model and the limits, and take a place; raises what the caller should hear."""
    asked.check()
    method = choose_method(split_model(asked.model, engine.info.model), asked.power)
    if asked.echo and asked.alternatives is not None and not engine.info.scores:
        raise ApiError(422, f"echo: the {engine.info.name} engine cannot score a prompt for logprobs", param="echo")
    longest = engine.info.context - 1 if asked.max_tokens is None else asked.max_tokens
    longest = min(longest, int(LIMITS["max_tokens"][1]))
    params = choose_params(method, asked, longest, engine.info.vocabulary)  # what is wrong is said before any work
    check_deadline(params, call)
    check_sizes(asked.asks, asked.n, settings)
    if not asked.stream and asked.power is not None and asked.power.stream_events:
        raise ApiError(422, "power.stream_events: only with stream: true", param="power.stream_events")
    if asked.power is not None and "tokens" in asked.power.include and not asked.power.stream_events:
        raise ApiError(422, "power.include: tokens only with power.stream_events", param="power.include")
    call.facts |= {"model": engine.info.model, "method": method} | ({"user": asked.user} if asked.user else {})
    ticket = admission.enter(call.key, worst_case_tokens(method, params, asked), call.priority)
    call.at_end(ticket.release)
    try:
        return await Patience(call, None).wait(_encoded(asked, method, engine, settings, call, ticket))
    except BaseException:
        ticket.release()
        raise


async def _encoded(asked: Asked, method: str, engine: Engine, settings: Settings, call: Call, ticket: Ticket) -> Plan:
    prompts = await encode_prompts(asked.asks, engine)
    max_tokens = room_left(prompts, engine.info) if asked.max_tokens is None else asked.max_tokens
    for ids in prompts:
        check_context(len(ids), max_tokens, engine.info)
    echo = [await prompt_text(*each, engine) for each in zip(asked.asks, prompts, strict=True)] if asked.echo else None
    params = choose_params(method, asked, max_tokens, engine.info.vocabulary)
    include = frozenset[str](asked.power.include if asked.power is not None else ())
    if "chain" in include:
        check_detail(params, len(prompts) * asked.n, settings)
    # One seed means the same answer to the same prompt; without one, equal prompts get different answers.
    seeds = [drawn_seed() if asked.seed is None else asked.seed for _ in prompts]
    return Plan(
        method,
        params,
        prompts,
        seeds,
        asked.n,
        asked.alternatives,
        include,
        engine.tokenizer,
        seeded=asked.seed is not None,
        call=call,
        ticket=ticket,
        echo=None if echo is None else tuple(echo),
        draws=max_tokens > 0,
        stream=asked.stream,
        stream_events=asked.power is not None and asked.power.stream_events,
    )


def worst_case_tokens(method: str, params: PowerParams | PlainParams, asked: Asked) -> int:
    """What a request counts for: the tokens that its answers may draw, and its prompts by their length as given."""
    drawn = METHODS[method].worst_case_tokens(params) if asked.max_tokens != 0 else 0
    return len(asked.asks) * asked.n * drawn + sum(map(length_of, asked.asks))


def check_deadline(params: PowerParams | PlainParams, call: Call) -> None:
    """Refuse a deadline that the server's own would come before: a client may shorten it, never lengthen."""
    asked = params.deadline_s if isinstance(params, PowerParams) else None
    if asked is not None and call.timeout_s is not None and asked > call.timeout_s:
        message = f"power.deadline_s: must be at most {call.timeout_s:g} here, the server's request_timeout_s"
        raise ApiError(422, message, param="power.deadline_s")


def room_left(prompts: Sequence[tuple[int, ...]], info: EngineInfo) -> int:
    """The longest answer that fits after every prompt."""
    longest = max(len(ids) for ids in prompts)
    if longest >= info.context:
        message = f"the prompt has {longest} tokens and leaves no room for an answer: the context is {info.context}"
        raise ContextExceeded("messages", f"{message} tokens")
    return min(info.context - longest, int(LIMITS["max_tokens"][1]))


def check_detail(params: PowerParams | PlainParams, answers: int, settings: Settings) -> None:
    """Refuse to list more proposals than a reply should hold; a stream tells them one by one."""
    tokens = answers * params.worst_case_tokens if isinstance(params, PowerParams) else 0
    if tokens > settings.max_chain_tokens:
        message = (
            f"power.include: chain could list {tokens} tokens, and at most {settings.max_chain_tokens} are listed in "
            "one reply; ask for fewer, or stream with power.stream_events"
        )
        raise ApiError(422, message, param="power.include")


def choose_params(method: str, asked: Asked, max_tokens: int, vocabulary: int) -> PowerParams | PlainParams:
    """The method's parameters, from the plain fields and the `power` object."""
    if method == "standard":  # scoring alone draws nothing, but has the parameters of a draw
        return plain_params(max(1, max_tokens), asked.temperature, asked.top_p, asked.stops)
    options = asked.power or PowerOptions.model_validate({})
    return power_params(method, options, max_tokens, asked.temperature, asked.top_p, asked.stops, vocabulary)
