"""What each line of a batch's input must be, checked as the bytes arrive, with flat memory but for a digest a line."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple, NoReturn, cast

PROBLEMS_LIMIT = 100
"""Wrong lines that a batch names; the rest are counted."""
URLS_LIMIT = 8
CUSTOM_ID_LIMIT = 512
FIELDS = ("custom_id", "method", "url", "body")


class Line(NamedTuple):
    """A request of a batch."""

    number: int
    custom_id: str
    url: str
    body: dict[str, Any]


class LineError(Exception):
    """What is wrong with a line, in OpenAI's fields."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param


def problem(code: str, message: str, line: int | None = None, param: str | None = None) -> dict[str, Any]:
    """One entry of a batch's `errors.data`."""
    return {"code": code, "line": line, "message": message, "param": param}


def parse_line(number: int, raw: bytes) -> Line:
    """The request in a line; raises `LineError`."""
    given = _json(raw)
    if not isinstance(given, dict):
        raise LineError("invalid_json_line", "the line is not a JSON object")
    given = cast("dict[str, Any]", given)
    for name in FIELDS:
        if name not in given:
            raise LineError("missing_required_parameter", f"the line has no {name}", name)
    if unknown := sorted(set(given) - set(FIELDS)):
        raise LineError("unknown_parameter", f"a line has {', '.join(FIELDS)} and nothing else", unknown[0][:64])
    custom_id, url, body = given["custom_id"], given["url"], given["body"]
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= CUSTOM_ID_LIMIT or not _is_text(custom_id):
        message = f"custom_id must be a text of 1 to {CUSTOM_ID_LIMIT} characters"
        raise LineError("invalid_custom_id", message, "custom_id")
    if given["method"] != "POST":
        raise LineError("invalid_method", "method must be POST", "method")
    if not isinstance(url, str) or not 0 < len(url) <= 128 or not _is_text(url):
        raise LineError("invalid_url", "url must be the batch's endpoint, such as /v1/completions", "url")
    if not isinstance(body, dict):
        raise LineError("invalid_body", "body must be a JSON object", "body")
    return Line(number, custom_id, url, cast("dict[str, Any]", body))


def _is_text(value: str) -> bool:
    """Whether a database can hold it: no NUL, no half of a surrogate pair."""
    return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise LineError("invalid_json_line", "the line is not UTF-8") from None
    except RecursionError:
        raise LineError("invalid_json_line", "the line is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise LineError("invalid_json_line", f"the line is not JSON: {error.msg} at column {error.colno}") from None
    except ValueError:
        raise LineError("invalid_json_line", "the line holds a number that JSON does not know") from None


class LineSplitter:
    """Bytes in any pieces to numbered lines, without their ends. A line over the limit comes out empty and `long`."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.number = 0
        self._kept = bytearray()
        self._long = False

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes, bool]]:
        """The lines that end in this piece: (number, bytes, whether it was too long)."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._keep(data[start:end])
            yield self._take()
            start = end + 1
        self._keep(data[start:])

    def finish(self) -> Iterator[tuple[int, bytes, bool]]:
        """The last line, if no line end follows it."""
        if self._kept or self._long:
            yield self._take()

    def _keep(self, data: bytes) -> None:
        if self._long or len(self._kept) + len(data) > self.max_bytes:
            self._long = True
            self._kept.clear()
        else:
            self._kept += data

    def _take(self) -> tuple[int, bytes, bool]:
        line, too_long = bytes(self._kept), self._long
        self.number, self._long = self.number + 1, False
        self._kept.clear()
        if self.number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        return self.number, line.strip(b" \t\r"), too_long


@dataclass(slots=True)
class Summary:
    """What a batch needs to know of its input before it runs. `urls` maps each url to the first line that has it."""

    lines: int = 0
    urls: dict[str, int] = field(default_factory=dict[str, int])
    problems: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    unnamed_problems: int = 0

    def add(self, code: str, message: str, line: int | None = None, param: str | None = None) -> None:
        """Note a problem, by name as long as there are few."""
        if len(self.problems) < PROBLEMS_LIMIT:
            self.problems.append(problem(code, message, line, param))
        else:
            self.unnamed_problems += 1

    def all_problems(self) -> list[dict[str, Any]]:
        """The problems, and how many more there are."""
        if not self.unnamed_problems:
            return self.problems
        return [*self.problems, problem("more_errors", f"and {self.unnamed_problems} more lines are wrong")]


class LineChecker:
    """Checks an input file while it arrives: form of each line, limits, and that no custom_id comes twice."""

    def __init__(self, max_lines: int, max_line_bytes: int) -> None:
        self.summary = Summary()
        self._max_lines = max_lines
        self._splitter = LineSplitter(max_line_bytes)
        self._seen: dict[bytes, int] = {}

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        self._check(self._splitter.feed(data))

    def finish(self) -> Summary:
        """What was found, once all bytes were fed."""
        self._check(self._splitter.finish())
        if self.summary.lines == 0 and not self.summary.problems:
            self.summary.add("empty_file", "the file has no lines")
        if self.summary.lines > self._max_lines:
            message = f"the file has {self.summary.lines} lines, and a batch at most {self._max_lines}"
            self.summary.add("too_many_lines", message)
        return self.summary

    def _check(self, lines: Iterable[tuple[int, bytes, bool]]) -> None:
        for number, raw, too_long in lines:
            if not raw and not too_long:
                continue  # an empty line is no request
            self.summary.lines += 1
            if self.summary.lines > self._max_lines:
                continue
            try:
                if too_long:
                    message = f"the line is longer than {self._splitter.max_bytes} bytes"
                    raise LineError("line_too_long", message)
                self._check_line(parse_line(number, raw))
            except LineError as error:
                self.summary.add(error.code, error.message, number, error.param)

    def _check_line(self, line: Line) -> None:
        digest = blake2b(line.custom_id.encode(), digest_size=16).digest()
        first = self._seen.setdefault(digest, line.number)
        if first != line.number:
            raise LineError("duplicate_custom_id", f"custom_id is that of line {first} too", "custom_id")
        urls = self.summary.urls
        if line.url not in urls and len(urls) < URLS_LIMIT:
            urls[line.url] = line.number


class Window(NamedTuple):
    """The next lines of a file: number and bytes of each, and where they leave it."""

    lines: list[tuple[int, bytes]]
    number: int
    """The last line seen; empty ones are counted and left out."""
    taken: int
    """Bytes."""
    ended: bool


def read_window(pieces: Iterable[bytes], number: int, max_lines: int, max_bytes: int) -> Window:
    """The lines after line `number`, from the bytes that follow it, up to about so many lines or bytes."""
    found: list[tuple[int, bytes]] = []
    kept, taken = b"", 0
    for piece in pieces:
        kept += piece
        start = 0
        while (end := kept.find(b"\n", start)) >= 0:
            number, taken = number + 1, taken + end + 1 - start
            _add(found, number, kept[start:end])
            start = end + 1
            if len(found) >= max_lines or taken >= max_bytes:
                return Window(found, number, taken, ended=False)
        kept = kept[start:]
    if kept:
        number += 1
        _add(found, number, kept)
    return Window(found, number, taken + len(kept), ended=True)


def _add(found: list[tuple[int, bytes]], number: int, raw: bytes) -> None:
    line = (raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw).strip(b" \t\r")
    if line:
        found.append((number, line))
