"""Small real models for the engine tests: a random Llama in float64, and the default model."""

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from sampler.engines.tabular import TabularTokenizer
from sampler.engines.transformers.engine import TransformersEngine
from sampler.engines.transformers.model import Model, wrap

VOCABULARY = 256
EOS = frozenset({7})


def random_llama(**changes: Any) -> Any:
    """Two layers, grouped key heads, random weights large enough to give uneven rows; the same each time."""
    settings = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "tie_word_embeddings": True,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: Any = LlamaForCausalLM(LlamaConfig(**(settings | changes)))
    return network.eval()


def tiny_llama(dtype: torch.dtype = torch.float64, **changes: Any) -> Model:
    """`random_llama` of 256 tokens, in float64 unless told otherwise."""
    network = random_llama(vocab_size=VOCABULARY, **changes).to(dtype)
    return wrap(network, network.config, EOS)


def tiny_engine(dtype: torch.dtype = torch.float64, **options: Any) -> TransformersEngine:
    """The engine on `tiny_llama`, its tokens spelled as numbers."""
    names = [f"<{token}>" for token in range(VOCABULARY)]
    return TransformersEngine(tiny_llama(dtype), TabularTokenizer(names, EOS), "tiny", **options)
