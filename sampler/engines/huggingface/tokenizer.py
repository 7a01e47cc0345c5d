"""A Hugging Face tokenizer behind the sampler's protocol.

For byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM) a token is a string of bytes, so the bytes of a response are its
tokens' bytes joined. Other tokenizers (SentencePiece, with its leading spaces) have no such map: there the whole
response is decoded each time, which is slower and right.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

from transformers import AutoTokenizer

from sampler.errors import ModelNotFound


def load_tokenizer(path: str) -> "HFTokenizer":
    """The tokenizer of a checkpoint. Only fast tokenizers can tell control tokens from their text."""
    try:
        tokenizer = cast(Any, AutoTokenizer).from_pretrained(path, use_fast=True, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise ModelNotFound(f"no usable tokenizer for {path}: {str(error).splitlines()[0]}") from None
    return HFTokenizer(tokenizer)


class HFTokenizer:
    """Encodes without control tokens from text; decodes a response to bytes."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self._special = frozenset(tokenizer.all_special_ids)
        decoder = cast("dict[str, Any]", json.loads(self._backend.to_str()).get("decoder") or {})
        self.tokens_are_bytes = decoder.get("type") == "ByteLevel"

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return max(self._tokenizer.get_vocab().values()) + 1

    @property
    def eos_id(self) -> int | None:
        """The tokenizer's end-of-sequence id; a model may have more."""
        return self._tokenizer.eos_token_id

    def encode(self, text: str) -> list[int]:
        """Ids with the tokenizer's own start token where it adds one; control tokens in the text stay text."""
        prefix = self._tokenizer("", add_special_tokens=True).input_ids
        start = [prefix[0]] if prefix and prefix[0] == self._tokenizer.bos_token_id else []
        self._backend.encode_special_tokens = True
        return start + list(self._backend.encode(text, add_special_tokens=False).ids)

    def response_bytes(self, ids: Sequence[int]) -> bytes:
        """The response's bytes; control tokens have none."""
        if self.tokens_are_bytes:
            return b"".join(self._bytes(token) for token in ids)
        return self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False).encode()

    def token_text(self, token: int) -> str:
        """The token as text, control tokens by their names."""
        if token in self._special or not self.tokens_are_bytes:
            return str(self._tokenizer.convert_ids_to_tokens(token))
        return self._bytes(token).decode("utf-8", errors="replace")

    def _bytes(self, token: int) -> bytes:
        return self._table[token] if token < len(self._table) else b""

    @cached_property
    def _table(self) -> list[bytes]:
        """Bytes by id. Ids without a token (padding of the embedding) and control tokens have none."""
        byte_of = byte_level_alphabet()
        table = [b""] * (max(self._tokenizer.get_vocab().values()) + 1)
        added = {int(i): token.content for i, token in self._tokenizer.added_tokens_decoder.items()}
        for text, token in self._tokenizer.get_vocab().items():
            if token in self._special:
                continue
            # Added tokens are plain text, the rest is written in the byte alphabet.
            table[token] = added[token].encode() if token in added else bytes(byte_of[char] for char in text)
        return table


def byte_level_alphabet() -> dict[str, int]:
    """The printable character that byte-level BPE writes for each byte, inverted."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
