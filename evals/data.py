"""The data folder: where benchmark files lie, and that they are the pinned ones.

No benchmark text is part of this repository. `powercut-eval data fetch` brings the files once; every later read checks
the sha256 again, because published scores depend on the copy (of AIME 2025, six questions of thirty are worded
differently between two public copies).
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from evals.errors import DataMismatch, DataMissing
from evals.problem import DataSet, Problem


@dataclass(frozen=True, slots=True)
class Source:
    """One benchmark's file: how it is called here, what it must hash to, and where its bytes come from.

    Attributes:
        benchmark: The benchmark's name.
        file: Its name in the data folder.
        sha256: Of the file in the data folder.
        url: Where it is downloaded; `{hub}` stands for the Hugging Face endpoint.
        origin: The repository or data set, for people and records.
        revision: The pinned commit there.
        upstream_sha256: Of the bytes that the url gives, where these are made into the file by `convert`.
        convert: Upstream bytes to the file's bytes.
        upstream_names: Other names under which the upstream file may lie in a folder given with `--from`.
        gated: How a person gets access, where the download needs it.
    """

    benchmark: str
    file: str
    sha256: str
    url: str
    origin: str
    revision: str
    upstream_sha256: str | None = None
    convert: Callable[[bytes], bytes] | None = None
    upstream_names: tuple[str, ...] = ()
    gated: str | None = None

    def made_from(self, raw: bytes) -> bytes:
        """The file's bytes from downloaded or given ones: the file itself, or what upstream has.

        Raises:
            DataMismatch: The bytes are neither, or the conversion does not give the pinned file.
        """
        found = hashlib.sha256(raw).hexdigest()
        if self.convert is not None and found == self.upstream_sha256:
            raw = self.convert(raw)
            found = hashlib.sha256(raw).hexdigest()
        if found != self.sha256:
            wanted = f"{self.sha256} ({self.file})"
            if self.upstream_sha256:
                wanted += f" or {self.upstream_sha256} (as {self.origin} has it)"
            raise DataMismatch(f"{self.benchmark}: sha256 {found}, wanted {wanted}; such a file is refused")
        return raw

    def data_set(self, problems: tuple[Problem, ...]) -> DataSet:
        """The problems of the verified file, and where it came from."""
        return DataSet(self.benchmark, problems, self.sha256, self.origin, self.revision)


def default_folder() -> Path:
    """The user's own data folder, as the operating system places it."""
    return platformdirs.user_data_path("powercut") / "benchmarks"


def read(source: Source, folder: Path | None) -> bytes:
    """The verified bytes of a benchmark's file.

    Raises:
        DataMissing: The file is not there.
        DataMismatch: It is there and is not the pinned one.
    """
    folder = folder or default_folder()
    path = folder / source.file
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataMissing(
            f"{source.benchmark}: no {source.file} in {folder} ({error.strerror}); bring it with "
            f"`powercut-eval data fetch {source.benchmark}`, or name the folder that has it with --data"
        ) from error
    if (found := hashlib.sha256(raw).hexdigest()) != source.sha256:
        raise DataMismatch(
            f"{source.benchmark}: {path} has sha256 {found}, wanted {source.sha256}; such a file is refused"
        )
    return raw


def store(source: Source, raw: bytes, folder: Path) -> Path:
    """Write a verified file so that a reader sees all of it or nothing, whenever the writer dies."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / source.file
    handle, name = tempfile.mkstemp(prefix=f".{source.file}.", suffix=".part", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(source.made_from(raw))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def json_lines(raw: bytes) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file."""
    return [json.loads(line) for line in raw.decode("utf-8").splitlines() if line.strip()]


def as_json_lines(rows: list[dict[str, Any]]) -> bytes:
    """Rows as the data folder keeps them."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
