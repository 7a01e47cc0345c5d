"""Prompts to token ids: text is encoded, ids are checked, and what is too much is refused."""

import asyncio
from typing import Any

from sampler.engine import Engine
from service.errors import ApiError
from service.settings import Settings


def list_prompts(prompt: Any, n: int, settings: Settings) -> list[str | list[int]]:
    """The prompts of a request: one or several texts, or lists of ids. Refuses too many and too long ones unread."""
    several = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
    given: list[str | list[int]] = prompt if several else [prompt]
    if n > settings.max_n:
        raise ApiError(422, f"n: must be at most {settings.max_n} on this server", param="n")
    if len(given) > settings.max_prompts or len(given) * n > settings.max_answers:
        message = f"prompt: at most {settings.max_prompts} prompts and {settings.max_answers} answers in one request"
        raise ApiError(422, message, param="prompt")
    if max(map(len, given)) > settings.max_prompt_chars:
        message = f"prompt: must be at most {settings.max_prompt_chars} characters or token ids long"
        raise ApiError(422, message, param="prompt")
    return given


async def encode_prompts(given: list[str | list[int]], engine: Engine) -> list[tuple[int, ...]]:
    """The ids of each prompt."""
    return [await _ids(one, engine) for one in given]


async def _ids(prompt: str | list[int], engine: Engine) -> tuple[int, ...]:
    ids = await encode_text(prompt, engine) if isinstance(prompt, str) else tuple(prompt)
    if not ids:
        raise ApiError(422, "prompt: must hold at least one token", param="prompt")
    top = engine.info.vocabulary - 1
    if wrong := next((token for token in ids if token > top), None):
        raise ApiError(422, f"prompt: token id {wrong} is outside the vocabulary (0 to {top})", param="prompt")
    return ids


async def encode_text(text: str, engine: Engine) -> tuple[int, ...]:
    """The ids of a text, off the event loop."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ApiError(422, "prompt: a lone surrogate is not text", param="prompt") from None
    return tuple(await asyncio.to_thread(engine.tokenizer.encode, text))
