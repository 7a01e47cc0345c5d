"""The engine as the service sees it: the one that was loaded, with its calls and failures counted."""

from collections.abc import Sequence

from sampler.engine import Engine, EngineInfo, Request
from sampler.errors import SamplerError
from sampler.row import Row
from sampler.tokenizer import Tokenizer
from sampler.trace import Segment, Token
from service.telemetry import Telemetry


class WatchedEngine:
    """Passes everything on. A failure that a chain's second try makes good is seen here and nowhere else."""

    def __init__(self, engine: Engine, telemetry: Telemetry) -> None:
        self._engine, self._telemetry = engine, telemetry

    @property
    def info(self) -> EngineInfo:
        """The engine's."""
        return self._engine.info

    @property
    def tokenizer(self) -> Tokenizer:
        """The engine's."""
        return self._engine.tokenizer

    @property
    def alive(self) -> bool:
        """The engine's."""
        return self._engine.alive

    async def propose(self, request: Request) -> Segment:
        """Draw one segment."""
        self._telemetry.called()
        try:
            return await self._engine.propose(request)
        except Exception as error:
            self._telemetry.failed(kind_of(error))
            raise

    async def score(self, ids: Sequence[int], start: int, head: int = 0) -> tuple[Sequence[Token], Sequence[Row]]:
        """Score a text."""
        self._telemetry.called()
        try:
            return await self._engine.score(ids, start, head)
        except Exception as error:
            self._telemetry.failed(kind_of(error))
            raise

    def room(self) -> int:
        """The engine's."""
        return self._engine.room()

    async def aclose(self) -> None:
        """Close the engine."""
        await self._engine.aclose()


def kind_of(error: Exception) -> str:
    """A failure's name in metrics: those of the sampler by their class, all others alike."""
    return type(error).__name__ if isinstance(error, SamplerError) else "unexpected"
