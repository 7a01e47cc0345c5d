"""The bodies that the OpenAI routes take. What is not listed is refused, and what is listed is honoured."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from sampler.tokenizer import Message
from service.api.power import PowerOptions, limits
from service.api.schema import Only, RequestModel
from service.errors import ApiError

TOKEN_ID = "token-id"
"""Format of the ids in the published schema; `service.openapi` gives them the vocabulary's limit."""
TokenId = Annotated[int, Field(ge=0, json_schema_extra={"format": TOKEN_ID})]
TokenIds = Annotated[list[TokenId], Field(fail_fast=True)]
# What is empty is refused once it is encoded, whatever form it has; that lists may not be empty can be said before.
NOT_EMPTY: dict[str, Any] = {"minItems": 1}
PROMPTS_LIMIT = 1 << 16
"""As many prompts as any server may be set to take (`max_prompts`)."""
PromptIds = Annotated[list[TokenId], Field(fail_fast=True, json_schema_extra=NOT_EMPTY)]
PromptTexts = Annotated[list[str], Field(max_length=PROMPTS_LIMIT, fail_fast=True, json_schema_extra=NOT_EMPTY)]
PromptIdLists = Annotated[list[PromptIds], Field(max_length=PROMPTS_LIMIT, fail_fast=True, json_schema_extra=NOT_EMPTY)]
Prompt = str | PromptIds | PromptTexts | PromptIdLists
Stop = Annotated[str, Field(min_length=1, max_length=256)]
ModelName = Annotated[str, Field(min_length=1, max_length=512)]
MaxTokens = Annotated[int, Field(ge=1, le=1 << 20)]
Alternatives = Annotated[int, Field(ge=0, le=20)]


USER = "opaque; written into the request's log line, for accounting, and used for nothing else"


class StreamOptions(RequestModel):
    """OpenAI's `stream_options`."""

    NULL_IS_DEFAULT: ClassVar[frozenset[str]] = frozenset({"include_usage"})

    include_usage: bool = False
    """end the stream with a chunk that carries usage"""
    include_obfuscation: Annotated[Any, Only((False,))] = None


class GenerationRequest(RequestModel):
    """What completions and chat share."""

    NULL_IS_DEFAULT: ClassVar[frozenset[str]] = frozenset({"n", "stream"})

    model: ModelName
    """the served model, or <model>:<method> for a power method with its defaults"""
    temperature: Annotated[float | None, Field(ge=0, le=2, allow_inf_nan=False)] = None
    """plain sampling: 0 is greedy, 1 the default; with a power method t means alpha = 1 / t"""
    top_p: Annotated[float | None, limits("top_p")] = None
    """plain sampling: draw from the likeliest tokens of this mass; refused with a power method"""
    n: Annotated[int, Field(ge=1, le=128)] = 1
    """independent answers to each prompt"""
    seed: Annotated[int | None, Field(ge=-(1 << 63), lt=1 << 63)] = None
    """fixes every draw of this request; without one it is drawn and returned"""
    stop: Stop | Annotated[list[Stop], Field(max_length=16, fail_fast=True)] | None = None
    """texts that end an answer; they are not part of it"""
    stream: bool = False
    """answer in server-sent events"""
    stream_options: StreamOptions | None = None
    """what a stream tells beside the answer"""
    user: Annotated[str | None, Field(max_length=256, description=USER)] = None
    power: PowerOptions | None = None
    """ask for a power method; left out, the model is sampled plainly"""
    frequency_penalty: Annotated[Any, Only((0,))] = None
    presence_penalty: Annotated[Any, Only((0,))] = None
    logit_bias: Annotated[Any, Only(({},))] = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def check_stream(self) -> None:
        """Refuse what would have no effect without a stream."""
        if not self.stream and self.stream_options is not None:
            raise ApiError(422, "stream_options: only with stream: true", param="stream_options")


class CompletionRequest(GenerationRequest):
    """OpenAI's completion request with the `power` object."""

    NULL_IS_DEFAULT: ClassVar[frozenset[str]] = GenerationRequest.NULL_IS_DEFAULT | {"max_tokens", "echo"}

    prompt: Prompt
    """a text, token ids, or a list of either"""
    max_tokens: Annotated[int, Field(ge=0, le=1 << 20)] = 16
    """longest answer in tokens; 0 with echo scores the prompt alone"""
    logprobs: Alternatives | None = None
    """show log p of every token, and so many alternatives of each"""
    echo: bool = False
    """begin the answer with the prompt"""
    best_of: Annotated[int | None, Field(ge=1, le=128, description="equal to n, or left out")] = None
    suffix: Annotated[Any, Only(("",))] = None

    @property
    def asks(self) -> list[str | list[int] | list[Message]]:
        """The texts or ids to continue, one for each prompt."""
        several = isinstance(self.prompt, list) and bool(self.prompt) and not isinstance(self.prompt[0], int)
        return list[Any](self.prompt) if several else [self.prompt]  # type: ignore[list-item]

    @property
    def alternatives(self) -> int | None:
        """How many alternatives to show of each token; None for no log-probabilities."""
        return self.logprobs

    def check(self) -> None:
        """Refuse fields that contradict each other."""
        self.check_stream()
        if self.best_of is not None and self.best_of != self.n:
            message = f"best_of: {self.best_of} answers of which {self.n} are returned are not offered; leave it out"
            raise ApiError(422, message, param="best_of")
        if self.max_tokens == 0 and not self.echo:
            message = "max_tokens: must be at least 1, or 0 with echo: true to score the prompt alone"
            raise ApiError(422, message, param="max_tokens")


class TextPart(RequestModel):
    """A part of a message's content."""

    type: Literal["text"]
    """the only kind there is"""
    text: str
    """parts are joined by line ends"""


class ChatMessage(RequestModel):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    """who speaks"""
    content: str | Annotated[list[TextPart], Field(min_length=1, max_length=1024, fail_fast=True)]
    """a text, or parts of one"""
    name: Annotated[Any, Only()] = None
    refusal: Annotated[Any, Only()] = None
    audio: Annotated[Any, Only()] = None
    annotations: Annotated[Any, Only(([],))] = None
    function_call: Annotated[Any, Only()] = None
    tool_calls: Annotated[Any, Only(([],))] = None

    @property
    def message(self) -> Message:
        """As the tokenizer takes it; parts are lines, as vLLM joins them."""
        parts = [self.content] if isinstance(self.content, str) else [part.text for part in self.content]
        return Message(self.role, "\n".join(parts))


Messages = Annotated[list[ChatMessage], Field(min_length=1, max_length=1024, fail_fast=True)]


class ChatRequest(GenerationRequest):
    """OpenAI's chat request with the `power` object."""

    NULL_IS_DEFAULT: ClassVar[frozenset[str]] = GenerationRequest.NULL_IS_DEFAULT | {"logprobs"}

    messages: Messages
    """the conversation so far, written in the model's own template"""
    max_completion_tokens: MaxTokens | None = None
    """longest answer in tokens; the room that is left without it"""
    max_tokens: Annotated[MaxTokens | None, Field(description="the same by its older name")] = None
    logprobs: bool = False
    """show log p of every token"""
    top_logprobs: Alternatives | None = None
    """and so many alternatives of each"""
    audio: Annotated[Any, Only()] = None
    function_call: Annotated[Any, Only(("none",))] = None
    functions: Annotated[Any, Only(([],))] = None
    metadata: Annotated[Any, Only(({},))] = None
    modalities: Annotated[Any, Only((["text"],))] = None
    parallel_tool_calls: Annotated[Any, Only((True, False))] = None
    moderation: Annotated[Any, Only()] = None
    prediction: Annotated[Any, Only()] = None
    prompt_cache_key: Annotated[Any, Only()] = None
    prompt_cache_options: Annotated[Any, Only()] = None
    prompt_cache_retention: Annotated[Any, Only()] = None
    reasoning_effort: Annotated[Any, Only(("none",))] = None
    response_format: Annotated[Any, Only(({"type": "text"},))] = None
    safety_identifier: Annotated[Any, Only()] = None
    service_tier: Annotated[Any, Only(("auto", "default"))] = None
    store: Annotated[Any, Only((False,))] = None
    tool_choice: Annotated[Any, Only(("none", "auto"))] = None
    tools: Annotated[Any, Only(([],))] = None
    verbosity: Annotated[Any, Only(("medium",))] = None
    web_search_options: Annotated[Any, Only()] = None

    @property
    def echo(self) -> bool:
        """A conversation is not repeated."""
        return False

    @property
    def asks(self) -> list[str | list[int] | list[Message]]:
        """The one conversation to continue."""
        return [[message.message for message in self.messages]]

    @property
    def alternatives(self) -> int | None:
        """How many alternatives to show of each token; None for no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    def check(self) -> None:
        """Refuse fields that contradict each other, and settle the two names of `max_tokens`."""
        self.check_stream()
        if self.top_logprobs and not self.logprobs:
            raise ApiError(422, "top_logprobs: only with logprobs: true", param="top_logprobs")
        given = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(given) > 1:
            message = "max_completion_tokens: contradicts max_tokens, which is an older name of the same"
            raise ApiError(422, message, param="max_completion_tokens")
        self.max_tokens = self.max_completion_tokens or self.max_tokens
