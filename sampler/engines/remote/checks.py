"""Checks at start: whether a server gives what is needed, and if not, what exactly to change.

Three short calls to each server. They look at the answers and not at version numbers: token ids and log p by id,
streamed; as many values a row as the support needs; raw values, whatever the temperature; a seed that is obeyed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import httpx
import numpy as np

from sampler.engine import Request, Support
from sampler.engines.remote.client import Patience
from sampler.engines.remote.wire import PREFIX, Chunk, error_text, message_of, part, proposal, read_chunk, read_json
from sampler.errors import EngineError, ModelNotFound
from sampler.rng import DrawKey

NEEDS = "the remote engine needs a vLLM server of version 0.10.2 or later"
PROBE_TOKENS = 8
RAW_TOLERANCE = 1.0
"""Nats by which the last value of a row may differ between two temperatures: bf16 noise is far smaller, a tempered or
renormalised value far off."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a server says of its model."""

    model: str
    context: int
    version: str


class Probe:
    """One server, asked synchronously before the engine exists."""

    def __init__(self, url: str, headers: dict[str, str], patience: Patience) -> None:
        self.url = url
        self._http = httpx.Client(headers=headers | {"accept-encoding": "identity"}, timeout=patience.timeout)

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def served(self, model: str | None) -> Served:
        """The model to use: the one asked for, or the only one."""
        body = self._get("/v1/models")
        entries = body.get("data")
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in cast("list[Any]", entries)):
            raise ModelNotFound(f"{self.url}/v1/models does not list models: {NEEDS}")
        models = {str(entry.get("id")): entry for entry in cast("list[dict[str, Any]]", entries)}
        base = [name for name, entry in models.items() if not entry.get("parent")]  # others are its adapters
        if model is None and len(base) != 1:
            raise ModelNotFound(f"{self.url} serves {_list(models)}: choose one by --model")
        if model is not None and model not in models:
            raise ModelNotFound(f"{self.url} does not serve {model!r} but {_list(models)}: change --model")
        name = base[0] if model is None else model
        context = models[name].get("max_model_len") or models[base[0]].get("max_model_len")
        if not isinstance(context, int):
            raise ModelNotFound(f"{self.url} does not tell max_model_len: {NEEDS}")
        return Served(name, context, self._version())

    def check(self, model: str, prompt: Sequence[int], top: int) -> None:
        """Raise `ModelNotFound` saying what to change unless proposals with `top` values a row work here."""
        request = Request(
            tuple(prompt), PROBE_TOKENS, 1.0, Support("top_k", top_k=top), DrawKey(b"probe" * 6), 0, frozenset()
        )
        first = self._draw(model, request, top)
        self._check_ids(first, request, top)
        if not any(self._ids(first) == self._ids(self._draw(model, request, top)) for _ in range(2)):
            raise ModelNotFound(f"{self.url} does not obey `seed`: the same call drew other tokens. {NEEDS}")
        sharp = self._draw(model, replace(request, alpha=4.0, max_tokens=1), top)
        self._check_raw(first[0].tokens[0].logits[:top], sharp[0].tokens[0].logits[:top])

    def _check_ids(self, chunks: list[Chunk], request: Request, top: int) -> None:
        tokens = [token for chunk in chunks for token in chunk.tokens]
        if not 0 < len(tokens) <= request.max_tokens:  # fewer where the server has stop tokens of its own
            raise ModelNotFound(f"{self.url} drew {len(tokens)} tokens instead of {request.max_tokens}: {NEEDS}")
        sent = next((chunk.prompt_ids for chunk in chunks if chunk.prompt_ids), list(request.ids))
        if sent != list(request.ids):
            raise ModelNotFound(f"{self.url} changed the prompt's token ids on the way: {NEEDS}")
        if any(len(token.ids) not in {top, top + 1} for token in tokens):
            raise ModelNotFound(
                f"{self.url} returns {len(tokens[0].ids)} logprobs of a row where {top} are needed: "
                f"start vllm serve with --max-logprobs {top}"
            )

    def _check_raw(self, plain: Any, sharp: Any) -> None:
        """log p must not depend on the temperature, and be a log p."""
        if not (plain[np.isfinite(plain)] <= 1e-3).all() or np.exp(plain).sum() > 1.01:
            raise ModelNotFound(f"{self.url} returns logits: start vllm serve with --logprobs-mode raw_logprobs")
        both = np.isfinite(plain[: len(sharp)]) & np.isfinite(sharp[: len(plain)])
        if np.abs(plain[: len(sharp)][both] - sharp[: len(plain)][both]).max(initial=0.0) > RAW_TOLERANCE:
            raise ModelNotFound(
                f"{self.url} returns logprobs after temperature: start vllm serve with --logprobs-mode raw_logprobs"
            )

    @staticmethod
    def _ids(chunks: list[Chunk]) -> list[int]:
        return [token.token for chunk in chunks for token in chunk.tokens]

    def _draw(self, model: str, request: Request, top: int) -> list[Chunk]:
        """The chunks of one streamed proposal."""
        body = proposal(model, request, [], top, 1)
        response = self._send("POST", "/v1/completions", json=body)
        if response.status_code != 200:
            self._refuse(error_text(response.content), str(response.status_code), top)
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise ModelNotFound(f"{self.url} does not stream its answers: {NEEDS}")
        datas = [line[5:].strip() for line in response.content.split(b"\n") if line.startswith(b"data:")]
        events = [data for data in datas if data != b"[DONE]"]
        try:
            self._check_shape(events, top)
            return [chunk for chunk in map(read_chunk, events) if chunk.tokens or chunk.finish]
        except EngineError as error:
            raise ModelNotFound(f"{self.url}: {error}. {NEEDS}") from None

    def _refuse(self, message: str, status: str, top: int) -> None:
        if "logprobs" in message:
            raise ModelNotFound(f"start vllm serve at {self.url} with --max-logprobs {top} (it says: {message})")
        raise ModelNotFound(f"{self.url} refuses a proposal ({status}): {message}. {NEEDS}")

    def _check_shape(self, events: list[bytes], top: int) -> None:
        """Say which of the needed fields the first event lacks."""
        first = read_json(events[0] if events else b"")
        if first.get("error"):  # vLLM refuses some proposals only after it has begun to stream
            self._refuse(message_of(first), "200", top)
        choices = part(first, "choices", [])
        choice = cast("dict[str, Any]", choices[0] if choices else {})
        if not part(choice, "token_ids", None):
            raise ModelNotFound(f"{self.url} does not return token ids (return_token_ids): {NEEDS}")
        rows = part(part(choice, "logprobs", {}), "top_logprobs", [{}])
        if not rows[0]:
            raise ModelNotFound(f"{self.url} does not return logprobs: {NEEDS}")
        if not all(str(name).startswith(PREFIX) for name in rows[0]):
            raise ModelNotFound(f"{self.url} names logprobs by text, not by id (return_tokens_as_token_ids): {NEEDS}")

    def _version(self) -> str:
        try:
            return str(self._get("/version").get("version", "unknown"))
        except ModelNotFound:
            return "unknown"

    def _get(self, path: str) -> dict[str, Any]:
        response = self._send("GET", path)
        if response.status_code != 200:
            raise ModelNotFound(f"{self.url}{path} answers {response.status_code}: {NEEDS}")
        try:
            return read_json(response.content)
        except EngineError:
            raise ModelNotFound(f"{self.url}{path} does not answer in JSON: {NEEDS}") from None

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            response = self._http.request(method, self.url + path, **content)
        except httpx.TimeoutException:
            raise ModelNotFound(f"the server at {self.url} does not answer in time") from None
        except httpx.TransportError as error:
            raise ModelNotFound(f"no server answers at {self.url} ({error}): start it, or change --url") from None
        if response.status_code in {401, 403}:
            raise ModelNotFound(f"{self.url} refuses the call without the right API key: give it by --api-key")
        return response


def _list(names: Any) -> str:
    return ", ".join(repr(name) for name in names) or "nothing"
