"""`POST /tokenize`, `POST /detokenize`, `GET /tokenizer_info`: the model's tokenizer, in vLLM's shapes.

What `/tokenize` says of a text is how the completions route reads it, and of messages how the chat route does.
"""

import asyncio
from typing import Annotated, Any, ClassVar

from fastapi import Request
from pydantic import Field

from sampler.engine import Engine
from service.api.power import split_model
from service.api.replies import DetokenizeReply, TokenizeReply, TokenizerReply
from service.api.requests import Messages, ModelName, TokenIds
from service.api.schema import Only, RequestModel
from service.auth import keyed_router
from service.errors import ApiError
from service.prompts import Ask, check_ids, check_sizes, encode_messages, encode_text
from service.render import decoded
from service.runner import runner_of

router = keyed_router()


class TokenizeRequest(RequestModel):
    """A text or a conversation; exactly one of the two."""

    NULL_IS_DEFAULT: ClassVar[frozenset[str]] = frozenset({"add_generation_prompt", "return_token_strs"})

    model: ModelName | None = None
    """the served model or one of its aliases"""
    prompt: str | None = None
    """the text; goes without messages"""
    messages: Messages | None = None
    """the conversation; goes without prompt"""
    add_special_tokens: Annotated[
        bool | None, Field(description="of a text: begin with the tokenizer's start token (the default)")
    ] = None
    add_generation_prompt: Annotated[bool, Field(description="of messages: go on to where the reply begins")] = True
    return_token_strs: bool = False
    """also return the tokens as text"""
    continue_final_message: Annotated[Any, Only((False,))] = None
    chat_template: Annotated[Any, Only()] = None
    chat_template_kwargs: Annotated[Any, Only(({},))] = None
    tools: Annotated[Any, Only(([],))] = None

    def check(self) -> None:
        """Refuse fields that contradict each other."""
        if (self.prompt is None) == (self.messages is None):
            raise ApiError(422, "prompt: give either prompt or messages", param="prompt")
        if self.messages is not None and self.add_special_tokens:
            message = "add_special_tokens: with messages the template writes the control tokens"
            raise ApiError(422, message, param="add_special_tokens")
        if self.messages is None and not self.add_generation_prompt:
            raise ApiError(422, "add_generation_prompt: only with messages", param="add_generation_prompt")


class DetokenizeRequest(RequestModel):
    """Token ids."""

    model: ModelName | None = None
    """the served model or one of its aliases"""
    tokens: TokenIds
    """the ids"""


@router.post("/tokenize")
async def tokenize(body: TokenizeRequest, request: Request) -> TokenizeReply:
    """The ids of a text or a conversation."""
    body.check()
    engine = _engine(body.model, request)
    given: Ask = [each.message for each in body.messages] if body.messages is not None else body.prompt or ""
    check_sizes([given], 1, runner_of(request).settings)
    ids = await _ids(body, engine)
    names = await decoded(engine.tokenizer, _names, ids, engine) if body.return_token_strs else None
    return TokenizeReply(count=len(ids), max_model_len=engine.info.context, tokens=list(ids), token_strs=names)


@router.post("/detokenize")
async def detokenize(body: DetokenizeRequest, request: Request) -> DetokenizeReply:
    """The text of ids, control tokens by their names."""
    engine = _engine(body.model, request)
    ids = check_ids(body.tokens, engine, "tokens")
    return DetokenizeReply(prompt=await asyncio.to_thread(engine.tokenizer.text, ids))


@router.get("/tokenizer_info")
async def tokenizer_info(request: Request) -> TokenizerReply:
    """What the tokenizer says of itself."""
    engine = _engine(None, request)
    about = engine.tokenizer.about
    return TokenizerReply(
        bos_token=about.bos_token,
        eos_token=about.eos_token,
        pad_token=about.pad_token,
        chat_template=about.chat_template,
        model_max_length=engine.info.context,
    )


def _engine(model: str | None, request: Request) -> Engine:
    """The engine, if the model asked for is the one it has."""
    runner = runner_of(request)
    if model is not None:
        split_model(model, runner.engine.info.model)
    return runner.engine


def _names(ids: tuple[int, ...], engine: Engine) -> list[str]:
    return [engine.tokenizer.token_text(token) for token in ids]


async def _ids(body: TokenizeRequest, engine: Engine) -> tuple[int, ...]:
    if body.messages is not None:
        messages = [each.message for each in body.messages]
        return await encode_messages(messages, engine, open_reply=body.add_generation_prompt)
    text, start = body.prompt or "", body.add_special_tokens is not False
    if not start and text in (names := engine.tokenizer.about.control_tokens):
        return (names[text],)  # a control token's name alone: clients look its id up so; as a prompt it stays text
    return await encode_text(text, engine, start=start)
