"""The replies of the OpenAI routes, for the published schema. Numbers that are not finite are null."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FinishReason = Literal["stop", "length"]


class Described(BaseModel):
    """What a reply is made of: the words below a field are its description in the published schema."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class ErrorDetail(Described):
    """What went wrong; `param` names the field."""

    message: str
    """what is wrong, in words"""
    type: str
    """the kind, in OpenAI's words"""
    param: str | None
    """the field that is wrong"""
    code: str | None
    """the kind, for programs"""
    reached: dict[str, Any] | None = None
    """how far work had come that was cut off, of 503 and 504"""


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


class PowerUsageReply(Described):
    """Every token the engine drew; `cost_ratio` is a multiple of one plain sample."""

    generated_tokens: int
    """tokens that the engine drew, whatever became of them"""
    free_tokens: int
    """tokens drawn from rows already known, at no cost"""
    prefetched_tokens: int
    """of the generated ones: drawn ahead and dropped"""
    discarded_tokens: int
    """of the generated and free ones: not in an answer"""
    steps: int
    """Metropolis-Hastings steps taken"""
    accepted: int
    """proposals accepted"""
    moved: int
    """steps that changed the trace"""
    rejected_early: int
    """proposals dropped before their end"""
    non_finite: int
    """proposals rejected because their ratio was not a finite number; should be 0"""
    cost_ratio: float
    """generated_tokens / completion tokens: the multiple of one plain sample"""


class UsageReply(Described):
    """Tokens of all prompts and answers."""

    prompt_tokens: int
    """of all prompts, each counted once"""
    completion_tokens: int
    """of all answers, ends included"""
    total_tokens: int
    """the sum of both"""
    power: PowerUsageReply | None = None
    """what power methods really cost; absent without one"""


class PowerReport(Described):
    """What a power method says of one answer."""

    method: str
    """which method answered"""
    seed: int
    """what fixed the draws; send it back for the same answer"""
    seeded_replay: bool
    """whether that seed gives these tokens again"""
    chain_index: int
    """which of the n chains of its prompt"""
    ended_by: Literal["completed", "deadline", "token_budget", "frozen"]
    """only a completed answer is a draw from the method's law"""
    finished: bool
    """whether the answer reached an end, and not only max_tokens"""
    log_p: float | None
    """log p of the answer in nats, over the support, its end included"""
    token_ids: list[int]
    """the answer as ids, its end included"""
    mode: str | None = None
    """exact or paper"""
    stage: int | None = None
    """the stage that was reached"""
    stages: int | None = None
    """of so many"""
    steps: int | None = None
    """Metropolis-Hastings steps taken"""
    steps_planned: int | None = None
    """of so many"""
    log_evidence: float | None = None
    """of smc: log of an unbiased estimate of the sum of p(x)^alpha, in nats"""
    chain: list[dict[str, Any]] | None = None
    """every step, if power.include asks for it"""
    diagnostics: dict[str, Any] | None = None
    """how the chain went, if power.include asks for it"""
    dropped: int | None = None
    """of a stream whose reader was too slow: events of this answer that were left out after the last that was told"""


class CompletionLogprobs(Described):
    """log p of the base model, token by token, in nats."""

    tokens: list[str]
    """the tokens as text"""
    token_logprobs: list[float | None]
    """log p of each; null for the first of an echoed prompt"""
    top_logprobs: list[dict[str, float | None] | None] | None
    """alternatives of each by their text"""
    text_offset: list[int]
    """where each begins in the text, in characters"""


class CompletionChoice(Described):
    """One answer."""

    index: int
    """the answers of a prompt are next to each other"""
    text: str
    """the answer without its stop string"""
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason
    """stop for a finished answer, length for one that max_tokens or a budget cut off"""
    power: PowerReport | None = None
    """what the power method did; absent without one"""


class Reply(Described):
    """What both replies have."""

    id: str
    created: int
    """seconds since 1970"""
    model: str
    usage: UsageReply
    power_diagnostics: list[dict[str, Any]] | None = None
    """whether the chains of each prompt agree, if power.include asks for it"""


class CompletionReply(Reply):
    """OpenAI's completion."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice]


class TokenLogprob(Described):
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


class ChatChoice(Described):
    """One answer."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason
    """stop for a finished answer, length for one that max_tokens or a budget cut off"""
    power: PowerReport | None = None
    """what the power method did; absent without one"""


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
