"""A tiny random Llama as a checkpoint for vLLM, and transformers' own view of it."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, LlamaForCausalLM

from sampler.engine import EngineOptions, Request, Support
from sampler.engines.huggingface.checkpoint import default_model
from sampler.engines.tabular import TabularTokenizer
from sampler.engines.vllm import load
from sampler.rng import DrawKey
from sampler.trace import Token
from tests.engines.models import random_llama

VOCABULARY = 512
EOS = frozenset({7})
CONTEXT = 512
TWINS = slice(500, 512)
"""Ids with one embedding and so always the same logit: where they stand at rank k, there is a tie."""


def tiny_checkpoint(folder: Path) -> Path:
    """Two layers with random weights large enough to give uneven rows: 1.4 MB."""
    return _save(folder, VOCABULARY, EOS)


def text_checkpoint(folder: Path) -> Path:
    """The same network with the default model's tokenizer, so that it can be asked in text: 27 MB."""
    source = Path(default_model())
    for file in [*source.glob("*token*.json"), *source.glob("chat_template.jinja")]:
        shutil.copy(file, folder)
    config = AutoConfig.from_pretrained(source)
    return _save(folder, config.vocab_size, frozenset({config.eos_token_id}))


def _save(folder: Path, vocabulary: int, eos_ids: frozenset[int]) -> Path:
    network = random_llama(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=256,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        bos_token_id=1,
        eos_token_id=sorted(eos_ids),
    )
    with torch.no_grad():
        network.get_output_embeddings().weight[TWINS] = network.get_output_embeddings().weight[TWINS.start]
    network.save_pretrained(folder)
    return folder


def load_network(path: str | Path) -> Any:
    """The checkpoint in transformers, float32."""
    network: Any = LlamaForCausalLM.from_pretrained(path, dtype=torch.float32)
    return network.eval()


def tiny_engine(folder: Path, **engine_args: Any) -> Any:
    """The engine on the tiny checkpoint, its tokens spelled as numbers, with the tests' hands inside it."""
    tokenizer = TabularTokenizer([f"<{token}>" for token in range(VOCABULARY)], EOS)
    engine_args = {"worker_extension_cls": "tests.vllm.extension.Inside"} | engine_args
    return load(EngineOptions(model=str(folder), kv_cache_bytes=64 << 20, engine_args=engine_args), tokenizer)


def request(
    ids: Sequence[int] = (3, 1, 4), tokens: int = 20, alpha: float = 2.0, *, top_k: int = 50, key: int = 0, **rest: Any
) -> Request:
    """A proposal; `key` numbers its draws."""
    support = rest.pop("support", Support("top_k", top_k=top_k))
    eos_ids = rest.pop("eos_ids", EOS)
    return Request(tuple(ids), tokens, alpha, support, DrawKey(key.to_bytes(32, "little")), 0, eos_ids, **rest)


def expected_rows(network: Any, prompt: Sequence[int], ids: Sequence[int]) -> torch.Tensor:
    """Logits of the rows that `ids` were drawn from, by transformers, in float64: [tokens, vocabulary]."""
    with torch.inference_mode():
        return network(torch.tensor([[*prompt, *ids]]), use_cache=False).logits[0, len(prompt) - 1 : -1].double()


def expected_statistics(rows: torch.Tensor, ids: Sequence[int], alpha: float, top_k: int) -> np.ndarray:
    """log p, ℓ, H and log mass over the top-k support, by the textbook: [tokens, 4]."""
    values, _ = rows.topk(top_k)
    total = values.logsumexp(-1)
    log_p = values - total[:, None]
    drawn = rows.gather(-1, torch.tensor(list(ids))[:, None])[:, 0] - total
    log_z, entropy = (alpha * log_p).logsumexp(-1), torch.special.entr(log_p.exp()).sum(-1)
    return torch.stack([drawn, log_z, entropy, total - rows.logsumexp(-1)], -1).numpy()


def difference(network: Any, prompt: Sequence[int], tokens: Sequence[Token], alpha: float, top_k: int) -> float:
    """The largest difference of any statistic of any token from transformers' own."""
    ids = [token.id for token in tokens]
    expected = expected_statistics(expected_rows(network, prompt, ids), ids, alpha, top_k)
    return float(np.abs(np.array([token[1:] for token in tokens]) - expected).max())
