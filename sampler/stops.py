"""Stop strings as absorbing ends.

A trace has ended iff its last id is an end-of-sequence id, or the bytes of the *whole* response so far
contain a stop string. That is a function of the token prefix, so cuts keep prefixes that have not ended
and the state space is closed. Judging only the text after a cut or a stage boundary would miss strings
that straddle it and change the law. The prompt plays no part; the token that completes a stop string
stays in the trace with its statistics, and only the reply's text is trimmed.
"""

from collections.abc import Sequence

from sampler.tokenizer import Tokenizer


class StopMatcher:
    """Judges a growing response token by token."""

    def __init__(self, stop: Sequence[str], tokenizer: Tokenizer) -> None:
        self._stop = tuple(text.encode() for text in stop)
        self._keep = max((len(text) for text in self._stop), default=1) - 1
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._tail = b""

    def restart(self, kept_ids: Sequence[int]) -> "StopMatcher":
        """Forget everything but a kept prefix, which contains no stop string."""
        self._ids = list(kept_ids)
        self._tail = self._trimmed(self._tokenizer.response_bytes(self._recent()))
        return self

    def hit(self, token: int) -> bool:
        """Whether the response contains a stop string once `token` is appended."""
        if not self._stop:
            return False
        self._ids.append(token)
        text = (
            self._tail + self._tokenizer.response_bytes([token])
            if self._tokenizer.tokens_are_bytes
            else self._tokenizer.response_bytes(self._ids)
        )
        self._tail = self._trimmed(text)
        return any(stop in text for stop in self._stop)

    def _recent(self) -> list[int]:
        """Ids enough to rebuild the tail: tokens may be empty, so walk back until it is long enough."""
        if not self._tokenizer.tokens_are_bytes:
            return self._ids
        first, length = len(self._ids), 0
        while first and length < self._keep:
            first -= 1
            length += len(self._tokenizer.response_bytes(self._ids[first : first + 1]))
        return self._ids[first:]

    def _trimmed(self, text: bytes) -> bytes:
        return text[len(text) - self._keep :] if len(text) > self._keep else text


def trim_at_stop(response: bytes, stop: Sequence[str]) -> bytes:
    """The response's bytes before the first stop string in it, all of them if there is none."""
    hits = [at for at in (response.find(text.encode()) for text in stop) if at >= 0]
    return response[: min(hits)] if hits else response
