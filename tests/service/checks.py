"""What every error and every server must satisfy."""

from typing import Any

import httpx

GOOD: dict[str, Any] = {
    "model": "letters",
    "prompt": "hi",
    "max_tokens": 4,
    "seed": 1,
    "power": {"blocks": 2, "steps_per_block": 1},
}
ERROR_LIMIT = 1200
"""Characters of the longest error: nothing huge is echoed."""


def assert_error(reply: httpx.Response, status: int) -> dict[str, Any]:
    """The error object of a reply in OpenAI's shape."""
    assert reply.status_code == status, reply.text[:500]
    assert len(reply.content) < ERROR_LIMIT
    body = reply.json()
    assert body.keys() == {"error"}
    error = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error" if status < 500 and status != 429 else error["type"]
    assert error["message"]
    assert "Traceback" not in error["message"]
    return error


def assert_still_answers(http: httpx.Client) -> None:
    """The server answers a good request."""
    reply = http.post("/v1/completions", json=GOOD)
    assert reply.status_code == 200, reply.text[:500]
    assert reply.json()["choices"][0]["power"]["ended_by"] == "completed"
