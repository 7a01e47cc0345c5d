"""The replies of the OpenAI routes, for the published schema. Numbers that are not finite are null."""

from typing import Any, Literal

from pydantic import BaseModel, Field

FinishReason = Literal["stop", "length"]


class ErrorDetail(BaseModel):
    """What went wrong; `param` names the field."""

    message: str
    type: str
    param: str | None
    code: str | None
    reached: dict[str, Any] | None = None
    """How far work had come that was cut off, of 503 and 504."""


class ErrorReply(BaseModel):
    """The one shape of every error."""

    error: ErrorDetail


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply, "description": description}
    for status, description in {
        400: "The body is not JSON, or prompt and answer exceed the context",
        401: "No key, or a wrong one",
        404: "No such model or thing",
        405: "No such method on this route",
        408: "The body did not arrive in time",
        413: "The body is too large",
        422: "A field is unknown, out of range or contradicts another",
        429: "No room now: try again after `Retry-After` seconds",
        500: "The model failed on this request",
        503: "The engine is dead, or the server stops",
        504: "Not done in time",
    }.items()
}
"""Every route may answer with these."""

EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {"data": {"type": "string", "description": "a chunk as JSON, an error as JSON, or [DONE]"}},
}
STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": EVENT}}, "description": "The reply, or its chunks"}
}


class PowerUsageReply(BaseModel):
    """Every token the engine drew; `cost_ratio` is a multiple of one plain sample."""

    generated_tokens: int
    free_tokens: int
    prefetched_tokens: int
    discarded_tokens: int
    steps: int
    accepted: int
    moved: int
    rejected_early: int
    non_finite: int
    cost_ratio: float


class UsageReply(BaseModel):
    """Tokens of all prompts and answers."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    power: PowerUsageReply | None = None


class PowerReport(BaseModel):
    """What a power method says of one answer."""

    method: str
    seed: int
    seeded_replay: bool
    chain_index: int
    ended_by: Literal["completed", "deadline", "token_budget", "frozen"]
    finished: bool
    log_p: float | None
    token_ids: list[int]
    mode: str | None = None
    stage: int | None = None
    stages: int | None = None
    steps: int | None = None
    steps_planned: int | None = None
    log_evidence: float | None = None
    chain: list[dict[str, Any]] | None = None
    diagnostics: dict[str, Any] | None = None


class CompletionLogprobs(BaseModel):
    """log p of the base model, token by token, in nats."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float | None] | None] | None
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One answer."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason
    power: PowerReport | None = None


class Reply(BaseModel):
    """What both replies have."""

    id: str
    created: int
    model: str
    usage: UsageReply
    power_diagnostics: list[dict[str, Any]] | None = None


class CompletionReply(Reply):
    """OpenAI's completion."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice]


class TokenLogprob(BaseModel):
    """A token and its log p in nats; a control token has no bytes."""

    token: str
    logprob: float | None
    bytes: list[int] | None


class ContentLogprob(TokenLogprob):
    """A token of the answer, and its likeliest alternatives."""

    top_logprobs: list[TokenLogprob]


class ChatLogprobs(BaseModel):
    """log p of the base model, token by token."""

    content: list[ContentLogprob]
    refusal: None


class AssistantMessage(BaseModel):
    """The answer."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason
    power: PowerReport | None = None


class ChatReply(Reply):
    """OpenAI's chat completion."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class ModelReply(BaseModel):
    """A model, or one of its aliases for a method."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int = Field(description="tokens of prompt and answer together")


class ModelList(BaseModel):
    """The served model first, then its aliases."""

    object: Literal["list"]
    data: list[ModelReply]


class TokenizeReply(BaseModel):
    """The ids of a text or a conversation."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeReply(BaseModel):
    """The text of ids."""

    prompt: str


class TokenizerReply(BaseModel):
    """What the tokenizer says of itself."""

    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    chat_template: str | None
    model_max_length: int


class VersionReply(BaseModel):
    """This service's version."""

    version: str
