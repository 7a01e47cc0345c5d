"""API keys: made once, kept as hashes, compared in constant time.

A key is 256 random bits, so its plain SHA-256 is safe to keep: there is no dictionary to try, and nothing to slow down.
A password's hash would cost every request a tenth of a second to defend against guesses that cannot be made.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from sampler.errors import InvalidParams

PREFIX = "pck-"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
HASH = re.compile(r"[0-9a-f]{64}")
ANONYMOUS = "anonymous"
"""The name of all callers together where no key is set. They are one caller: an address proves nothing."""
KEYS_LIMIT = 10_000
FILE_LIMIT = 4 << 20
"""Bytes of a key file that are read."""


class Keys:
    """The keys that are let in: name → SHA-256 of the key. None at all lets everybody in."""

    def __init__(self, hashes: dict[str, str] | None = None) -> None:
        self._hashes = dict(hashes or {})

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def __len__(self) -> int:
        return len(self._hashes)

    def text(self) -> str:
        """The keys as the setting `keys` has them."""
        return ",".join(f"{name}:{digest}" for name, digest in self._hashes.items())

    def name_of(self, key: bytes) -> str | None:
        """Whose key this is. Looks at every key to the end, so that the time tells nothing of which came close."""
        digest, found = hashlib.sha256(key).hexdigest(), None
        for name, known in self._hashes.items():
            found = name if hmac.compare_digest(known, digest) else found
        return found


def new_key(name: str) -> tuple[str, str]:
    """A fresh key, and the line `NAME:HASH` that lets it in."""
    check_name(name)
    key = PREFIX + secrets.token_urlsafe(32)
    return key, f"{name}:{hashlib.sha256(key.encode()).hexdigest()}"


def check_name(name: str) -> None:
    """Raise `InvalidParams` for what cannot name a key."""
    if not NAME.fullmatch(name) or name == ANONYMOUS:
        raise InvalidParams(
            "keys", f"a key's name is 1 to 64 letters, digits, dots, dashes and underscores, but not {ANONYMOUS!r}"
        )


def read_keys(text: str | None, file: Path | None) -> Keys:
    """The keys of a setting and of a file together; raises `InvalidParams` saying what is wrong with which line."""
    hashes: dict[str, str] = {}
    if text:
        _add(hashes, re.split(r"[,\n]", text), "keys")
    if file is not None:
        _add(hashes, _lines(file), f"key file {file}")
        if not hashes:
            raise InvalidParams("key_file", f"key file {file}: holds no key, which would let nobody in")
    return Keys(hashes)


def _lines(file: Path) -> list[str]:
    try:
        with file.open("rb") as stream:
            content = stream.read(FILE_LIMIT + 1)
        if len(content) > FILE_LIMIT:
            raise InvalidParams("key_file", f"key file {file}: larger than {FILE_LIMIT} bytes")
        return content.decode().splitlines()
    except OSError as error:
        raise InvalidParams("key_file", f"key file {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidParams("key_file", f"key file {file}: is not text") from None


def _add(hashes: dict[str, str], lines: Iterable[str], where: str) -> None:
    for number, line in enumerate(lines, 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        name, _, digest = entry.partition(":")
        if not HASH.fullmatch(digest.strip().lower()):  # the line is not shown: it might hold a key
            raise InvalidParams("keys", f"{where}, entry {number}: want NAME:HASH as `powercut key NAME` prints it")
        check_name(name)
        if name in hashes:
            raise InvalidParams("keys", f"{where}, entry {number}: a key named {name} is there already")
        if len(hashes) >= KEYS_LIMIT:
            raise InvalidParams("keys", f"{where}: more than {KEYS_LIMIT} keys")
        hashes[name] = digest.strip().lower()
