"""The replies of the file and batch routes, for the published schema: OpenAI's objects and what is ours in them."""

from typing import Any, Literal

from pydantic import BaseModel

from service.api.replies import ErrorReply

MORE_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply, "description": description}
    for status, description in {
        409: "The batch has ended, or an open batch reads the file",
        503: "The job store is away, or the server stops: try again after `Retry-After` seconds",
        507: "The job store has no space left",
    }.items()
}


class FileReply(BaseModel):
    """OpenAI's file object. `status_details` says what is wrong with the lines of an input file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed", "error"]
    status_details: str | None = None


class ListReply(BaseModel):
    """OpenAI's list of objects."""

    object: Literal["list"]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileList(ListReply):
    """Files of one key."""

    data: list[FileReply]


class DeletedReply(BaseModel):
    """A file that is gone."""

    id: str
    object: Literal["file"]
    deleted: bool


class BatchProblem(BaseModel):
    """What is wrong with a line of the input, or with the whole of it."""

    code: str
    line: int | None
    message: str
    param: str | None


class BatchProblems(BaseModel):
    """Why a batch failed before it ran."""

    object: Literal["list"]
    data: list[BatchProblem]


class RequestCounts(BaseModel):
    """Rows of a batch; `resumed` counts each time that a row was begun again after whoever ran it had gone."""

    total: int
    completed: int
    failed: int
    resumed: int


class BatchUsage(BaseModel):
    """Sums over the finished rows; `power` has the chains' costs as `usage.power` of a completion names them."""

    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int
    power: dict[str, int]


class BatchReply(BaseModel):
    """OpenAI's batch object."""

    id: str
    object: Literal["batch"]
    endpoint: str
    model: str | None
    errors: BatchProblems | None
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str]
    usage: BatchUsage


class BatchList(ListReply):
    """Batches of one key."""

    data: list[BatchReply]
