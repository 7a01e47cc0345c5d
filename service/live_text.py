"""The text of an answer that is still growing: only what no later token can take back."""

import codecs
from collections.abc import Sequence

from sampler.stops import trim_at_stop
from sampler.tokenizer import Tokenizer, bytes_to_text

REPLACEMENT = "\ufffd"


class LiveText:
    """Takes ids as they are drawn and gives the text that has become final.

    Held back are bytes that may yet turn out to begin a stop string, which is trimmed from a reply, and characters
    that are not whole yet.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._stop_bytes = [text.encode() for text in stop]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._ids: list[int] = []
        self._held = b""
        self._seen = 0
        self._stopped = False
        self.sent = ""
        """The text given so far."""

    def feed(self, ids: Sequence[int]) -> str:
        """The text that these ids make final."""
        if self._stopped:
            return ""
        self._held += self._new_bytes(ids)
        trimmed = trim_at_stop(self._held, self._stop)
        self._stopped = len(trimmed) < len(self._held)
        kept = len(trimmed) if self._stopped else len(self._held) - self._open()
        text = self._decoder.decode(self._held[:kept])
        self._held = self._held[kept:]
        self.sent += text
        return text

    def rest(self, whole: str) -> str:
        """What is left of the finished answer's text."""
        return whole[len(self.sent) :]

    def _new_bytes(self, ids: Sequence[int]) -> bytes:
        if self._tokenizer.tokens_are_bytes:
            return self._tokenizer.response_bytes(ids)
        self._ids += ids
        # Decoded whole each time; a character that is not whole yet shows as a replacement at the end.
        whole = bytes_to_text(self._tokenizer.response_bytes(self._ids)).rstrip(REPLACEMENT).encode()
        new = whole[self._seen :]
        self._seen = max(self._seen, len(whole))
        return new

    def _open(self) -> int:
        """The length of the longest end of the held bytes with which a stop string begins."""
        longest = max((len(stop) for stop in self._stop_bytes), default=1) - 1
        return next(
            (
                size
                for size in range(min(longest, len(self._held)), 0, -1)
                if any(stop.startswith(self._held[-size:]) for stop in self._stop_bytes)
            ),
            0,
        )
