"""The transformers engine: the embedded default.

One worker thread owns the model; rows of different chains share its forward passes, and prefixes already computed
are reused across steps, chains and requests.

`engine.py` the protocol's side, `worker.py` the loop, `model.py` forward passes, `cache.py` keys and values of the
running rows, `prefixes.py` those of finished ones, `heads.py` from logits to rows.
"""

from typing import Any, cast

from transformers.utils import logging as transformers_logging

from sampler.engine import REMOTE_ONLY, EngineOptions
from sampler.engines.huggingface.checkpoint import resolve
from sampler.engines.huggingface.tokenizer import load_tokenizer
from sampler.engines.transformers.engine import TransformersEngine
from sampler.engines.transformers.model import load_model


def load(options: EngineOptions) -> TransformersEngine:
    """Load a checkpoint; see `EngineOptions`."""
    options.refuse("transformers", "engine_args", *REMOTE_ONLY)
    # One clear line is wanted on a terminal, and a server's log is no place for bars.
    cast(Any, transformers_logging).disable_progress_bar()
    checkpoint = resolve(options.model)
    model = load_model(checkpoint.path, options.dtype, options.device)
    tokenizer = load_tokenizer(checkpoint.path)
    return TransformersEngine(
        model,
        tokenizer,
        options.served_name or checkpoint.name,
        checkpoint=checkpoint.path,
        max_rows=options.max_rows or 32,
        kv_cache_bytes=options.kv_cache_bytes if options.kv_cache_bytes is not None else 1 << 30,
    )
