"""What every analysis is made of: typed request and reply, pure functions, and one line in the registry.

An analysis is a package beside this file. Its `__init__` holds the models and one `Analysis`; the module that `work`
names holds `compute` and `draw` and may import SciPy, for it is imported only where the work is done: in a child
process of the service, or in the `powercut analyse` command. matplotlib is imported inside `draw`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Generic, NamedTuple, Protocol, TypeVar, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from service.api.schema import RequestModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Seed = Annotated[int | None, Field(ge=0, lt=1 << 63, description="fixes every draw; drawn and returned if left out")]


class AnalysisError(ValueError):
    """A request that fits its schema and yet cannot be answered.

    Args:
        field: The request's field at fault.
        message: What is wrong and what the limit is, without the field's name.
        status: 422, or 409 where answers contradict one another, or 413 where it is the size.
        code: The error object's `code`.
    """

    def __init__(self, field: str, message: str, *, status: int = 422, code: str = "invalid_value") -> None:
        super().__init__(f"{field}: {message}")
        self.field, self.message, self.status, self.code = field, message, status, code


class Cancelled(Exception):
    """Raised by `Context.report` once nobody wants the result any more."""


class AnalysisRequest(RequestModel):
    """Base of all requests: strict, no unknown field, no NaN and no infinity. Every field must be bounded."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class SeededRequest(AnalysisRequest):
    """A request with a seed, as all have but those whose noise must not be the caller's."""

    seed: Seed = None


class Notice(BaseModel):
    """An assumption that is not met, or a thing the reader must know."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    code: str
    message: str


class ReplyPart(BaseModel):
    """Base of the objects inside a reply: a NaN in one is a defect and never leaves; use null for "none"."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class AnalysisResponse(ReplyPart):
    """Base of all replies.

    Attributes:
        method: Which formula or variant ran.
        seed: What fixed the draws, as `Context.seed` has it.
        warnings: Assumptions that are not met.
    """

    method: str
    seed: int | None
    warnings: list[Notice]


class Context:
    """What a computation gets beside its request.

    Args:
        seed: Of `rng`; None for an analysis that takes no seed, whose `rng` may not be used.
        progress: Told the done fraction in [0, 1] and a note.
        is_cancelled: Whether nobody wants the result any more.
    """

    def __init__(
        self,
        seed: int | None,
        progress: Callable[[float, str], None] | None = None,
        is_cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self.seed = seed
        self._rng = None if seed is None else np.random.default_rng(seed)
        self._progress, self._is_cancelled = progress, is_cancelled

    @property
    def rng(self) -> np.random.Generator:
        """The only source of randomness of a seeded analysis."""
        if self._rng is None:
            raise RuntimeError("an analysis without a seed brings its own randomness")
        return self._rng

    def report(self, fraction: float, note: str = "") -> None:
        """Tell how far the work is; raises `Cancelled`. To be called in every long loop."""
        if self._is_cancelled is not None and self._is_cancelled():
            raise Cancelled
        if self._progress is not None:
            self._progress(fraction, note)


class Paper(NamedTuple):
    """Where the method comes from."""

    title: str
    arxiv: str


Req = TypeVar("Req", bound=AnalysisRequest)
Res = TypeVar("Res", bound=AnalysisResponse)
ReqIn = TypeVar("ReqIn", bound=AnalysisRequest, contravariant=True)
ResIn = TypeVar("ResIn", bound=AnalysisResponse)


class Work(Protocol[ReqIn, ResIn]):
    """The module that an analysis names."""

    def compute(self, request: ReqIn, context: Context) -> ResIn:
        """The reply. Raises `AnalysisError` for what cannot be answered."""
        ...

    def draw(self, request: ReqIn, response: ResIn) -> "Figure":
        """A picture of the reply, by matplotlib's object interface (never pyplot)."""
        ...


@dataclass(frozen=True)
class Analysis(Generic[Req, Res]):
    """One route under `/v1/analysis/`.

    Attributes:
        name: The path after `/v1/analysis/`; a second part makes a sub-route, as in `bounds/table`.
        paper: Title and arXiv number.
        summary: One sentence for the list.
        request: What it takes.
        response: What it gives.
        work: Dotted name of the module with `compute` and `draw`.
        example: A request body that runs in a moment.
        job_only: Too long for a request: runs as a row of a batch, and by `powercut analyse`.
        seeded: Whether request and reply have a seed.
        own_process: Its process imports what no other analysis should carry, so it is not used again.
    """

    name: str
    paper: Paper
    summary: str
    request: type[Req]
    response: type[Res]
    work: str
    example: dict[str, Any]
    job_only: bool = False
    seeded: bool = True
    own_process: bool = False

    def load(self) -> Work[Req, Res]:
        """Import the module that does the work."""
        return cast(Work[Req, Res], import_module(self.work))


def load_registry(name: str) -> Mapping[str, Analysis[Any, Any]]:
    """The analyses at `module:name`."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
