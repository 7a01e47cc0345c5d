"""The vllm engine: a vLLM engine in this process, for production.

A proposal is one vLLM request, so vLLM does what it is good at: batching whatever runs, caching prefixes, spreading
over GPUs. It draws by itself (`draws="own"`): a request's seed is a hash of its draw key, and of each row it returns
the k largest log p, from which the statistics follow. Nothing in vLLM is patched.

`engine.py` the protocol's side, `backend.py` vLLM and the thread it lives in, `proposal.py` one segment, `sampling.py`
what a request asks of vLLM, `rows.py` what vLLM's numbers mean, `settings.py` how vLLM is started, `library.py` the
parts of vLLM in use.
"""

import os
from importlib import import_module

from sampler.engine import Engine, EngineOptions
from sampler.errors import ModelNotFound
from sampler.tokenizer import Tokenizer

ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "WARNING",  # read once, when vllm is imported
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # without Triton there is only the first: let what is tested be what runs
}


def load(options: EngineOptions, tokenizer: Tokenizer | None = None) -> Engine:
    """Start vLLM on a checkpoint, with its own tokenizer unless one is given. Takes seconds to minutes."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import_module("vllm")
    except ImportError as error:
        raise ModelNotFound(
            f"the vllm engine cannot import vllm ({error}); run: pip install 'powercut[vllm]' (GPU), "
            "or make .venv-vllm/.ready (CPU)"
        ) from error
    from sampler.engines.vllm.engine import start

    return start(options, tokenizer)
