"""One batch's life, in OpenAI's words: validating → in_progress → finalizing → completed, and the ways out of it."""

import json
import re
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, or_, select, update
from sqlalchemy.engine import Row

from service.errors import ApiError
from service.jobs.database import Database, db_now
from service.jobs.files import OPEN, Files, new_id
from service.jobs.lines import problem
from service.jobs.tables import batches, rows

BATCH_ID = re.compile(r"batch_[0-9a-f]{32}")
WINDOW = re.compile(r"([1-9][0-9]{0,5})([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST_WINDOW_S = 30 * 86_400
USAGE = ("input_tokens", "output_tokens", "generated_tokens", "steps", "accepted", "moved")


def window_s(text: str) -> int:
    """The seconds of a `completion_window` such as 24h; raises 422."""
    found = WINDOW.fullmatch(text)
    seconds = int(found[1]) * SECONDS[found[2]] if found else 0
    if not 0 < seconds <= LONGEST_WINDOW_S:
        message = "completion_window: a time such as 24h, from 1s to 30d"
        raise ApiError(422, message, param="completion_window")
    return seconds


def no_such_batch(batch_id: str) -> ApiError:
    """404, whatever the id is: missing, another's, or no id at all."""
    return ApiError(404, f"there is no batch {batch_id[:64]!r}", param="batch_id", code="batch_not_found")


class Batches:
    """The batches of all owners."""

    def __init__(self, database: Database, files: Files) -> None:
        self.database, self.files = database, files

    def create(
        self,
        owner: str,
        endpoint: str,
        model: str | None,
        input_file_id: str,
        completion_window: str,
        metadata: dict[str, str],
    ) -> dict[str, Any]:
        """A batch on an uploaded file. If the file was found wrong it has failed at once, and says why."""
        seconds = window_s(completion_window)
        with self.database.write() as connection:
            file = self.files.find(owner, input_file_id, connection)
            if file.purpose != "batch":
                message = f"input_file_id: the file's purpose is {file.purpose}, not batch"
                raise ApiError(422, message, param="input_file_id")
            problems = json.loads(file.problems)
            problems += [
                problem("mismatched_url", f"url is {url[:128]}, and the batch's endpoint {endpoint}", line, "url")
                for url, line in json.loads(file.urls).items()
                if url != endpoint
            ]
            batch_id = new_id("batch")
            values = {
                "id": batch_id,
                "owner": owner,
                "endpoint": endpoint,
                "model": model,
                "status": "failed" if problems else "validating",
                "failed_at": db_now() if problems else None,
                "input_file_id": input_file_id,
                "completion_window": completion_window,
                "metadata": json.dumps(metadata),
                "errors": json.dumps(problems),
                "created_at": db_now(),
                "expires_at": db_now() + float(seconds),
                "total": 0 if problems else file.lines,
                "usage": "{}",
                "last_claim": 0.0,
            }
            zeros = dict.fromkeys(("completed", "failed", "resumed", "read_bytes", "read_lines"), 0)
            connection.execute(insert(batches).values(**values, **zeros))
            return batch_object(self.find(owner, batch_id, connection))

    def find(self, owner: str, batch_id: str, connection: Connection) -> Row[Any]:
        """A batch's row; raises 404."""
        found = None
        if BATCH_ID.fullmatch(batch_id) is not None:
            query = select(batches).where(batches.c.id == batch_id, batches.c.owner == owner)
            found = connection.execute(query).first()
        if found is None:
            raise no_such_batch(batch_id)
        return found

    def get(self, owner: str, batch_id: str) -> dict[str, Any]:
        """OpenAI's batch object; raises 404."""
        with self.database.read() as connection:
            return batch_object(self.find(owner, batch_id, connection))

    def page(self, owner: str, after: str | None, limit: int) -> tuple[list[dict[str, Any]], bool]:
        """Batch objects after one of them, newest first, and whether there are more."""
        query = select(batches).where(batches.c.owner == owner)
        with self.database.read() as connection:
            if after is not None:
                last = self.find(owner, after, connection)
                same_time = and_(batches.c.created_at == last.created_at, batches.c.id < last.id)
                query = query.where(or_(batches.c.created_at < last.created_at, same_time))
            newest = query.order_by(batches.c.created_at.desc(), batches.c.id.desc()).limit(limit + 1)
            found = connection.execute(newest).all()
        return [batch_object(row) for row in found[:limit]], len(found) > limit

    def cancel(self, owner: str, batch_id: str) -> dict[str, Any]:
        """Stop a batch; 409 if it has ended. Its rows are gone at once, and whoever runs one drops it then."""
        with self.database.write() as connection:
            batch = self.find(owner, batch_id, connection)
            if batch.status not in OPEN or batch.status == "finalizing":
                message = f"the batch is {batch.status} and cannot be cancelled"
                raise ApiError(409, message, code="batch_not_cancellable")
            if batch.status != "cancelling":
                change(connection, batch_id, ("validating", "in_progress"), "cancelling")
            connection.execute(delete(rows).where(rows.c.batch_id == batch_id))
            return batch_object(self.find(owner, batch_id, connection))


def change(connection: Connection, batch_id: str, before: tuple[str, ...], after: str, **values: Any) -> bool:
    """Move a batch to a status and note the time; False, and nothing done, if it was in none of `before`."""
    stamped = {f"{after}_at": db_now(), **values}
    moved = update(batches).where(batches.c.id == batch_id, batches.c.status.in_(before))
    return connection.execute(moved.values(status=after, **stamped)).rowcount == 1


def batch_object(row: Row[Any]) -> dict[str, Any]:
    """OpenAI's batch object. What is ours beside it: `request_counts.resumed`, and in `usage` what rows cost."""
    errors, usage = json.loads(row.errors), json.loads(row.usage)
    sums = {name: usage.get(name, 0) for name in USAGE}
    times = (
        "created_at",
        "in_progress_at",
        "expires_at",
        "finalizing_at",
        "completed_at",
        "failed_at",
        "expired_at",
        "cancelling_at",
        "cancelled_at",
    )
    return {
        "id": row.id,
        "object": "batch",
        "endpoint": row.endpoint,
        "model": row.model,
        "errors": {"object": "list", "data": errors} if errors else None,
        "input_file_id": row.input_file_id,
        "completion_window": row.completion_window,
        "status": row.status,
        "output_file_id": row.output_file_id,
        "error_file_id": row.error_file_id,
        **{name: None if (at := getattr(row, name)) is None else int(at) for name in times},
        "request_counts": {
            "total": row.total,
            "completed": row.completed,
            "failed": row.failed,
            "resumed": row.resumed,
        },
        "metadata": json.loads(row.metadata),
        "usage": {
            "input_tokens": sums.pop("input_tokens"),
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": sums.pop("output_tokens"),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.get("input_tokens", 0) + usage.get("output_tokens", 0),
            "power": sums,
        },
    }
