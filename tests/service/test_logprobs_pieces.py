"""Offsets and bytes where a token alone is not what it is within a text; names that several tokens share."""

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from sampler.engines.huggingface.tokenizer import HFTokenizer
from sampler.engines.tabular import TabularTokenizer
from service.logprobs import Shown, added_bytes, chat_logprobs, completion_logprobs, starts

WORDS = ["<s>", "</s>", "▁Hello", "▁world", "!", "▁ho", "<0xC3>", "<0xA9>"]
HELLO, WORLD, BANG, HO, HIGH, LOW = range(2, 8)
END = 1


@pytest.fixture(scope="module")
def tokenizer() -> HFTokenizer:
    """SentencePiece's way of writing: spaces belong to the word after them, the first is dropped."""
    backend: Any = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(WORDS)}, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return HFTokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>"))


@pytest.mark.parametrize(
    ("ids", "pieces"),
    [
        ([HELLO, WORLD, BANG], [b"Hello", b" world", b"!"]),
        ([0, HELLO, WORLD, END], [b"", b"Hello", b" world", b""]),
        ([HELLO, END, WORLD, WORLD], [b"Hello", b"", b" world", b" world"]),
        ([HELLO, HIGH, LOW, WORLD], [b"Hello", b"", "é".encode(), b" world"]),
        ([HELLO, HIGH], [b"Hello", "\ufffd".encode()]),
        ([], []),
    ],
)
def test_pieces_are_what_each_token_adds(tokenizer: HFTokenizer, ids: list[int], pieces: list[bytes]) -> None:
    assert not tokenizer.tokens_are_bytes
    assert added_bytes(ids, tokenizer) == pieces
    assert b"".join(pieces) == tokenizer.response_bytes(ids)


def test_offsets_point_into_the_text(tokenizer: HFTokenizer) -> None:
    assert list(starts(added_bytes([HELLO, WORLD, BANG], tokenizer))) == [0, 5, 11]


def test_alternatives_have_their_space_too(tokenizer: HFTokenizer) -> None:
    shown = [
        Shown(HELLO, b"Hello", 0, -0.1, [(HELLO, -0.1)]),
        Shown(WORLD, b" world", 5, -0.5, [(WORLD, -0.5), (HO, -1.0)]),
    ]
    first, second = chat_logprobs(shown, tokenizer)["content"]
    assert bytes(second["bytes"]) == b" world"
    assert [bytes(top["bytes"]) for top in first["top_logprobs"]] == [b"Hello"]
    assert [bytes(top["bytes"]) for top in second["top_logprobs"]] == [b" world", b" ho"]


def test_of_tokens_with_one_name_the_likeliest_is_shown() -> None:
    tokenizer = TabularTokenizer(["a", "a", "b"], frozenset())
    shown = [Shown(0, b"a", 0, -0.5, [(0, -0.5), (2, -1.0), (1, -3.0)])]
    (top,) = completion_logprobs(shown, tokenizer, 3)["top_logprobs"]
    assert top == {"a": -0.5, "b": -1.0}
    assert next(iter(top)) == "a"
