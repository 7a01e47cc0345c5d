"""Mixed traffic against one server: what each kind of caller sends, and what it must get."""

import asyncio
import itertools
import json
import random
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx

from service.keys import new_key
from tests.soak.tally import Tally

LEAVERS = "uniform_cut"
"""The method of all work that is given up half-way, and of no other, so that the other methods' counts are exact."""
GOOD: dict[str, Any] = {"model": "letters", "prompt": "hi", "max_tokens": 8}
CHAIN: dict[str, Any] = {"blocks": 2, "steps_per_block": 5}
HELLO = [{"role": "user", "content": "hello"}]
COMPLETIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "plain greedy": {"temperature": 0},
    "plain n, logprobs": {"n": 3, "logprobs": 1, "stop": ["ab"]},
    "entropy_cut": {"power": CHAIN},
    "entropy_cut, all reports": {"n": 2, "power": {**CHAIN, "include": ["diagnostics", "chain"]}},
    "entropy_cut, paper": {"power": {**CHAIN, "mode": "paper"}},
    "entropy_cut, budget": {"power": {**CHAIN, "max_generated_tokens": 12, "memo_tree": False, "prefetch": False}},
    "multiple_try": {"power": {**CHAIN, "method": "multiple_try", "tries": 3}},
    "smc": {"power": {"method": "smc", "particles": 8, "blocks": 2}},
    "tmc": {"power": {"method": "tmc", "candidates": 3, "rollouts": 2, "blocks": 2}},
    "best_of_n": {"power": {"method": "best_of_n", "samples": 4}},
    "low_temperature": {"power": {"method": "low_temperature"}},
    "alias": {"model": "letters:smc", "power": {"particles": 4}},
    "two prompts": {"prompt": ["a", "b"], "power": {**CHAIN, "alpha": 1.5}},
}
"""Bodies on top of `GOOD`; each is asked for whole, as a stream and in batches. How far a budget goes depends on what
is known already, which a batch forgets at each stage: without a memo tree it is the same everywhere."""
BAD: dict[str, tuple[str, str, Any, int]] = {
    "unknown field": ("POST", "/v1/completions", GOOD | {"nonsense": 1}, 422),
    "out of range": ("POST", "/v1/completions", GOOD | {"max_tokens": -1}, 422),
    "not the method's": ("POST", "/v1/completions", GOOD | {"power": {"method": "smc", "tries": 2}}, 422),
    "no such model": ("POST", "/v1/completions", GOOD | {"model": "nobody"}, 404),
    "not JSON": ("POST", "/v1/chat/completions", b"{", 400),
    "no such route": ("GET", "/v1/nowhere", None, 404),
    "no such file": ("GET", "/v1/files/file-nobody", None, 404),
    "wrong method": ("PUT", "/v1/completions", GOOD, 405),
    "too large": ("POST", "/v1/completions", GOOD | {"n": 128, "power": {"steps_per_block": 1000}}, 422),
    "job only": ("POST", "/v1/analysis/constrained-sparsity", {}, 422),
}
ANALYSES = ("benchmark-bounds", "pac-bayes-bounds", "panel-treatment-effects", "positive-query-learning/learnability")
IDENTITIES = (
    (re.compile(r"^/v1/files/[^/]+"), "/v1/files/{file_id}"),
    (re.compile(r"^/v1/batches/[^/]+"), "/v1/batches/{batch_id}"),
    (re.compile(r"^/v1/nowhere$"), "none"),
)


def route_of(path: str) -> str:
    """A path with its ids replaced by their names, as the metrics have it."""
    for pattern, name in IDENTITIES:
        path = pattern.sub(name, path)
    return path


class Client:
    """One key's client. Whatever it reads to the end is counted."""

    def __init__(self, http: httpx.AsyncClient, key: str, tally: Tally, names: Iterator[int]) -> None:
        self.http, self.tally, self._names = http, tally, names
        self._headers = {"Authorization": f"Bearer {key}"}

    def headers(self) -> dict[str, str]:
        """Those of the next request, whose id is its own."""
        return self._headers | {"X-Request-Id": f"soak-{next(self._names)}"}

    async def ask(
        self,
        method: str,
        path: str,
        status: int = 200,
        body: dict[str, Any] | bytes | None = None,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> httpx.Response:
        """One request, whose reply has this status, in the end: a server that is busy is asked again."""
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        sent = self.headers() | ({} if content is None else {"Content-Type": "application/json"}) | (headers or {})
        reply = await self.http.request(method, path, content=content, headers=sent, **more)
        self.tally.reply(route_of(path), reply.status_code)
        if reply.status_code == 429:
            await asyncio.sleep(float(reply.headers["Retry-After"]))
            return await self.ask(method, path, status, body, headers, **more)
        assert reply.status_code == status, f"{method} {path}: {reply.status_code} {reply.text[:300]}"
        return reply

    async def whole(self, path: str, body: dict[str, Any]) -> None:
        """A completion or a chat."""
        found = (await self.ask("POST", path, body=body)).json()
        self.tally.work(found)
        self.tally.same(body, found["choices"])

    async def stream(self, body: dict[str, Any]) -> None:
        """The same, as a stream to its end."""
        asked = body | {"stream": True, "stream_options": {"include_usage": True}}
        reply = await self.ask("POST", "/v1/completions", body=asked)
        lines = [line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: ")]
        assert lines[-1] == "[DONE]", reply.text[-300:]
        chunks = [json.loads(line) for line in lines[:-1]]
        choices: dict[int, dict[str, Any]] = {}
        for choice in (choice for chunk in chunks for choice in chunk["choices"]):
            so_far = choices.setdefault(choice["index"], {"text": ""})
            choices[choice["index"]] = {**so_far, **choice, "text": so_far["text"] + choice["text"]}
        ordered = [choices[index] for index in sorted(choices)]
        self.tally.work({"usage": chunks[-1]["usage"], "choices": ordered})
        self.tally.same(body, ordered)

    async def leave(self, body: dict[str, Any], patience_s: float) -> None:
        """A request, whole or as a stream, whose client goes away after so long, whatever it has got by then."""
        headers = self.headers()
        self.tally.left.add(headers["X-Request-Id"])
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(patience_s),
                self.http.stream("POST", "/v1/completions", json=body, headers=headers) as reply,
            ):
                await anext(reply.aiter_bytes(), b"")


async def call(client: Client, rng: random.Random) -> str:
    """One call of a random kind; the kind."""
    (kind,) = rng.choices(list(SHARES), list(SHARES.values()))
    client.tally.kinds[kind] += 1
    name, fields = rng.choice(list(COMPLETIONS.items()))
    body = GOOD | {"seed": rng.randrange(5)} | fields
    match kind:
        case "completion":
            await client.whole("/v1/completions", body)
        case "stream":
            await client.stream(body)
        case "chat":
            power = rng.choice([None, CHAIN])
            asked = {"model": "letters", "messages": HELLO, "max_tokens": 6, "seed": rng.randrange(5), "power": power}
            await client.whole("/v1/chat/completions", asked)
        case "leaver":
            power = {"method": LEAVERS, "blocks": 8, "steps_per_block": 100, "memo_tree": rng.random() < 0.5}
            leaver = GOOD | {"power": power, "n": 4, "max_tokens": 64, "stream": rng.random() < 0.5}
            await client.leave(leaver, rng.random() * 0.1)
        case "bad":
            method, path, content, status = BAD[rng.choice(list(BAD))]
            reply = await client.ask(method, path, status, content)
            assert reply.json()["error"]["message"]
            too_large = reply.json()["error"]["code"] == "request_too_large"
            client.tally.add("powercut:admission_rejections_total", too_large, reason="too_large")
        case "stranger":
            key = {"Authorization": f"Bearer {new_key('nobody')[0]}"}
            await client.ask("POST", "/v1/completions", 401, body, headers=key)
        case "tokens":
            ids = (await client.ask("POST", "/tokenize", body={"prompt": "some text"})).json()["tokens"]
            await client.ask("POST", "/detokenize", body={"tokens": [token % 3 for token in ids]})
        case "analysis":
            await analyse(client, rng.choice(ANALYSES))
        case _:
            path = rng.choice(["/livez", "/readyz", "/version", "/v1/models", "/tokenizer_info"])
            await client.ask("GET", path)
    return name


SHARES = {
    "completion": 40,
    "stream": 20,
    "chat": 8,
    "leaver": 6,
    "bad": 10,
    "stranger": 2,
    "tokens": 3,
    "analysis": 2,
    "probe": 9,
}
"""How often each kind of call is made, in parts of a hundred."""


async def analyse(client: Client, name: str) -> None:
    """An analysis's own example: the same reply each time."""
    listed = (await client.ask("GET", "/v1/analysis")).json()["data"]
    example = next(each["example"] for each in listed if each["name"] == name)
    seed = {"seed": 1} if next(each["seeded"] for each in listed if each["name"] == name) else {}
    found = (await client.ask("POST", f"/v1/analysis/{name}", body=example | seed)).text
    assert client.tally.answers.setdefault(f"analysis {name}", found) == found


def numbered() -> Iterator[int]:
    """Numbers of requests."""
    return itertools.count()
