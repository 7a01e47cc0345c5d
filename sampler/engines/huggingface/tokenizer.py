"""A Hugging Face tokenizer behind the sampler's protocol.

For byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM) a token is a string of bytes, so the bytes of a response are its
tokens' bytes joined. Other tokenizers (SentencePiece, with its leading spaces) have no such map: there the whole
response is decoded each time, which is slower and right.
"""

import copy
import json
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, cast

from transformers import AutoTokenizer

from sampler.engines.huggingface.chat import pieces, render
from sampler.errors import InvalidParams, ModelNotFound
from sampler.tokenizer import Message, TokenizerInfo

SYSTEM, USER, ASSISTANT = (Message(role, "x") for role in ("system", "user", "assistant"))
# Complete turns only, the last one the user's: an opened or a last reply may hold marks that are text elsewhere
# ("<think>"), and which some templates look for in the messages.
PROBES = ([USER, ASSISTANT, USER], [SYSTEM, USER])
"""Conversations that show with which tokens a template marks its turns."""


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

    @property
    def about(self) -> TokenizerInfo:
        """Its control tokens and its chat template."""
        return self._about

    @cached_property
    def _about(self) -> TokenizerInfo:
        inner = self._tokenizer
        template = inner.chat_template
        added = {token.content: int(i) for i, token in inner.added_tokens_decoder.items() if token.special}
        special = {str(inner.convert_ids_to_tokens(token)): int(token) for token in sorted(self._special)}
        names = added | self._roles | special
        # A normaliser may shorten a text before it is cut into tokens.
        is_plain = self.tokens_are_bytes and self._backend.normalizer is None
        return TokenizerInfo(
            inner.bos_token,
            inner.eos_token,
            inner.pad_token,
            template if isinstance(template, str) else None,
            max(map(len, self._table)) if is_plain else None,
            names,
        )

    def encode(self, text: str, *, start: bool = True) -> list[int]:
        """Ids with the tokenizer's own start token where it adds one; control tokens in the text stay text."""
        prefix = cast("list[int]", self._tokenizer("", add_special_tokens=True).input_ids if start else [])
        first = [prefix[0]] if prefix and prefix[0] == self._tokenizer.bos_token_id else []
        writer = self._writer if self._roles else self._backend
        writer.encode_special_tokens = True
        return first + list(writer.encode(text, add_special_tokens=False).ids)

    def encode_chat(self, messages: Sequence[Message], *, open_reply: bool = True) -> list[int]:
        """Ids of a conversation; see the protocol. A start token is the template's to write."""

        def write(given: Sequence[Message]) -> str:
            return render(self._tokenizer, given, open_reply)

        names = self.about.control_tokens
        parts = pieces(write, messages, names)
        if parts is None:
            return list(self._reader.encode(write(messages), add_special_tokens=False).ids)
        ids: list[int] = []
        for part in parts:
            ids += [names[part.text]] if part.is_control else self.encode(part.text, start=False)
        return ids

    @cached_property
    def _roles(self) -> dict[str, int]:
        """Tokens that mark turns though the tokenizer calls them ordinary; as much the template's as control tokens."""
        ordinary = {t.content: int(i) for i, t in self._tokenizer.added_tokens_decoder.items() if not t.special}
        if not ordinary or not self._tokenizer.chat_template:
            return {}
        written = ""
        for probe in PROBES:
            with suppress(InvalidParams):  # a template may refuse a role
                written += render(self._tokenizer, probe, False)
        return {name: token for name, token in ordinary.items() if name in written}

    @cached_property
    def _writer(self) -> Any:
        """A second tokenizer, to which the roles are control tokens too."""
        state = json.loads(self._backend.to_str())
        for token in state["added_tokens"]:
            token["special"] |= token["content"] in self._roles
        return cast(Any, type(self._backend)).from_str(json.dumps(state))

    @cached_property
    def _reader(self) -> Any:
        """Another, which reads them out of text: the switch belongs to the whole tokenizer."""
        reader = copy.deepcopy(self._backend)
        reader.encode_special_tokens = False
        return reader

    def response_bytes(self, ids: Sequence[int]) -> bytes:
        """The response's bytes; control tokens have none."""
        if self.tokens_are_bytes:
            return b"".join(self._bytes(token) for token in ids)
        return self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False).encode()

    def text(self, ids: Sequence[int]) -> str:
        """The text of any ids, control tokens by their names."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

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
