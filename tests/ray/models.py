"""A tiny random Llama that takes text: its tokens are bytes, so that it needs no other model's tokenizer."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from tests.engines.models import random_llama

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
    network = random_llama(vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=EOS)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
