"""`/v1/files`: OpenAI's files, for what batches read and write. Everybody sees the files of their own key."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from fastapi.responses import JSONResponse, StreamingResponse

from service.api.job_replies import MORE_ERRORS, DeletedReply, FileList, FileReply
from service.auth import StreamedRoute, WatchingRoute, keyed_router
from service.call import call_of
from service.errors import ApiError
from service.jobs.files import Upload
from service.jobs.store import Store
from service.jobs.unavailable import StoreUnavailable
from service.jobs.upload import Form, read_form

router = keyed_router()
reading = keyed_router(WatchingRoute)
sending = keyed_router(StreamedRoute)
Purpose = Literal["batch", "batch_output"]
EXPIRES = re.compile(r"[1-9][0-9]{0,8}")
EXPIRES_S = (3600, 30 * 86_400)
OVERHEAD_BYTES = 1 << 16
"""What a form may have beside its file."""
CONTENT: dict[int | str, dict[str, Any]] = MORE_ERRORS | {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}
FORM: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["purpose", "file"],
                "additionalProperties": False,
                "properties": {
                    "purpose": {"type": "string", "enum": ["batch"]},
                    "file": {"type": "string", "format": "binary"},
                    "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                    "expires_after[seconds]": {"type": "integer", "minimum": EXPIRES_S[0], "maximum": EXPIRES_S[1]},
                },
            }
        }
    },
}
"""The schema's word on a body that is read as it arrives, and not by FastAPI."""


def store_of(request: Request) -> Store:
    """The application's store."""
    return request.app.state.store


class StoredUpload:
    """Puts an upload's bytes into the store as they arrive."""

    def __init__(self, store: Store, owner: str) -> None:
        self.store, self.owner = store, owner
        self.upload: Upload | None = None

    async def begin(self) -> None:
        """See `Sink`."""
        self.upload = await self.store.call(self.store.files.begin, self.owner)

    async def write(self, data: bytes) -> None:
        """See `Sink`."""
        assert self.upload is not None, "bytes come after their beginning"
        await self.store.call(self.upload.write, data)

    async def drop(self) -> None:
        """Forget what arrived; what cannot be forgotten now is swept away later."""
        if self.upload is not None:
            with suppress(StoreUnavailable):
                await self.store.call(self.upload.drop)


@router.post(
    "/v1/files",
    response_model=FileReply,
    response_model_exclude_unset=True,
    responses=MORE_ERRORS,
    openapi_extra={"requestBody": FORM},
)
async def upload_file(request: Request) -> JSONResponse:
    """Upload the JSONL file of a batch. It is checked while it arrives; what is wrong, `status_details` tells."""
    store = store_of(request)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > store.files.limits.max_bytes + OVERHEAD_BYTES:
        message = f"the file is larger than {store.files.limits.max_bytes} bytes"
        raise ApiError(413, message, param="file", code="file_too_large")
    arriving = StoredUpload(store, call_of(request).key)
    try:
        form = await read_form(request, arriving)
        expires_s = check_form(form)
        assert arriving.upload is not None, "a form with a file name has a file"
        made = await store.call(arriving.upload.finish, form.filename or "", "batch", expires_s)
    except BaseException:
        await arriving.drop()
        raise
    return JSONResponse(made)


def check_form(form: Form) -> int | None:
    """Seconds until the file expires, None for the server's own; raises 422 for a form that is not an upload."""
    if form.filename is None:
        raise ApiError(422, "file: the form has no file", param="file")
    fields = dict(form.fields)
    if fields.pop("purpose", None) != "batch":
        raise ApiError(422, "purpose: must be batch", param="purpose")
    anchor, seconds = fields.pop("expires_after[anchor]", None), fields.pop("expires_after[seconds]", None)
    if fields:
        raise ApiError(422, f"unknown field {sorted(fields)[0][:64]!r}", code="unknown_field")
    if anchor is None and seconds is None:
        return None
    low, high = EXPIRES_S
    if anchor != "created_at" or EXPIRES.fullmatch(seconds or "") is None or not low <= int(seconds or 0) <= high:
        message = f"expires_after: the anchor must be created_at, and the seconds from {low} to {high}"
        raise ApiError(422, message, param="expires_after")
    return int(seconds or 0)


@reading.get("/v1/files", response_model=FileList, response_model_exclude_unset=True, responses=MORE_ERRORS)
async def list_files(
    request: Request,
    purpose: Annotated[Purpose | None, Query()] = None,
    after: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Annotated[Literal["asc", "desc"], Query()] = "desc",
) -> dict[str, Any]:
    """The files of this key, newest first."""
    store, owner = store_of(request), call_of(request).key
    page = await store.call(store.files.page, owner, purpose, after, limit, newest_first=order == "desc")
    return as_list(*page)


def as_list(data: list[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """OpenAI's list of objects."""
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return {"object": "list", "data": data, **ends, "has_more": has_more}


@reading.get("/v1/files/{file_id}", response_model=FileReply, response_model_exclude_unset=True, responses=MORE_ERRORS)
async def get_file(file_id: str, request: Request) -> dict[str, Any]:
    """What a file is."""
    store = store_of(request)
    return await store.call(store.files.get, call_of(request).key, file_id)


@router.delete("/v1/files/{file_id}", response_model=DeletedReply, responses=MORE_ERRORS)
async def delete_file(file_id: str, request: Request) -> dict[str, Any]:
    """Delete a file that no open batch reads."""
    store = store_of(request)
    await store.call(store.files.delete, call_of(request).key, file_id)
    return {"id": file_id, "object": "file", "deleted": True}


@sending.get("/v1/files/{file_id}/content", response_model=None, responses=CONTENT)
async def get_content(file_id: str, request: Request) -> StreamingResponse:
    """A file's bytes."""
    store = store_of(request)
    found = await store.call(store.files.find, call_of(request).key, file_id)
    pieces = store.files.content.read(file_id)
    first = await store.call(next, pieces, b"")  # what cannot be read is an error and not a broken stream
    headers = {"content-length": str(found.bytes), "content-disposition": "attachment"}
    return StreamingResponse(_rest(store, first, pieces), media_type="application/octet-stream", headers=headers)


async def _rest(store: Store, first: bytes, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while first:
        yield first
        first = await store.call(next, pieces, b"")
