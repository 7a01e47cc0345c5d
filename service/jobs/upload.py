"""A multipart upload, taken apart as it arrives: its file goes to the store piece by piece and never is in memory."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from service.errors import ApiError

FIELD_BYTES = 1024
"""Longest value of a field that is not the file."""
FIELDS_LIMIT = 16
HEADERS_BYTES = 8192
"""Longest headers of one part."""
PIECE_BYTES = 1 << 18
T = TypeVar("T")


class Sink(Protocol):
    """Where the file's bytes go."""

    async def begin(self) -> None:
        """A file begins."""
        ...

    async def write(self, data: bytes) -> None:
        """Its next bytes."""
        ...


class Form:
    """What a form said beside its file."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None


class _Parts:
    """Collects what the parser calls out, in order: headers, data, and the ends of parts."""

    def __init__(self) -> None:
        self.events: list[tuple[str, bytes]] = []
        self._name, self._value, self._size = b"", b"", 0
        self.disposition = b""

    def callbacks(self) -> dict[str, Callable[..., Any]]:
        """The parser's callbacks."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._add("_name", data[start:end]),
            "on_header_value": lambda data, start, end: self._add("_value", data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": lambda: self.events.append(("headers", self.disposition)),
            "on_part_data": lambda data, start, end: self.events.append(("data", data[start:end])),
            "on_part_end": lambda: self.events.append(("end", b"")),
            "on_end": lambda: self.events.append(("whole", b"")),
        }

    def take(self) -> list[tuple[str, bytes]]:
        """What was called out since the last time."""
        taken, self.events = self.events, []
        return taken

    def _begin(self) -> None:
        self._name = self._value = self.disposition = b""
        self._size = 0

    def _add(self, part: str, data: bytes) -> None:
        self._size += len(data)
        if self._size > HEADERS_BYTES:
            raise ApiError(400, "the form has a part with headers that are too long", code="invalid_form")
        setattr(self, part, getattr(self, part) + data)

    def _header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self.disposition = self._value
        self._name = self._value = b""


async def read_form(request: Request, sink: Sink) -> Form:
    """Read a form with one part named `file`; raises 400, or what the sink raises."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        message = "the body must be a form: multipart/form-data with the fields purpose and file"
        raise ApiError(400, message, code="invalid_form")
    parts, reader = _Parts(), _Reader(sink)
    try:
        parser = MultipartParser(options[b"boundary"], parts.callbacks())  # type: ignore[arg-type]
        async for piece in request.stream():
            for start in range(0, len(piece), PIECE_BYTES):
                parser.write(piece[start : start + PIECE_BYTES])
                await reader.take(parts.take())
        parser.finalize()
        await reader.take(parts.take())
    except FormParserError:
        raise ApiError(400, "the body is no valid form", code="invalid_form") from None
    except ClientDisconnect:
        raise ApiError(400, "the upload broke off", code="upload_incomplete") from None
    if not reader.whole:
        raise ApiError(400, "the form breaks off before its end", code="upload_incomplete")
    return reader.form


class _Reader:
    """Follows the parts: fields to the form, the file to the sink."""

    def __init__(self, sink: Sink) -> None:
        self.form, self.whole = Form(), False
        self._sink = sink
        self._field: str | None = None
        self._value = bytearray()

    async def take(self, events: list[tuple[str, bytes]]) -> None:
        """Take what the parser has called out."""
        for event, data in events:
            if event == "headers":
                await self._begin(data)
            elif event == "data":
                await self._data(data)
            elif event == "end":
                self._end()
            else:
                self.whole = True

    async def _begin(self, disposition: bytes) -> None:
        _, options = parse_options_header(disposition)
        name, filename = options.get(b"name", b""), options.get(b"filename")
        if filename is None:
            self._field = name.decode("utf-8", "replace")
            return
        if name != b"file" or self.form.filename is not None:
            raise ApiError(400, "the form must have exactly one file, in the field file", param="file")
        self._field = None
        self.form.filename = clean_name(filename.decode("utf-8", "replace"))
        await self._sink.begin()

    async def _data(self, data: bytes) -> None:
        if self._field is None:
            await self._sink.write(data)
            return
        self._value += data
        if len(self._value) > FIELD_BYTES:
            raise ApiError(400, f"the form has a field longer than {FIELD_BYTES} bytes", code="invalid_form")

    def _end(self) -> None:
        if self._field is not None:
            if self._field in self.form.fields or len(self.form.fields) >= FIELDS_LIMIT:
                raise ApiError(400, "the form has a field twice, or too many", code="invalid_form")
            self.form.fields[self._field] = self._value.decode("utf-8", "replace")
            self._value.clear()
        self._field = None


def clean_name(name: str) -> str:
    """A file name to show, not to open: its last part, without control characters."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(char for char in last if char.isprintable())[:255] or "upload.jsonl"
