"""An HTTP client of any server with OpenAI's shapes; what powercut says beyond them is read where it is there.

A call asked again is the same call, byte for byte, its seed included, so that asking again changes no law. Asked again
are 429, 502, 503, 504 and connections that broke; a wait past its limit and every other refusal is a `CallFailed`.
"""

import asyncio
import json
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from evals.errors import EvalsError

AGAIN = frozenset({429, 502, 503, 504})
MESSAGE_CHARS = 400
"""Of a server's error message, that much is kept."""
NOT_KEPT = frozenset({"token_ids", "chain", "diagnostics"})
"""Parts of `choices[].power` that can be as long as the answer; a record does without."""


class CallFailed(EvalsError):
    """A call that got no answer. `kind`: refused (4xx), failed (5xx), unreachable, timeout or malformed."""

    def __init__(self, kind: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.kind, self.message, self.status = kind, message, status

    def report(self) -> dict[str, Any]:
        """As a record keeps it."""
        return {"kind": self.kind, "status": self.status, "message": self.message}


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits in seconds: to connect and for an answer to be complete, and how calls are asked again.

    The wait before the next try is `Retry-After` (at most `retry_after_s`), or doubles from `backoff_s` up to
    `backoff_max_s`, shortened at random by up to half so that waiting clients do not return together.
    """

    connect_s: float = 10.0
    answer_s: float = 3600.0
    retries: int = 8
    retry_after_s: float = 300.0
    backoff_s: float = 0.5
    backoff_max_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `log_p` is Σ log p in nats over the shown text's tokens, if log-probabilities were asked for.

    `power` is `usage.power` and `chain` is `choices[0].power`, None from servers without them. `server_s` is the
    successful call's time, None in a batch, `waited_s` what failed tries and the waits between them took.
    """

    text: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    log_p: float | None
    power: dict[str, Any] | None
    chain: dict[str, Any] | None
    choice: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    server_s: float | None = None
    waited_s: float = 0.0
    tries: int = 1

    @property
    def generated_tokens(self) -> int | None:
        """Every token that was drawn for this answer; those of the answer where the server does not say more."""
        return self.power["generated_tokens"] if self.power else self.completion_tokens


class Client:
    """Calls to one server. Use as an async context manager."""

    def __init__(self, url: str, api_key: str | None = None, patience: Patience | None = None) -> None:
        self.url = base_url(url)
        self.patience = patience or Patience()
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        timeout = httpx.Timeout(self.patience.answer_s, connect=self.patience.connect_s)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=4.0)
        self._http = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=timeout, limits=limits)
        self._jitter = random.Random()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def answer(self, path: str, body: Mapping[str, Any]) -> Reply:
        """Ask for one answer at `/v1/completions` or `/v1/chat/completions`."""
        start = time.perf_counter()
        response, took, tries = await self._call("POST", path, json=dict(body))
        waited = max(0.0, time.perf_counter() - start - took)
        return read_reply(json_object(response.content), took, waited, tries)

    async def get(self, path: str) -> dict[str, Any]:
        """The JSON object at a path."""
        return json_object((await self._call("GET", path))[0].content)

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON object that a call answers with."""
        return json_object((await self._call("POST", path, json=dict(body)))[0].content)

    async def download(self, path: str) -> bytes:
        """The bytes at a path."""
        return (await self._call("GET", path))[0].content

    async def upload(self, path: str, name: str, content: bytes, fields: Mapping[str, str]) -> dict[str, Any]:
        """Send a file with form fields; the JSON object that it answers with."""
        files = {"file": (name, content, "application/jsonl")}
        return json_object((await self._call("POST", path, files=files, data=dict(fields)))[0].content)

    async def models(self) -> list[str]:
        """The ids of the models that the server lists."""
        listed = (await self.get("/v1/models")).get("data")
        return [str(each["id"]) for each in listed if "id" in each] if isinstance(listed, list) else []

    async def version(self) -> Any:
        """What `/version` says, or None where there is none."""
        try:
            return (await self.get("/version")).get("version")
        except CallFailed:
            return None

    async def tokenize(self, model: str, text: str) -> list[int] | None:
        """The text's token ids, or None where the server has no `/tokenize`."""
        try:
            found = (await self.post("/tokenize", {"model": model, "prompt": text})).get("tokens")
        except CallFailed as failed:
            if failed.status in {404, 405}:
                return None
            raise
        return [int(each) for each in found] if isinstance(found, list) else None

    async def _call(self, method: str, path: str, **content: Any) -> tuple[httpx.Response, float, int]:
        """The response with status 2xx, the seconds that it took, and the tries."""
        for attempt in range(self.patience.retries + 1):
            start = time.perf_counter()
            try:
                async with asyncio.timeout(self.patience.answer_s):
                    response = await self._http.request(method, path, **content)
            except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout):
                raise CallFailed("timeout", f"no answer within {self.patience.answer_s:g} s") from None
            except httpx.TransportError as error:
                problem = CallFailed("unreachable", clip(f"{self.url}: {error or type(error).__name__}"))
                wait = None
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise CallFailed("unreachable", clip(f"{self.url}: {error}")) from None
            else:
                if response.is_success:
                    return response, time.perf_counter() - start, attempt + 1
                problem = refusal(response)
                if response.status_code not in AGAIN:
                    raise problem
                wait = retry_after(response.headers.get("retry-after"))
            if attempt == self.patience.retries:
                raise problem
            await asyncio.sleep(self._pause(attempt, wait))
        raise AssertionError("the loop returns or raises")

    def _pause(self, attempt: int, asked: float | None) -> float:
        if asked is not None:
            return min(asked, self.patience.retry_after_s)
        full = min(self.patience.backoff_max_s, self.patience.backoff_s * 2**attempt)
        return full * self._jitter.uniform(0.5, 1.0)


def base_url(url: str) -> str:
    """The server's root: `/v1` at the end, which OpenAI's clients want, may be there or not."""
    return url.rstrip("/").removesuffix("/v1")


def read_reply(body: Mapping[str, Any], server_s: float | None = None, waited_s: float = 0.0, tries: int = 1) -> Reply:
    """An answer from a completion's or a chat completion's JSON.

    Raises:
        CallFailed: there is no text in it.
    """
    try:
        choice = body["choices"][0]
        text = choice["message"]["content"] if "message" in choice else choice["text"]
    except (KeyError, IndexError, TypeError):
        raise CallFailed("malformed", "the answer has no choices[0] with a text") from None
    usage = body.get("usage") or {}
    chain = choice.get("power")
    return Reply(
        text=text or "",
        finish_reason=choice.get("finish_reason"),
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        log_p=sum_log_p(choice.get("logprobs")),
        power=usage.get("power"),
        chain={name: value for name, value in chain.items() if name not in NOT_KEPT} if chain else None,
        choice=choice,
        server_s=server_s,
        waited_s=waited_s,
        tries=tries,
    )


def sum_log_p(logprobs: Mapping[str, Any] | None) -> float | None:
    """Σ log p in nats of a choice's log-probabilities, None without any; a token without a value counts for nothing."""
    if not logprobs:
        return None
    content = logprobs.get("content")
    values = [each.get("logprob") for each in content] if content is not None else logprobs.get("token_logprobs")
    return math.fsum(value for value in values if value is not None) if values is not None else None


def refusal(response: httpx.Response) -> CallFailed:
    """What a server's error says, shortened."""
    try:
        error = json.loads(response.content)["error"]
        message = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        message = response.text
    status = response.status_code
    kind = "refused" if status < 500 else "failed"
    return CallFailed(kind, f"{status}: {clip(' '.join(message.split())) or response.reason_phrase}", status)


def json_object(content: bytes) -> dict[str, Any]:
    """A JSON object."""
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CallFailed("malformed", "the server answered with something that is no JSON object")
    return found


def retry_after(value: str | None) -> float | None:
    """`Retry-After` in seconds, given as a number or a date; None without one."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def clip(text: str) -> str:
    """A message short enough for a record."""
    return text if len(text) <= MESSAGE_CHARS else f"{text[:MESSAGE_CHARS]}…"
