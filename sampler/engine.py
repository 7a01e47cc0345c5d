"""The engine protocol: what a model must be able to do, and how engines are found.

An engine draws proposals and scores texts. It knows neither cut laws, nor text, nor chains: each call is
its own coroutine, and the engine batches whatever is ready. Cancelling the coroutine frees its work.
There is no fork verb: an engine finds the longest prefix it has already computed by the ids themselves.
"""

import enum
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

from sampler.engines import ENGINES
from sampler.errors import ContextExceeded, EngineError, InvalidParams
from sampler.rng import DrawKey
from sampler.row import Row
from sampler.tokenizer import Tokenizer
from sampler.trace import End, Segment, Token

SupportKind = Literal["full", "top_k", "top_p"]


@dataclass(frozen=True, slots=True)
class Support:
    """Which tokens a row may draw from: all, the k largest logits, or the nucleus of mass p under q."""

    kind: SupportKind = "full"
    top_k: int = 0
    top_p: float = 1.0

    @staticmethod
    def of(top_k: int | None = None, top_p: float = 1.0) -> "Support":
        """The support of a request that gives `top_k` (None: no limit) or `top_p` (1: no limit)."""
        if top_k is not None:
            return Support("top_k", top_k=top_k)
        return Support("top_p", top_p=top_p) if top_p < 1.0 else Support()


class Verdict(enum.Enum):
    """What a watcher tells the engine about a growing segment."""

    STOP = "stop"
    REJECT = "reject"


class Priority(enum.IntEnum):
    """Who goes first when rows are short."""

    INTERACTIVE = 0
    BATCH = 1
    PREFETCH = 2


Watch = Callable[[Sequence[Token]], Verdict | None]
"""Called with the tokens drawn since the last call, possibly from the engine's own thread. Any verdict
ends the segment; the engine need not trim it."""


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """Draw up to `max_tokens` tokens after `ids` from q = p^α / exp ℓ over the support.

    `ids` are the prompt's and the kept response's, of which the last `position` belong to the response; token
    number i of the segment uses the key's uniform at `position + i`. `alpha` is 1 / temperature for plain
    sampling, infinite for greedy. `affinity` names the work that belongs together (a data-parallel rank, a URL,
    a tenant's cache). With `keep_rows` the segment carries its rows, with heads of at least `head` tokens. A `plain`
    request is nobody's proposal: it needs no ℓ and no entropy, so that more engines can serve more supports. One that
    `bars_end` draws its first token from q renormalised without `eos_ids` (`drawable`); that token's `log_z` is ℓ
    without them, so that log q = α log p − log_z holds for it too.
    """

    ids: tuple[int, ...]
    max_tokens: int
    alpha: float
    support: Support
    key: DrawKey
    position: int
    eos_ids: frozenset[int]
    watch: Watch | None = None
    affinity: str = ""
    priority: Priority = Priority.INTERACTIVE
    keep_rows: bool = False
    head: int = 0
    plain: bool = False
    bars_end: bool = False


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine is and promises. `context` counts prompt and response tokens together.

    `supports` are those of which it knows every statistic; `plain_supports` those that plain requests may have too.
    """

    name: str
    model: str
    vocabulary: int
    eos_ids: frozenset[int]
    context: int
    supports: frozenset[SupportKind] = frozenset({"full", "top_k", "top_p"})
    draws: Literal["keyed", "own"] = "keyed"
    scores: bool = True
    watch_interval: int = 1
    plain_supports: frozenset[SupportKind] = frozenset({"full", "top_k", "top_p"})
    details: Mapping[str, Any] = field(default_factory=lambda: cast("dict[str, Any]", {}))


class Engine(Protocol):
    """A model that draws and scores."""

    @property
    def info(self) -> EngineInfo:
        """What this engine is and promises."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        ...

    @property
    def alive(self) -> bool:
        """False once no later call can work."""
        ...

    async def propose(self, request: Request) -> Segment:
        """Draw one segment. Raises `EngineError` or one of its kinds; a failed call answers its caller."""
        ...

    async def score(self, ids: Sequence[int], start: int, head: int = 0) -> tuple[Sequence[Token], Sequence[Row]]:
        """The tokens ids[start:] and their rows over the whole vocabulary, α = 1, in one pass (start ≥ 1)."""
        ...

    def room(self) -> int:
        """How many more proposals could run now without waiting."""
        ...

    async def aclose(self) -> None:
        """Free the model. Calls in flight are answered with an error first."""
        ...


REMOTE_ONLY = ("url", "api_key", "tokenizer", "eos_ids")
"""Options of engines that reach their model over the network."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to load an engine. An option that the chosen engine does not have is refused.

    `engine_args` are the arguments of the library behind the engine, by its own names; text is read as on its own
    command line.
    """

    model: str | None = None
    served_name: str | None = None
    dtype: str | None = None
    device: str | None = None
    max_rows: int | None = None
    kv_cache_bytes: int | None = None
    url: tuple[str, ...] | None = None
    api_key: str | None = field(default=None, repr=False)
    tokenizer: str | None = None
    eos_ids: tuple[int, ...] | None = None
    engine_args: Mapping[str, Any] | None = None

    def refuse(self, engine: str, *names: str) -> None:
        """Raise `InvalidParams` for the first of the named options that was given."""
        for name in names:
            given = getattr(self, name)
            if given is not None:
                option = next(iter(given)) if name == "engine_args" else name
                raise InvalidParams(option, f"the {engine} engine has no option {option}")


def load_engine(name: str, options: EngineOptions) -> Engine:
    """Load an engine by its registry name; may take seconds to minutes. Imports only the one chosen."""
    if name not in ENGINES:
        raise InvalidParams("engine", f"unknown engine {name!r}; choose one of {', '.join(sorted(ENGINES))}")
    module, _, attribute = ENGINES[name].partition(":")
    loader = cast("Callable[[EngineOptions], Engine]", getattr(importlib.import_module(module), attribute))
    return loader(options)


def segment_end(token: int, eos_ids: frozenset[int], verdict: Verdict | None) -> End | None:
    """How a segment ends once `token` is drawn and judged, None if it goes on."""
    if verdict is Verdict.REJECT:
        return End.REJECTED
    if token in eos_ids:
        return End.EOS
    return End.STOP if verdict is Verdict.STOP else None


def drawable(row: Row, request: Request, drawn: int) -> Row:
    """The row that token number `drawn` of a segment is drawn from. Its head must be complete if the end is barred."""
    return row.without(request.eos_ids) if request.bars_end and drawn == 0 else row


def check_request(request: Request, info: EngineInfo) -> None:
    """Raise `InvalidParams` for a request that this engine must not be given."""
    if not request.ids:
        raise InvalidParams("prompt", "the prompt must hold at least one token")
    if not all(0 <= token < info.vocabulary for token in request.ids):
        raise InvalidParams("prompt", f"token ids must be between 0 and {info.vocabulary - 1}")
    if request.max_tokens < 1:
        raise InvalidParams("max_tokens", "max_tokens must be at least 1")
    check_context(len(request.ids), request.max_tokens, info)
    if request.support.kind not in (info.plain_supports if request.plain else info.supports):
        raise InvalidParams("top_k", f"the {info.name} engine has no {request.support.kind} support")
    if not request.alpha > 0:
        raise InvalidParams("alpha", "alpha must be positive")


def check_segment(segment: Segment, request: Request, info: EngineInfo) -> None:
    """Raise `EngineError` for a segment that no engine may return: what comes of it would be wrong or out of bounds.

    Tokens beyond a watcher's verdict or an end are allowed, since an engine need not trim them.
    """
    count = len(segment.tokens)
    if count > request.max_tokens:
        raise EngineError(f"the engine drew {count} tokens where {request.max_tokens} were asked for")
    if not all(0 <= token.id < info.vocabulary for token in segment.tokens):
        raise EngineError("the engine drew a token that is not in its vocabulary")
    if segment.rows is None and request.keep_rows:
        raise EngineError("the engine returned no rows though they were asked for")
    if segment.rows is not None and len(segment.rows) != count:
        raise EngineError(f"the engine returned {len(segment.rows)} rows of {count} tokens")


def check_context(prompt_tokens: int, max_tokens: int, info: EngineInfo) -> None:
    """Raise `ContextExceeded` unless the prompt and the longest response fit the model together."""
    if prompt_tokens + max_tokens > info.context:
        raise ContextExceeded(
            "max_tokens",
            f"the prompt has {prompt_tokens} tokens and max_tokens is {max_tokens}, "
            f"but the model's context is {info.context} tokens",
        )
