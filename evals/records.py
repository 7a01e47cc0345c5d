"""A run's folder: its settings, and its records, one line of JSON an answer, that survive a kill at any moment.

A line is written whole, flushed and synced before the answer counts as done. A kill leaves at most one torn line, the
last, which is dropped when the run goes on. One process at a time writes to a folder.
"""

import json
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from evals.errors import FolderInUse, OptionError, RecordsDamaged, RunError, SettingsDiffer
from evals.settings import Settings, differences

RECORDS = "records.jsonl"
SETTINGS = "settings.json"
LOCK = ".lock"
ANSWERED, FAILED = "answered", "failed"

Record = Mapping[str, Any]


class Key(NamedTuple):
    """Which answer a record is of."""

    arm: str
    problem: str
    repeat: int


def key_of(record: Record) -> Key:
    """Which answer a record is of."""
    return Key(record["arm"], record["problem"], record["repeat"])


class Folder:
    """The output folder of one run, open for writing. A context manager.

    Raises:
        FolderInUse: Another process has it open.
        SettingsDiffer: It holds a run with other settings.
        RecordsDamaged: Its records cannot be read.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path, self.settings, self.digest = path, settings, settings.digest
        self.done: dict[Key, Record] = {}
        self._writing = threading.Lock()
        self._lock = FileLock(path / LOCK)
        self._file: int | None = None

    def __enter__(self) -> "Folder":
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise FolderInUse(f"{self.path}: another powercut-eval is writing to this folder") from None
        except OSError as error:
            raise RunError(f"{self.path}: {error.strerror or error}") from None
        try:
            self._settle()
            content = recover(self.path / RECORDS)
            self.done = {key: slim(record) for key, record in latest(parse(content, self.path / RECORDS)).items()}
            self._file = os.open(self.path / RECORDS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        with self._writing:
            if self._file is not None:
                os.close(self._file)
                self._file = None
        self._lock.release()

    def append(self, record: Record) -> None:
        """Write one record so that it stays. May be called from any thread."""
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"
        with self._writing:
            assert self._file is not None, "the folder is open"
            try:
                write_all(self._file, line)
                os.fsync(self._file)
            except OSError as error:
                raise RunError(f"{self.path / RECORDS}: {error.strerror or error}") from error
            self.done[key_of(record)] = slim(record)

    def answered(self, key: Key) -> Record | None:
        """Status, tokens and verdict of an answer that is there. A failure is none: it is asked again."""
        found = self.done.get(key)
        return found if found is not None and found["status"] == ANSWERED else None

    def _settle(self) -> None:
        """Compare with the settings that are there, or write them down first."""
        path = self.path / SETTINGS
        if path.exists():
            found = differences(read_settings(self.path).get("identity", {}), self.settings.identity)
            if found:
                told = "\n  ".join(found)
                advice = "give another --output, or the same settings"
                raise SettingsDiffer(f"{self.path} holds a run with other settings; {advice}:\n  {told}")
            return
        if (self.path / RECORDS).exists():
            raise RecordsDamaged(f"{self.path} holds {RECORDS} without {SETTINGS}: not a run's folder")
        content = {"digest": self.digest, "identity": self.settings.identity}
        write_atomically(path, json.dumps(content, indent=2).encode() + b"\n")


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of the run in a folder: `digest` and `identity`."""
    try:
        return json.loads((folder / SETTINGS).read_bytes())
    except FileNotFoundError:
        raise OptionError(f"{folder} holds no run: there is no {SETTINGS}") from None
    except (OSError, ValueError) as error:
        raise RecordsDamaged(f"{folder / SETTINGS}: {error}") from None


def read_records(folder: Path) -> dict[Key, Record]:
    """The records of the run in a folder, the last of each answer; a torn last line is left out, nothing is changed."""
    path = folder / RECORDS
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    return latest(parse(content[: whole(content)], path))


def recover(path: Path) -> bytes:
    """The records' bytes, after cutting a torn last line off the file."""
    if not path.exists():
        return b""
    content = path.read_bytes()
    end = whole(content)
    if end < len(content):
        with path.open("r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())
    return content[:end]


def whole(content: bytes) -> int:
    """Where the last whole line ends. A last line that a power cut left unreadable is torn as well."""
    end = content.rfind(b"\n") + 1
    last = content.rfind(b"\n", 0, max(0, end - 1)) + 1
    return end if end == 0 or readable(content[last:end]) else last


def readable(line: bytes) -> bool:
    """Whether a line is a record."""
    try:
        key_of(json.loads(line))
    except (ValueError, KeyError, TypeError):
        return False
    return True


def parse(content: bytes, path: Path) -> Iterable[Record]:
    """Every record of whole lines."""
    for number, line in enumerate(content.splitlines(), 1):
        if not readable(line):
            raise RecordsDamaged(f"{path}, line {number}: not a record; a kill cannot have done this")
        yield json.loads(line)


def latest(records: Iterable[Record]) -> dict[Key, Record]:
    """The record of each answer that counts: the last, since a failure is asked again."""
    return {key_of(record): record for record in records}


def slim(record: Record) -> Record:
    """What a run needs to know of an answer that is there; the texts stay on the disk."""
    return {name: record.get(name) for name in ("status", "tokens", "verdict")}


def write_all(file: int, content: bytes) -> None:
    """`os.write` until all is written."""
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]


def write_atomically(path: Path, content: bytes) -> None:
    """The whole new content or the old one, whatever happens in between."""
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
