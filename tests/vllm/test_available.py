"""Asked for, the vLLM tests must not silently test nothing."""

import os
from importlib.util import find_spec

import pytest


def test_vllm_is_there_to_be_tested() -> None:
    if find_spec("vllm") is None:
        message = "vllm is not installed here; run: make test-vllm"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
