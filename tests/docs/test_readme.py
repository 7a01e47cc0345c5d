"""The README's own request, sent to the README's own server: what it says of the reply is so."""

import json
import re

import httpx
import pytest

from tests.docs.blocks import ROOT


def readme_request() -> tuple[str, dict[str, object]]:
    """Path and body of the README's curl."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    match = re.search(r"curl -s http://127\.0\.0\.1:8000(\S+) .*?-d '(\{.*?\})'", text, re.DOTALL)
    assert match, "the README shows a request"
    return match[1], json.loads(match[2])


@pytest.mark.model
def test_the_readme_request_gives_a_completion_with_its_cost(model_server: str) -> None:
    path, body = readme_request()
    reply = httpx.post(model_server + path, json=body, timeout=240)
    assert reply.status_code == 200, reply.text
    data = reply.json()
    assert data["choices"][0]["text"].strip()
    assert data["choices"][0]["power"]["ended_by"] == "completed"
    usage = data["usage"]["power"]
    assert usage["steps"] == 20
    assert usage["generated_tokens"] >= data["usage"]["completion_tokens"]
    assert usage["cost_ratio"] > 1
    again = httpx.post(model_server + path, json=body, timeout=240).json()
    assert again["choices"][0]["text"] == data["choices"][0]["text"], "the seed fixes the answer"
