"""A row's line in the output or the error file, in OpenAI's shape."""

import json
from hashlib import blake2b
from typing import Any

from service.jobs.rows import Key, Outcome


def request_id(key: Key) -> str:
    """The id of a row's answer; the same whoever runs it."""
    digest = blake2b(f"{key.batch_id} {key.number}".encode(), digest_size=16).hexdigest()
    return f"batch_req_{digest}"


def row_seed(key: Key, prompt: int) -> int:
    """The seed of a row that gives none: drawn once, however often the row is run. Batch ids are random."""
    digest = blake2b(f"{key.batch_id} {key.number} {prompt}".encode(), digest_size=8, person=b"row seed").digest()
    return int.from_bytes(digest, "little") >> 1


def response_outcome(key: Key, custom_id: str, status: int, body: dict[str, Any]) -> Outcome:
    """The outcome of a row that was answered, well or with an error. Raises `ValueError` for what is not JSON."""
    answered = {"status_code": status, "request_id": request_id(key), "body": body}
    line = {"id": request_id(key), "custom_id": custom_id, "response": answered, "error": None}
    return Outcome(key, status < 400, json.dumps(line, allow_nan=False), usage_of(body))


def error_outcome(key: Key, custom_id: str, error: dict[str, Any]) -> Outcome:
    """The outcome of a row that was never answered."""
    named = {"code": error["code"], "message": error["message"]}
    line = {"id": request_id(key), "custom_id": custom_id, "response": None, "error": named}
    return Outcome(key, False, json.dumps(line), {})


def usage_of(body: dict[str, Any]) -> dict[str, int]:
    """What an answer says it cost, under the names of a batch's sums."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return {}
    power = usage.get("power") or {}
    found = {"input_tokens": usage.get("prompt_tokens", 0), "output_tokens": usage.get("completion_tokens", 0)}
    generated = power.get("generated_tokens", found["output_tokens"])
    steps = {name: int(power.get(name, 0)) for name in ("steps", "accepted", "moved")}
    return {**found, "generated_tokens": generated, **steps}
