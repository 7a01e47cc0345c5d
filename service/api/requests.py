"""The bodies that the OpenAI routes take."""

from typing import Annotated

from pydantic import Field

from service.api.power import PowerOptions
from service.api.schema import RequestModel

TokenId = Annotated[int, Field(ge=0)]
TokenIds = Annotated[list[TokenId], Field(fail_fast=True)]
Prompt = str | TokenIds | Annotated[list[str], Field(fail_fast=True)] | Annotated[list[TokenIds], Field(fail_fast=True)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]


class StreamOptions(RequestModel):
    """OpenAI's `stream_options`."""

    include_usage: bool = False


class CompletionRequest(RequestModel):
    """OpenAI's completion request with the `power` object; what is not listed is refused."""

    model: Annotated[str, Field(min_length=1, max_length=512)]
    prompt: Prompt
    max_tokens: Annotated[int, Field(ge=1, le=1 << 20)] = 16
    temperature: Annotated[float | None, Field(ge=0, le=2, allow_inf_nan=False)] = None
    top_p: Annotated[float | None, Field(gt=0, le=1, allow_inf_nan=False)] = None
    n: Annotated[int, Field(ge=1, le=128)] = 1
    seed: Annotated[int | None, Field(ge=-(1 << 63), lt=1 << 63)] = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    logprobs: Annotated[int | None, Field(ge=0, le=20)] = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    power: PowerOptions | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
