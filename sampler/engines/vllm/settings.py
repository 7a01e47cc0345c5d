"""How vLLM is started: its engine arguments and its environment.

Every argument of vLLM can be given, and what is given wins. What is set here without being asked for is what the
statistics need, and on a CPU what vLLM needs to work at all (each line was found by running it).
"""

import os
from argparse import ArgumentError
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

from sampler.engine import REMOTE_ONLY, EngineOptions
from sampler.engines.vllm.library import AsyncEngineArgs, FlexibleArgumentParser, platform
from sampler.errors import InvalidParams

MAX_TOP_K = 50
"""Values returned of each row at most, unless `max_logprobs` says otherwise: the paper's support."""
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}

CPU_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # with it, the executor is forced into one more process
    "TORCHDYNAMO_DISABLE": "1",  # the sampler holds a compiled function: 20 s for the first request, and a C++ compiler
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # "auto" pins the worker to the first core
}
CPU_ARGUMENTS: dict[str, Any] = {
    "distributed_executor_backend": "uni",
    "enforce_eager": True,  # compiling takes minutes
    "dtype": "float32",
    "max_num_seqs": 32,
    "kv_cache_memory_bytes": 1 << 30,
    "block_size": 32,  # the default of 128 hides every prefix shorter than that from the cache
    # A seeded request whose prompt is computed in several chunks kills the engine: a CPU generator cannot be rewound.
    "enable_chunked_prefill": False,
}


@dataclass(frozen=True, slots=True)
class Start:
    """All that vLLM is started with."""

    arguments: Any
    max_top_k: int


def prepare(path: str, options: EngineOptions) -> Start:
    """vLLM's arguments for a checkpoint. Raises `InvalidParams` naming an argument that vLLM does not have."""
    options.refuse("vllm", "device", *REMOTE_ONLY)
    given = read_arguments(options.engine_args or {})
    for argument, value in {
        "dtype": DTYPES.get(options.dtype or "", options.dtype),
        "max_num_seqs": options.max_rows,
        "kv_cache_memory_bytes": options.kv_cache_bytes,
    }.items():
        if value is not None:
            given.setdefault(argument, value)
    return build(path, given, on_cpu=platform.is_cpu())


def build(path: str, given: Mapping[str, Any], *, on_cpu: bool) -> Start:
    """Put what is given over what is needed, and set the environment where the user has not."""
    fixed = {"model", "generation_config", "logprobs_mode"}
    if taken := sorted(fixed & set(given)):
        raise InvalidParams(taken[0], f"the vllm engine sets {taken[0]} itself")
    if on_cpu and given.get("enable_chunked_prefill"):
        raise InvalidParams("enable_chunked_prefill", "on a CPU, vLLM dies of seeded prompts computed in chunks")
    for name, value in (CPU_ENVIRONMENT if on_cpu else {}).items():
        os.environ.setdefault(name, value)
    arguments: dict[str, Any] = {
        "enable_prefix_caching": True,
        "skip_tokenizer_init": True,  # ids in, ids out
        "scheduling_policy": "priority",
        "disable_log_stats": True,
        "max_logprobs": MAX_TOP_K,
        **(CPU_ARGUMENTS if on_cpu else {}),
        **given,
        "model": path,
        "generation_config": "vllm",  # else a checkpoint's own top_p and penalties would change q
        "logprobs_mode": "raw_logprobs",
    }
    try:
        if on_cpu and not arguments["enable_chunked_prefill"] and "max_num_batched_tokens" not in given:
            arguments["max_num_batched_tokens"] = max(model_length(arguments), 2048)
        start = AsyncEngineArgs(**arguments)
    except (ValueError, TypeError, OSError) as error:
        raise InvalidParams("engine_args", f"vLLM refuses its arguments: {first_line(error)}") from error
    return Start(start, int(arguments["max_logprobs"]))


def model_length(arguments: Mapping[str, Any]) -> int:
    """The longest text that vLLM will take: without chunks, a prompt must fit into one pass."""
    if arguments.get("max_model_len") is not None:
        return int(arguments["max_model_len"])
    return int(AsyncEngineArgs(**arguments).create_model_config().max_model_len)


def read_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by vLLM's names. Text is read by vLLM's own command line, so that it means what it means there."""
    known = {field.name for field in fields(AsyncEngineArgs)}
    arguments: dict[str, Any] = {}
    for option, value in given.items():
        name = option.lstrip("-").replace("-", "_")
        if value is True and name.removeprefix("no_") in known - {name}:
            name, value = name.removeprefix("no_"), False
        if name not in known:
            raise InvalidParams(name, f"vLLM has no engine argument {name}")
        arguments[name] = value
    words = [f"--{name.replace('_', '-')}={value}" for name, value in arguments.items() if isinstance(value, str)]
    if not words:
        return arguments
    parser: Any = AsyncEngineArgs.add_cli_args(FlexibleArgumentParser(exit_on_error=False))
    parser.error = _refuse  # for the errors that leave the process all the same
    try:
        read = cast("dict[str, Any]", vars(parser.parse_args(words)))
    except ArgumentError as error:
        raise InvalidParams("engine_args", f"vLLM refuses its arguments: {error}") from error
    return {name: read.get(name, value) if isinstance(value, str) else value for name, value in arguments.items()}


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _refuse(message: str) -> None:
    raise InvalidParams("engine_args", f"vLLM refuses its arguments: {message}")
