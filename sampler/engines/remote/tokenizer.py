"""Tokenizers of the remote engine: from files here, or the server's own behind the same protocol.

Files are better, and `--tokenizer` names them. A server's tokenizer is asked over HTTP and the caller waits, so the
service asks it from threads; only stop strings are looked for while the event loop waits. It reads control tokens out
of a prompt's text; and a response is decoded whole each time, since decoding it token by token is not exact. So stop
strings cost one call a token there.
"""

import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

import httpx

from sampler.engines.huggingface.checkpoint import eos_ids
from sampler.engines.remote.wire import error_text
from sampler.errors import EngineError, InvalidParams, ModelNotFound, NoChatTemplate
from sampler.tokenizer import Message, Tokenizer, TokenizerInfo

TIMEOUT = httpx.Timeout(connect=3.0, read=10.0, write=5.0, pool=3.0)
CACHED = 4096
"""Texts of responses kept, of some hundred tokens each."""
ATTEMPTS = 3
LARGEST_VOCABULARY = 1 << 22
HOLES = 64
"""Ids without a text that may follow each other before the last that has one."""


class Refused(EngineError):
    """The server finds fault with what it was asked."""


class ServerTokenizer:
    """A vLLM server's `/tokenize` and `/detokenize`; for any thread."""

    tokens_are_bytes = False

    def __init__(self, urls: Sequence[str], model: str, headers: dict[str, str], ends: frozenset[int]) -> None:
        self._urls, self._model, self._ends = tuple(urls), model, ends
        self._http = httpx.Client(headers=headers, timeout=TIMEOUT)
        self._known_text = lru_cache(CACHED)(self._ask_text)
        self._start: list[int] = []
        self._about = TokenizerInfo()

    def learn(self) -> int:
        """Ask once for what stays the same; returns the number of ids."""
        # What the tokenizer puts before any text, such as a start token; an end token it may add is left out.
        self._start = [token for token in self._tokenize("", add_special_tokens=True)[:1] if token not in self._ends]
        names = {self.token_text(token): token for token in sorted(self._ends)}
        self._about = TokenizerInfo(eos_token=next(iter(names), None), control_tokens=names)
        return vocabulary_of(self.knows)

    @property
    def about(self) -> TokenizerInfo:
        """A server does not tell what this takes, but for the names of its ends; known once it has learnt."""
        return self._about

    def encode(self, text: str, *, start: bool = True) -> list[int]:
        """Ids of a prompt, with the tokenizer's own start token where it adds one."""
        return (self._start if start else []) + self._tokenize(text, add_special_tokens=False)

    def encode_chat(self, messages: Sequence[Message], *, open_reply: bool = True) -> list[int]:
        """Ids of a conversation in the server's template; it reads control tokens out of the messages too."""
        given = [{"role": message.role, "content": message.content} for message in messages]
        body = {"model": self._model, "messages": given, "add_generation_prompt": open_reply}
        try:
            return [int(token) for token in self._ask("/tokenize", body)["tokens"]]
        except Refused as refused:
            if "chat template" in str(refused):
                raise NoChatTemplate() from None
            raise InvalidParams("messages", f"messages: the server refuses them: {refused}") from None

    def response_bytes(self, ids: Sequence[int]) -> bytes:
        """The response's bytes; end-of-sequence ids have none."""
        return self._text(tuple(token for token in ids if token not in self._ends)).encode()

    def text(self, ids: Sequence[int]) -> str:
        """The text of any ids, control tokens by their names."""
        return self._text(tuple(ids))

    def token_text(self, token: int) -> str:
        """The token as text, control tokens by their names."""
        return self._text((token,))

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def _tokenize(self, text: str, *, add_special_tokens: bool) -> list[int]:
        body = {"model": self._model, "prompt": text, "add_special_tokens": add_special_tokens}
        return [int(token) for token in self._ask("/tokenize", body)["tokens"]]

    def _text(self, ids: tuple[int, ...]) -> str:
        return self._known_text(ids) if ids else ""

    def _ask_text(self, ids: tuple[int, ...]) -> str:
        return str(self._ask("/detokenize", {"model": self._model, "tokens": list(ids)})["prompt"])

    def knows(self, token: int) -> bool:
        """Whether an id at or soon after this one has a text; some servers refuse ids that they do not have."""
        for tokens in (range(token, token + HOLES), (token,)):
            body = {"model": self._model, "tokens": list(tokens)}
            try:
                response = self._http.post(self._urls[0] + "/detokenize", json=body)
                if response.status_code == 200 and response.json()["prompt"]:
                    return True
            except httpx.TransportError as error:
                raise EngineError(f"cannot reach {self._urls[0]}: {error}") from None
            except (ValueError, KeyError, TypeError):
                raise EngineError(f"{self._urls[0]}/detokenize does not answer as vLLM does") from None
        return False

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """One call, asked again at the next server where one cannot be reached."""
        problem = "no server"
        for attempt in range(ATTEMPTS):
            url = self._urls[attempt % len(self._urls)]
            try:
                response = self._http.post(url + path, json=body)
            except httpx.TransportError as error:
                problem = f"cannot reach {url}{path}: {str(error) or type(error).__name__}"
                continue
            if response.status_code == 200:
                try:
                    found = response.json()
                    if isinstance(found, dict) and ("tokens" in found or "prompt" in found):
                        return cast("dict[str, Any]", found)
                except ValueError:
                    pass
                raise EngineError(f"{url}{path} does not answer as vLLM does; give --tokenizer")
            problem = f"{url}{path} answers {response.status_code}: {error_text(response.content)}"
            if response.status_code in (400, 422):
                raise Refused(problem)
            if response.status_code < 500 and response.status_code != 429:
                break
            time.sleep(0.1 * attempt)
        raise EngineError(problem)


def vocabulary_of(knows: Callable[[int], bool]) -> int:
    """The number of ids, found by halving; the calls cost the model nothing."""
    if knows(LARGEST_VOCABULARY):
        raise ModelNotFound("this server does not say which token ids it has: give --tokenizer")
    known, unknown = 0, LARGEST_VOCABULARY
    while unknown - known > 1:
        middle = (known + unknown) // 2
        if knows(middle):
            known = middle
        else:
            unknown = middle
    return known + 1


def server_eos_ids(url: str, model: str, headers: dict[str, str]) -> frozenset[int]:
    """The end-of-sequence id of a server that tells its tokenizer's settings, else none."""
    with httpx.Client(headers=headers, timeout=TIMEOUT) as http:
        try:
            name = http.get(f"{url}/tokenizer_info").json().get("eos_token")
            body = {"model": model, "prompt": name, "add_special_tokens": False}
            tokens = http.post(f"{url}/tokenize", json=body).json()["tokens"]
        except (httpx.TransportError, ValueError, KeyError, AttributeError, TypeError):
            return frozenset()
    return frozenset(tokens) if isinstance(name, str) and len(tokens) == 1 else frozenset()


def file_tokenizer(name: str) -> tuple[Tokenizer, frozenset[int], int]:
    """A Hugging Face tokenizer with the end-of-sequence ids and the number of ids of its model."""
    from transformers import AutoConfig  # only where files were named: it takes seconds

    from sampler.engines.huggingface.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(name)
    found = frozenset(token for token in (tokenizer.eos_id,) if token is not None)
    try:
        config = cast(Any, AutoConfig).from_pretrained(name, trust_remote_code=False)
        vocabulary = int(config.get_text_config().vocab_size)
    except (OSError, ValueError, AttributeError):
        return tokenizer, found, tokenizer.size  # a folder with a tokenizer alone
    return tokenizer, found | eos_ids(name, config), max(tokenizer.size, vocabulary)
