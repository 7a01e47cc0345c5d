"""A model's chat template, with every control token in it the template's own.

Messages come from outside. A control token written in one must stay text, or a caller could end a turn and speak as
somebody else. Rendering gives one string in which both look alike; so control tokens in the messages are veiled before,
the string is split at the control tokens that are left, and the pieces between are encoded as text, unveiled.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from sampler.errors import InvalidParams, NoChatTemplate
from sampler.tokenizer import Message

VEILS = (*range(0xE000, 0xF900), *range(0xF0000, 0xFFFFE))
"""Code points for private use, which mean nothing to a template."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a rendered conversation: a control token by its name, or text without any."""

    text: str
    is_control: bool


def render(tokenizer: Any, messages: Sequence[Message], open_reply: bool) -> str:
    """The conversation as its template writes it."""
    if tokenizer.chat_template is None:
        raise NoChatTemplate()
    given = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return tokenizer.apply_chat_template(given, tokenize=False, add_generation_prompt=open_reply)
    except (TemplateError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        said = str(error).splitlines()[0][:200] if str(error) else "it cannot be filled"
        raise InvalidParams("messages", f"messages: the model's chat template refuses them: {said}") from None


def pieces(
    write: Callable[[Sequence[Message]], str], messages: Sequence[Message], names: Iterable[str]
) -> list[Piece] | None:
    """The conversation that `write` renders, in pieces; None if no message holds a control token's name.

    Without one the rendered string can be encoded whole, as the model's authors do.
    """
    known = sorted((name for name in names if name), key=len, reverse=True)
    if not known or not any(name in message.content for name in known for message in messages):
        return None
    control = re.compile("|".join(map(re.escape, known)))
    veil = _unused_character(messages)

    def veiled(content: str) -> str:
        return control.sub(lambda hit: f"{veil}{known.index(hit.group())}{veil}", content)

    rendered = write([Message(message.role, veiled(message.content)) for message in messages])
    found = re.compile(f"{veil}(\\d+){veil}")
    parts: list[Piece] = []
    end = 0
    for hit in control.finditer(rendered):
        parts += [Piece(rendered[end : hit.start()], False), Piece(hit.group(), True)]
        end = hit.end()
    parts.append(Piece(rendered[end:], False))
    return [
        part if part.is_control else Piece(found.sub(lambda hit: known[int(hit.group(1))], part.text), False)
        for part in parts
        if part.text
    ]


def _unused_character(messages: Sequence[Message]) -> str:
    used = {char for message in messages for char in message.content}
    found = next((chr(point) for point in VEILS if chr(point) not in used), None)
    if found is None:
        raise InvalidParams("messages", "messages: they use every private character of Unicode beside control tokens")
    return found
