"""A causal language model from transformers, its forward passes over the running rows, and a check at load."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from sampler.engines.huggingface.checkpoint import eos_ids
from sampler.engines.transformers.cache import ATTENTION, RowCache, causal_mask
from sampler.engines.transformers.heap import map_large_blocks, trim
from sampler.errors import InvalidParams, ModelNotFound

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float64": torch.float64,
    "fp64": torch.float64,
}
TOLERANCE = {torch.float64: 1e-6, torch.float32: 2e-2, torch.bfloat16: 1.5}
"""Largest difference of logits between our passes and the model's own, at load. A wrong mask is off by far more."""


@dataclass(slots=True, eq=False)
class Model:
    """A model on its device. Not thread-safe: the worker owns it."""

    network: Any
    cache: RowCache
    vocabulary: int
    context: int
    eos_ids: frozenset[int]
    device: torch.device
    dtype: torch.dtype

    @property
    def row_dtype(self) -> type[np.floating[Any]]:
        """What logits are exact in: float32, or float64 for a float64 model."""
        return np.float64 if self.dtype == torch.float64 else np.float32

    def hidden(self, cache: RowCache, rows: slice, ids: Tensor, positions: Tensor, length: int) -> Tensor:
        """Hidden states [rows, new tokens, width] of new tokens at `positions`, attending to `length` columns."""
        cache.begin(rows, positions, length)
        out = self.network.base_model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=causal_mask(positions, length),
            past_key_values=cache,
            use_cache=True,
        )
        return out.last_hidden_state

    def prefill(self, cache: RowCache, row: int, ids: Sequence[int], start: int, end: int) -> Tensor:
        """Hidden states of ids[start:end] written into a row whose first `start` positions are there."""
        positions = torch.arange(start, end, device=self.device)[None]
        new = torch.tensor([ids[start:end]], device=self.device)
        return self.hidden(cache, slice(row, row + 1), new, positions, end)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits in float32 (float64 models: float64), whatever the model's dtype."""
        out = self.network.get_output_embeddings()(hidden)
        return out if out.dtype == torch.float64 else out.float()


def load_model(path: str, dtype: str | None, device: str | None) -> Model:
    """Load a checkpoint; raises `ModelNotFound` or `InvalidParams` in one clear line."""
    map_large_blocks()
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if dtype is not None and dtype not in DTYPES:
        raise InvalidParams("dtype", f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    try:
        config = cast(Any, AutoConfig).from_pretrained(path, trust_remote_code=False)
        network = cast(Any, AutoModelForCausalLM).from_pretrained(
            path,
            dtype=DTYPES[dtype] if dtype else (torch.float32 if place.type == "cpu" else torch.bfloat16),
            attn_implementation="sdpa",
            trust_remote_code=False,
            use_safetensors=True,
        )
        network = network.to(place).eval()
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise ModelNotFound(f"cannot load the model {path!r}: {str(error).strip().splitlines()[0]}") from error
    model = wrap(network, config, eos_ids(path, config))
    trim()  # what loading left behind
    return model


def wrap(network: Any, config: Any, eos: frozenset[int]) -> Model:
    """The engine's view of a loaded network, checked against the network's own forward pass."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    parameter = next(network.parameters())
    cache = RowCache(text.num_hidden_layers, heads, head_size, parameter.dtype, parameter.device)
    vocabulary = network.get_output_embeddings().weight.shape[0]
    context = int(getattr(text, "max_position_embeddings", 1 << 20))
    model = Model(network, cache, vocabulary, context, eos, parameter.device, parameter.dtype)
    with torch.inference_mode():
        check(model)
    return model


def check(model: Model) -> None:
    """Refuse a model whose attention our passes do not reproduce: 11 tokens prefilled, one decoded."""
    ids = (torch.arange(12, device=model.device)[None] * 37 + 11) % model.vocabulary
    own = model.network(input_ids=ids, use_cache=False).logits[0, -1].double()
    model.network.set_attn_implementation(ATTENTION)
    try:
        model.cache.reserve(1, 12)
        text = [int(token) for token in ids[0]]
        model.prefill(model.cache, 0, text, 0, 11)
        ours = model.logits(model.prefill(model.cache, 0, text, 11, 12))[0, -1].double()
    except Exception as error:  # any failure here means the same: another kind of model than we can run
        raise ModelNotFound(f"this model's attention is not supported: {error}") from error
    finally:
        model.cache.clear()
    difference = float((ours - own).abs().max())
    if not difference <= TOLERANCE[model.dtype]:
        raise ModelNotFound(
            f"this model's attention is not supported: logits differ by {difference:.3g} from its own forward pass"
        )
