"""The remote engine: any running vLLM servers, by URL.

It needs nothing of them but the OpenAI completions route as vLLM serves it, so the GPUs, their drivers and vLLM's
version stay on the other side. Several URLs are replicas of one model.

`engine.py` the protocol's side, `client.py` calls with their limits and retries, `servers.py` which server and whether
any is there, `slots.py` how many calls at once, `wire.py` bodies and answers, `checks.py` what is asked of a server at
start, `tokenizer.py` text here or there.
"""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

from sampler.engine import EngineInfo, EngineOptions
from sampler.engines.remote.checks import Probe, Served
from sampler.engines.remote.client import Client, Patience
from sampler.engines.remote.engine import MAX_ROWS, TOP_LOGPROBS, RemoteEngine
from sampler.engines.remote.servers import Servers, check_url
from sampler.engines.remote.tokenizer import ServerTokenizer, file_tokenizer, server_eos_ids
from sampler.errors import EngineError, InvalidParams, ModelNotFound
from sampler.tokenizer import Tokenizer

PROBE_TEXT = "The answer is"


def load(options: EngineOptions) -> RemoteEngine:
    """Connect to the servers of `options.url` and check them; see `EngineOptions`. Takes a second or two."""
    options.refuse("remote", "dtype", "device", "kv_cache_bytes", "engine_args")
    if not options.url:
        raise InvalidParams("url", "the remote engine needs --url http://host:8000, a running vLLM server")
    return connect(
        options.url,
        options.model,
        api_key=options.api_key,
        tokenizer=options.tokenizer,
        eos_ids=options.eos_ids,
        served_name=options.served_name,
        max_rows=options.max_rows or MAX_ROWS,
    )


def connect(
    urls: Sequence[str],
    model: str | None = None,
    *,
    api_key: str | None = None,
    tokenizer: str | None = None,
    eos_ids: tuple[int, ...] | None = None,
    served_name: str | None = None,
    patience: Patience | None = None,
    poll_s: float = 5.0,
    unreachable_s: float = 15.0,
    **engine_options: Any,
) -> RemoteEngine:
    """The engine on servers of one model, each checked. Raises `ModelNotFound` in one line that says what to change."""
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    patience = patience or Patience()
    urls = [check_url(url) for url in urls]
    served = [_ask(url, model, headers, patience) for url in urls]
    name = served[0].model
    if differing := [url for url, each in zip(urls, served, strict=True) if each.model != name]:
        raise ModelNotFound(f"{urls[0]} serves {name!r} and {differing[0]} does not: choose one by --model")
    text, found, vocabulary = _tokenizer(urls, name, headers, tokenizer, eos_ids)
    try:
        for url in urls:
            with closing(Probe(url, headers, patience)) as probe:
                probe.check(name, text.encode(PROBE_TEXT) or [0], min(TOP_LOGPROBS, vocabulary))
    except BaseException:
        if isinstance(text, ServerTokenizer):
            text.close()
        raise
    info = EngineInfo(
        "remote",
        served_name or name.rsplit("/", 1)[-1],
        vocabulary,
        found,
        min(each.context for each in served),
        supports=frozenset({"top_k"}),
        plain_supports=frozenset({"full", "top_k", "top_p"}),
        draws="own",
        details={"urls": list(urls), "model": name, "vllm": served[0].version},
    )
    servers = Servers(urls, headers, poll_s=poll_s, unreachable_s=unreachable_s)
    return RemoteEngine(Client(servers, headers, patience), text, info, name, **engine_options)


def _ask(url: str, model: str | None, headers: dict[str, str], patience: Patience) -> Served:
    with closing(Probe(url, headers, patience)) as probe:
        return probe.served(model)


def _tokenizer(
    urls: list[str], model: str, headers: dict[str, str], name: str | None, eos_ids: tuple[int, ...] | None
) -> tuple[Tokenizer, frozenset[int], int]:
    """The tokenizer, the end-of-sequence ids and the number of ids."""
    if name is not None:
        tokenizer, found, vocabulary = file_tokenizer(name)
        return tokenizer, frozenset(eos_ids) if eos_ids is not None else found, vocabulary
    found = frozenset(eos_ids) if eos_ids is not None else server_eos_ids(urls[0], model, headers)
    if not found and eos_ids is None:
        raise ModelNotFound(
            "a vLLM server does not tell its end-of-sequence ids: give --tokenizer (a Hugging Face name or folder) or "
            "--eos-ids, or start vllm serve with --enable-tokenizer-info-endpoint"
        )
    tokenizer = ServerTokenizer(urls, model, headers, found)
    try:
        return tokenizer, found, tokenizer.learn()
    except (EngineError, ModelNotFound) as error:
        tokenizer.close()
        raise ModelNotFound(f"the server's tokenizer is of no use ({error}): give --tokenizer") from None
