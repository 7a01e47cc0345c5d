"""What the sampler asks of a tokenizer: encode untrusted text once, turn response ids into bytes."""

from collections.abc import Sequence
from typing import Protocol


class Tokenizer(Protocol):
    """Text to ids at the door, ids to bytes at the exit; ids everywhere between."""

    tokens_are_bytes: bool
    """Whether the bytes of a response are the concatenation of its tokens' bytes."""

    def encode(self, text: str) -> list[int]:
        """Ids of a prompt. Control tokens written as text stay text."""
        ...

    def response_bytes(self, ids: Sequence[int]) -> bytes:
        """The UTF-8 bytes of response ids; control tokens, end-of-sequence ids among them, have none."""
        ...

    def token_text(self, token: int) -> str:
        """A token as text to show, control tokens included; incomplete characters become U+FFFD."""
        ...


def bytes_to_text(response: bytes) -> str:
    """The text of a response; an incomplete character becomes U+FFFD."""
    return response.decode("utf-8", errors="replace")
