"""Plain data as tagged JSON, and messages over two pipes: all that passes between the checker and the candidate."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, KeysView, ValuesView

TYPE_CHECKING = False  # the module `typing` costs every check milliseconds
if TYPE_CHECKING:
    from typing import Any

LARGEST_MESSAGE = 32 << 20
MOST_ITEMS = 100_000


class NotPlainError(TypeError):
    """A value that is not plain data."""


class CandidateGoneError(Exception):
    """The candidate's process has ended, or does not speak the protocol."""


def encode(value: Any) -> list[Any]:
    """Plain data as JSON that keeps its types; a subclass is taken as what it extends, without its methods."""
    if value is None:
        return ["none"]
    for kind, tag, turn in SCALARS:
        if isinstance(value, kind):
            return [tag, turn(value)]
    for kind, tag in SERIES:
        if isinstance(value, kind):
            return [tag, [encode(item) for item in kind.__iter__(value)]]
    if isinstance(value, dict):
        return ["dict", [[encode(key), encode(item)] for key, item in dict.items(value)]]
    if isinstance(value, range):
        return ["range", [value.start, value.stop, value.step]]
    if isinstance(value, (Iterator, KeysView, ValuesView)):
        return ["iterator", [encode(item) for item, _ in zip(value, range(MOST_ITEMS))]]  # noqa: B905 (Python 3.9 has no `strict`)
    raise NotPlainError(f"a value of type {type(value).__name__[:100]} is not plain data")


def decode(data: Any) -> Any:
    """The value again, from nothing but this function's own constructors."""
    tag, *rest = data
    if tag == "none":
        return None
    (body,) = rest
    if tag == "dict":
        return {decode(key): decode(item) for key, item in body}
    if tag == "range":
        return range(*map(int, body))
    if tag == "iterator":
        return iter([decode(item) for item in body])
    if tag in MADE_OF_ITEMS:
        return MADE_OF_ITEMS[tag](decode(item) for item in body)
    return MADE_OF_TEXT[tag](body)


# Integers in hexadecimal: their decimal form takes quadratic time and is limited to 4,300 digits.
SCALARS: tuple[tuple[Any, str, Any], ...] = (
    (bool, "bool", lambda value: "1" if value else ""),
    (int, "int", lambda value: hex(int.__int__(value))),
    (float, "float", float.hex),
    (complex, "complex", lambda value: [float.hex(value.real), float.hex(value.imag)]),
    (str, "str", str.__str__),
    ((bytes, bytearray), "bytes", lambda value: bytes(value).hex()),
)
SERIES: tuple[tuple[Any, str], ...] = ((list, "list"), (tuple, "tuple"), (set, "set"), (frozenset, "frozenset"))
MADE_OF_ITEMS = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
MADE_OF_TEXT = {
    "bool": bool,
    "int": lambda text: int(text, 16),
    "float": float.fromhex,
    "complex": lambda parts: complex(*map(float.fromhex, parts)),
    "str": str,
    "bytes": bytes.fromhex,
}


class Link:
    """One end of two pipes: messages of a length in four bytes, then JSON."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self.incoming, self.outgoing = incoming, outgoing

    def send(self, message: Any) -> None:
        """Send one message."""
        body = json.dumps(message).encode("ascii")
        view = memoryview(struct.pack(">I", len(body)) + body)
        while view:
            view = view[os.write(self.outgoing, view) :]

    def receive(self) -> Any:
        """The next message.

        Raises:
            CandidateGoneError: At the end, above the size limit, or where it is no JSON.
        """
        (length,) = struct.unpack(">I", self.take(4))
        if length > LARGEST_MESSAGE:
            raise CandidateGoneError("a result is larger than what may come back")
        try:
            return json.loads(self.take(length))
        except ValueError:
            raise CandidateGoneError("the program's process sent no message") from None

    def take(self, length: int) -> bytes:
        """Exactly so many bytes."""
        parts = []
        while length:
            part = os.read(self.incoming, min(length, 1 << 20))
            if not part:
                raise CandidateGoneError("the program's process ended early")
            parts.append(part)
            length -= len(part)
        return b"".join(parts)
