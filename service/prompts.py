"""Prompts to token ids: text is encoded, ids are checked, and what is too much is refused."""

import asyncio
from collections.abc import Sequence
from typing import Any, TypeGuard

from sampler.engine import Engine
from sampler.errors import ContextExceeded
from sampler.tokenizer import Message
from service.errors import ApiError
from service.settings import Settings

Ask = str | list[int] | list[Message]
"""What is to be continued: a text, ids, or a conversation."""


def check_sizes(asks: Sequence[Ask], n: int, settings: Settings) -> None:
    """Refuse too many and too long prompts before anything is done for them."""
    if n > settings.max_n:
        raise ApiError(422, f"n: must be at most {settings.max_n} on this server", param="n")
    if len(asks) > settings.max_prompts or len(asks) * n > settings.max_answers:
        message = f"prompt: at most {settings.max_prompts} prompts and {settings.max_answers} answers in one request"
        raise ApiError(422, message, param="prompt")
    if any(length_of(ask) > settings.max_prompt_chars for ask in asks):
        message = f"prompt: at most {settings.max_prompt_chars} characters or token ids on this server"
        raise ApiError(422, message, param="prompt")


def length_of(ask: Ask) -> int:
    """The length of a prompt as it was given: characters, or ids."""
    return sum(len(part.content) if isinstance(part, Message) else 1 for part in ask) if is_list(ask) else len(ask)


def is_list(ask: Ask) -> TypeGuard[list[Any]]:
    """Whether a prompt is not a text."""
    return isinstance(ask, list)


async def encode_prompts(asks: Sequence[Ask], engine: Engine) -> list[tuple[int, ...]]:
    """The ids of each prompt of a request."""
    return [await _prompt_ids(ask, engine) for ask in asks]


async def _prompt_ids(ask: Ask, engine: Engine) -> tuple[int, ...]:
    if isinstance(ask, str):
        ids = await encode_text(ask, engine)
    elif ask and isinstance(ask[0], Message):
        ids = await encode_messages(ask, engine)  # type: ignore[arg-type]
    else:
        ids = check_ids(ask, engine, "prompt")  # type: ignore[arg-type]
    if not ids:
        raise ApiError(422, "prompt: must hold at least one token", param="prompt")
    return ids


def check_ids(ids: Sequence[int], engine: Engine, param: str) -> tuple[int, ...]:
    """The ids, each of which is in the vocabulary."""
    top = engine.info.vocabulary - 1
    if wrong := next((token for token in ids if token > top), None):
        raise ApiError(422, f"{param}: token id {wrong} is outside the vocabulary (0 to {top})", param=param)
    return tuple(ids)


async def encode_text(text: str, engine: Engine, *, start: bool = True) -> tuple[int, ...]:
    """The ids of a text, off the event loop."""
    check_text(text, "prompt")
    check_length(text, engine)
    return tuple(await asyncio.to_thread(engine.tokenizer.encode, text, start=start))


async def encode_messages(messages: Sequence[Message], engine: Engine, *, open_reply: bool = True) -> tuple[int, ...]:
    """The ids of a conversation in the model's template, off the event loop."""
    for i, message in enumerate(messages):
        check_text(message.content, f"messages.{i}.content")
        check_length(message.content, engine)
    return tuple(await asyncio.to_thread(engine.tokenizer.encode_chat, messages, open_reply=open_reply))


def check_text(text: str, param: str) -> None:
    """Refuse what JSON can write and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ApiError(422, f"{param}: a lone surrogate is not text", param=param) from None


def check_length(text: str, engine: Engine) -> None:
    """Refuse a text that cannot fit the context, whatever its tokens: encoding megabytes takes seconds."""
    longest = engine.tokenizer.about.longest_token_bytes
    if longest is not None and (size := len(text.encode())) > longest * engine.info.context:
        message = f"a text of {size} bytes cannot fit the model's context of {engine.info.context} tokens"
        raise ContextExceeded("prompt", message)


async def prompt_text(ask: Any, ids: Sequence[int], engine: Engine) -> str:
    """What `echo` says of a prompt: a text as it was given, or what its ids say."""
    return ask if isinstance(ask, str) else await asyncio.to_thread(engine.tokenizer.text, list(ids))
