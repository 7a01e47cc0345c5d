"""Plain data as bytes, and messages over two pipes: all that passes between the checker and the candidate.

A value is a tag, a number, a colon and then so many bytes (of a scalar) or so many values (of a series). `json` would
do but for its import, which costs every check as much as the interpreter's start; `pickle` and `marshal` trust what
they read.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # `typing` and `collections` cost every check milliseconds
if TYPE_CHECKING:
    from typing import Any

LARGEST_MESSAGE = 32 << 20
MOST_ITEMS = 100_000
LENGTH_BYTES = 8


class NotPlainError(TypeError):
    """A value that is not plain data."""


class CandidateGoneError(Exception):
    """The candidate's process has ended, or does not speak the protocol."""


def encode(value: Any) -> bytes:
    """Plain data as bytes that keep its types; a subclass is taken as what it extends, without its methods.

    Raises:
        NotPlainError: There is something else in it.
    """
    parts: list[bytes] = []
    _put(value, parts)
    return b"".join(parts)


def decode(data: bytes) -> Any:
    """The value again, from nothing but this module's own constructors.

    Raises:
        ValueError: The bytes are no value, or more than one.
    """
    value, end = _take(data, 0)
    if end != len(data):
        raise ValueError("there is more than one value")
    return value


def _put(value: Any, parts: list[bytes]) -> None:
    for kind, tag, turn in SCALARS:
        if isinstance(value, kind):
            body = turn(value)
            parts.append(b"%s%d:%s" % (tag, len(body), body))
            return
    tag, items = _items(value)
    parts.append(b"%s%d:" % (tag, len(items)))
    for item in items:
        _put(item, parts)


def _items(value: Any) -> tuple[bytes, list[Any]]:
    """A series' tag and what is in it; of a dict, keys and values in turn."""
    for kind, tag in SERIES:
        if isinstance(value, kind):
            return tag, list(kind.__iter__(value))
    if isinstance(value, dict):
        return b"D", [part for pair in dict.items(value) for part in pair]
    if isinstance(value, range):
        return b"R", [value.start, value.stop, value.step]
    if isinstance(value, VIEWS) or hasattr(type(value), "__next__"):
        return b"I", [item for item, _ in zip(value, range(MOST_ITEMS))]  # noqa: B905 (Python 3.9 has no `strict`)
    raise NotPlainError(f"a value of type {type(value).__name__[:100]} is not plain data")


def _take(data: bytes, place: int) -> tuple[Any, int]:
    """The value at a place, and where the next begins."""
    colon = data.index(b":", place, place + 24)
    tag, number, place = data[place : place + 1], int(data[place + 1 : colon]), colon + 1
    if tag in OF_BYTES:
        body = data[place : place + number]
        if len(body) != number:
            raise ValueError("a value is cut off")
        return OF_BYTES[tag](body), place + number
    items: list[Any] = []
    for _ in range(number):
        item, place = _take(data, place)
        items.append(item)
    return OF_ITEMS[tag](items), place


# Integers in hexadecimal: their decimal form takes quadratic time and is limited to 4,300 digits.
SCALARS: tuple[tuple[Any, bytes, Any], ...] = (
    (type(None), b"N", lambda value: b""),
    (bool, b"B", lambda value: b"1" if value else b""),
    (int, b"i", lambda value: hex(int.__int__(value)).encode()),
    (float, b"f", lambda value: float.hex(value).encode()),
    (complex, b"c", lambda value: f"{float.hex(value.real)} {float.hex(value.imag)}".encode()),
    (str, b"s", lambda value: str.encode(value, "utf-8", "surrogatepass")),
    ((bytes, bytearray), b"y", bytes),
)
SERIES: tuple[tuple[Any, bytes], ...] = ((list, b"L"), (tuple, b"T"), (set, b"S"), (frozenset, b"F"))
VIEWS = (type({}.keys()), type({}.values()), type({}.items()))
OF_BYTES: dict[bytes, Any] = {
    b"N": lambda body: None,
    b"B": bool,
    b"i": lambda body: int(body, 16),
    b"f": lambda body: float.fromhex(body.decode()),
    b"c": lambda body: complex(*map(float.fromhex, body.decode().split(" "))),
    b"s": lambda body: body.decode("utf-8", "surrogatepass"),
    b"y": bytes,
}
OF_ITEMS: dict[bytes, Any] = {
    b"L": list,
    b"T": tuple,
    b"S": set,
    b"F": frozenset,
    b"D": lambda items: dict(zip(items[::2], items[1::2])),  # noqa: B905
    b"R": lambda items: range(*items),
    b"I": iter,
}


class Link:
    """One end of two pipes: messages of a length in eight bytes, then a value."""

    def __init__(self, incoming: int, outgoing: int) -> None:
        self.incoming, self.outgoing = incoming, outgoing

    def send(self, body: bytes) -> None:
        """Send one encoded value."""
        view = memoryview(len(body).to_bytes(LENGTH_BYTES, "big") + body)
        while view:
            view = view[os.write(self.outgoing, view) :]

    def receive(self) -> Any:
        """The next message.

        Raises:
            CandidateGoneError: At the end, above the size limit, or where it is no value.
        """
        length = int.from_bytes(self.take(LENGTH_BYTES), "big")
        if length > LARGEST_MESSAGE:
            raise CandidateGoneError("a result is larger than what may come back")
        body = self.take(length)
        try:
            return decode(body)
        except (ValueError, KeyError, TypeError):
            raise CandidateGoneError("the program's process sent no message") from None

    def take(self, length: int) -> bytes:
        """Exactly so many bytes."""
        parts: list[bytes] = []
        while length:
            part = os.read(self.incoming, min(length, 1 << 20))
            if not part:
                raise CandidateGoneError("the program's process ended early")
            parts.append(part)
            length -= len(part)
        return b"".join(parts)
