"""A tiny random Llama that takes text: its tokens are bytes, so that it needs no other model's tokenizer."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

EOS = 0


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """The end, and a token for each byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {"<eos>": EOS, **{letter: number for number, letter in enumerate(alphabet, 1)}}
    tokenizer: Any = Tokenizer(BPE(vocab=ids, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


def byte_checkpoint(folder: Path) -> Path:
    """Two layers with random weights large enough to give uneven rows: less than a megabyte."""
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=EOS,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: Any = LlamaForCausalLM(config)
    network.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
