"""What the sampler asks of a tokenizer: encode untrusted text once, turn response ids into bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation, from a caller who is not trusted."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class TokenizerInfo:
    """What a tokenizer says of itself; None where it has no such thing, or does not tell.

    `control_tokens` maps the names of the control tokens to their ids. `longest_token_bytes` bounds the UTF-8 bytes of
    text that one id can stand for, so that a text which cannot fit is refused before it is encoded.
    """

    bos_token: str | None = None
    eos_token: str | None = None
    pad_token: str | None = None
    chat_template: str | None = None
    longest_token_bytes: int | None = None
    control_tokens: Mapping[str, int] = field(default_factory=lambda: cast("dict[str, int]", {}))


class Tokenizer(Protocol):
    """Text to ids at the door, ids to bytes at the exit; ids everywhere between."""

    tokens_are_bytes: bool
    """Whether the bytes of a response are the concatenation of its tokens' bytes."""

    @property
    def about(self) -> TokenizerInfo:
        """Its control tokens and its chat template."""
        ...

    def encode(self, text: str, *, start: bool = True) -> list[int]:
        """Ids of a prompt, after the tokenizer's own start token if it has one and `start` is not False.

        Control tokens written as text stay text.
        """
        ...

    def encode_chat(self, messages: Sequence[Message], *, open_reply: bool = True) -> list[int]:
        """Ids of a conversation in the model's own template, up to where the reply begins unless `open_reply` is False.

        The control tokens are the template's; written in a message they stay text.

        Raises:
            NoChatTemplate: the model has no template.
            InvalidParams: the template refuses these messages.
        """
        ...

    def response_bytes(self, ids: Sequence[int]) -> bytes:
        """The UTF-8 bytes of response ids; control tokens, end-of-sequence ids among them, have none."""
        ...

    def text(self, ids: Sequence[int]) -> str:
        """The text of any ids, control tokens by their names."""
        ...

    def token_text(self, token: int) -> str:
        """A token as text to show, control tokens included; incomplete characters become U+FFFD."""
        ...


def bytes_to_text(response: bytes) -> str:
    """The text of a response; an incomplete character becomes U+FFFD."""
    return response.decode("utf-8", errors="replace")
