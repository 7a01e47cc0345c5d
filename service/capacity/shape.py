"""A model's size: from its config.json, or estimated from its number of parameters."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sampler.errors import InvalidParams

BYTES = {"fp8": 1, "bf16": 2, "fp32": 4}
"""Bytes of one number by type."""
ASPECT = 128
"""Width over depth of an estimated model."""
HEAD_DIM = 128
KV_HEADS = 8
CONFIG_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the model costs in memory and arithmetic. `active` parameters work on one token: all but in mixtures."""

    params: float
    active: float
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    is_estimated: bool

    def kv_bytes_per_token(self, dtype: str) -> float:
        """Keys and values of one token in all layers: 2 · layers · key heads · their width · bytes."""
        return 2 * self.layers * self.kv_heads * self.head_dim * BYTES[dtype]

    def weight_bytes(self, dtype: str) -> float:
        """All weights."""
        return self.params * BYTES[dtype]

    def flops_per_token(self, context: float) -> float:
        """Multiplications and additions for one token behind so many others: 2 a weight, 4 a key's width and head."""
        return 2 * self.active + 4 * self.layers * self.heads * self.head_dim * context


def estimated(params: float, active: float | None = None) -> ModelShape:
    """A dense transformer of so many parameters: 12·layers·width² of them, width = 128·layers, 8 key heads of 128."""
    layers = max(1, round((params / (12 * ASPECT**2)) ** (1 / 3)))
    hidden = (params / (12 * layers)) ** 0.5
    heads = max(1, round(hidden / HEAD_DIM))
    return ModelShape(params, active or params, layers, heads, min(KV_HEADS, heads), HEAD_DIM, round(hidden), True)


def from_config(path: Path, params: float | None, active: float | None) -> ModelShape:
    """The shape that a Hugging Face config.json (or the folder that holds one) tells; parameters given win.

    Raises:
        InvalidParams: It cannot be read, is no config, or is a mixture of experts and the parameters are not given.
    """
    config = _read(path / "config.json" if path.is_dir() else path)
    config = {**config, **(config.get("text_config") or {})}
    hidden, layers = _count(config, path, "hidden_size"), _count(config, path, "num_hidden_layers")
    heads = _count(config, path, "num_attention_heads")
    kv_heads = _count(config, path, "num_key_value_heads", heads)
    head_dim = _count(config, path, "head_dim", hidden // heads)
    if params is None:
        if any("expert" in name and value for name, value in config.items()):
            message = f"{path}: a mixture of experts; say --model-params and --active-params"
            raise InvalidParams("model_config", message)
        params = _dense(config, path, hidden, layers, heads, kv_heads, head_dim)
    return ModelShape(params, active or params, layers, heads, kv_heads, head_dim, hidden, False)


def _dense(
    config: Mapping[str, Any], path: Path, hidden: int, layers: int, heads: int, kv_heads: int, head_dim: int
) -> float:
    """Parameters of a Llama-like model: attention, a gated MLP, norms, and the embedding once if it is tied."""
    inner, vocabulary = _count(config, path, "intermediate_size"), _count(config, path, "vocab_size")
    attention = hidden * head_dim * (2 * heads + 2 * kv_heads)
    tables = 1 if config.get("tie_word_embeddings") else 2
    return layers * (attention + 3 * hidden * inner + 2 * hidden) + tables * vocabulary * hidden + hidden


def _count(config: Mapping[str, Any], path: Path, name: str, default: int | None = None) -> int:
    value = config.get(name)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1 << 30:
        raise InvalidParams("model_config", f"{path}: {name} must be a positive number, not {str(value)[:40]!r}")
    return value


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(CONFIG_LIMIT)
        found = json.loads(content)
    except OSError as error:
        raise InvalidParams("model_config", f"--model-config {path}: {error.strerror}") from None
    except ValueError:
        raise InvalidParams("model_config", f"--model-config {path}: not JSON") from None
    if not isinstance(found, dict):
        raise InvalidParams("model_config", f"--model-config {path}: not a JSON object")
    return found
