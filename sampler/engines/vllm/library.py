"""All that is used of vLLM, in one place. vLLM is in no environment where types are checked, so its names are `Any`."""

from importlib import import_module
from typing import Any


def _name(module: str, name: str) -> Any:
    return getattr(import_module(f"vllm.{module}"), name)


AsyncEngineArgs: Any = _name("engine.arg_utils", "AsyncEngineArgs")
AsyncLLM: Any = _name("v1.engine.async_llm", "AsyncLLM")
FlexibleArgumentParser: Any = _name("utils.argparse_utils", "FlexibleArgumentParser")
RequestOutputKind: Any = _name("sampling_params", "RequestOutputKind")
SamplingParams: Any = _name("sampling_params", "SamplingParams")
platform: Any = _name("platforms", "current_platform")
tokens_input: Any = _name("inputs.engine", "tokens_input")

EngineDeadError: type[Exception] = _name("v1.engine.exceptions", "EngineDeadError")
GracefulHTTPError: type[Exception] = _name("exceptions", "GracefulHTTPError")
VLLMClientError: type[Exception] = _name("exceptions", "VLLMClientError")
