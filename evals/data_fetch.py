"""Bringing benchmark files: over HTTPS by pinned revision, or from a folder of the user's. Verified either way."""

import os
from pathlib import Path

import httpx
from huggingface_hub import get_token

from evals.data import Source, store
from evals.errors import DataError, DataMissing

LARGEST_BYTES = 64 << 20
"""No benchmark file is near this; a server that sends more is not sending one."""
HUB = "https://huggingface.co"


def hub() -> str:
    """The Hugging Face endpoint: `HF_ENDPOINT`, as its own libraries read it, or the public one."""
    return os.environ.get("HF_ENDPOINT", HUB).rstrip("/")


def from_folder(source: Source, given: Path, folder: Path) -> Path:
    """Take a file from a folder: under our name, or as upstream has it.

    Raises:
        DataMissing: The folder has neither.
        DataMismatch: It has one and that is not the pinned one.
    """
    names = (source.file, *source.upstream_names)
    for name in names:
        if (given / name).is_file():
            return store(source, (given / name).read_bytes(), folder)
    raise DataMissing(f"{source.benchmark}: none of {', '.join(names)} is in {given}")


def from_web(source: Source, folder: Path, client: httpx.Client) -> Path:
    """Download a file and keep it if it is the pinned one.

    Raises:
        DataError: The server cannot be reached or refuses.
        DataMismatch: It sent something else.
    """
    url = source.url.format(hub=hub())
    # Only the hub gets the token; httpx drops it when a redirect leads to another host.
    token = get_token() if "{hub}" in source.url else None
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with client.stream("GET", url, headers=headers, follow_redirects=True) as reply:
            if reply.status_code in (401, 403) and source.gated:
                raise DataError(f"{source.benchmark}: {_refused(reply.status_code, token)}. {source.gated}")
            reply.raise_for_status()
            raw = _body(source, reply)
    except httpx.HTTPStatusError as error:
        raise DataError(
            f"{source.benchmark}: {url} answered {error.response.status_code}. {_instead(source)}"
        ) from error
    except httpx.HTTPError as error:
        raise DataError(
            f"{source.benchmark}: {url} cannot be had ({error or type(error).__name__}). {_instead(source)}"
        ) from error
    return store(source, raw, folder)


def _refused(status: int, token: str | None) -> str:
    said = "with the token that was sent" if token else "and no token was found"
    return f"the data set is gated, {said} the hub answers {status}"


def _instead(source: Source) -> str:
    return f"A copy of {source.file} can be given with `powercut-eval data fetch {source.benchmark} --from FOLDER`"


def _body(source: Source, reply: httpx.Response) -> bytes:
    """The reply's bytes, stopped where no benchmark file would still go on.

    Bytes are taken as `iter_bytes` gives them: a content encoding is undone, a `.gz` file is left as it is.
    """
    parts, size = [], 0
    for part in reply.iter_bytes():
        size += len(part)
        if size > LARGEST_BYTES:
            raise DataError(
                f"{source.benchmark}: the server sends more than {LARGEST_BYTES >> 20} MiB; this is not the file"
            )
        parts.append(part)
    return b"".join(parts)
