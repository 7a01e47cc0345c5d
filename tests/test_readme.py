"""The README's own request, sent to the README's own server."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.serving import serving_command

ROOT = Path(__file__).parents[1]


def readme_request() -> tuple[str, dict[str, object]]:
    """Path and body of the README's curl."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    match = re.search(r"curl -s http://127\.0\.0\.1:8000(\S+) .*?-d '(\{.*?\})'", text, re.DOTALL)
    assert match, "the README shows a request"
    return match[1], json.loads(match[2])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    patience_s = 280  # a fresh machine converts the default model first
    with serving_command([], tmp_path / "log.txt", patience_s) as url:
        yield url


@pytest.mark.model
def test_the_readme_request_gives_a_completion_with_its_cost(server: str) -> None:
    path, body = readme_request()
    reply = httpx.post(server + path, json=body, timeout=240)
    assert reply.status_code == 200, reply.text
    data = reply.json()
    assert data["choices"][0]["text"].strip()
    assert data["choices"][0]["power"]["ended_by"] == "completed"
    usage = data["usage"]["power"]
    assert usage["steps"] == 20
    assert usage["generated_tokens"] >= data["usage"]["completion_tokens"]
    assert usage["cost_ratio"] > 1
    again = httpx.post(server + path, json=body, timeout=240).json()
    assert again["choices"][0]["text"] == data["choices"][0]["text"], "the seed fixes the answer"


def test_every_file_the_readme_links_to_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert links
    assert all((ROOT / link).is_file() for link in links)
