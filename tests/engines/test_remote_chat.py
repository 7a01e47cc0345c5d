"""Conversations through a remote server's own tokenizer and template."""

from contextlib import closing

import pytest

from sampler.engines.remote.tokenizer import ServerTokenizer
from sampler.engines.tabular import TabularTokenizer
from sampler.errors import InvalidParams, NoChatTemplate
from sampler.tokenizer import Message
from tests.engines.fake_vllm import FakeVLLM, running
from tests.exact.models import random_engine

HELLO = [Message("user", "hi"), Message("assistant", "ho"), Message("user", "<2>")]


def tokenizer_of(fake: FakeVLLM) -> ServerTokenizer:
    """A client's view of the server's tokenizer."""
    return ServerTokenizer([fake.url], fake.model, {}, frozenset({2}))


def text_ids(fake: FakeVLLM, text: str) -> list[int]:
    """Ids of a text by the table's own tokenizer."""
    tokenizer: TabularTokenizer = fake.table.tokenizer
    return tokenizer.encode(text)


def test_messages_are_written_in_the_servers_template() -> None:
    with running(FakeVLLM(random_engine(8, 4))) as fake, closing(tokenizer_of(fake)) as tokenizer:
        text = "user:hi;assistant:ho;user:<2>;"
        assert tokenizer.encode_chat(HELLO) == text_ids(fake, f"{text}A:")
        assert tokenizer.encode_chat(HELLO, open_reply=False) == text_ids(fake, text)


def test_a_server_without_a_template_or_one_that_refuses_says_so() -> None:
    with running(FakeVLLM(random_engine(8, 4), template=None)) as fake, closing(tokenizer_of(fake)) as tokenizer:
        with pytest.raises(NoChatTemplate):
            tokenizer.encode_chat(HELLO)
        fake.template, fake.turns = "{content}", 2
        with pytest.raises(InvalidParams, match="at most 2 turns"):
            tokenizer.encode_chat(HELLO)


def test_a_text_without_the_start_token_and_the_text_of_ids() -> None:
    with running(FakeVLLM(random_engine(8, 4))) as fake, closing(tokenizer_of(fake)) as tokenizer:
        tokenizer.learn()
        assert tokenizer.encode("hi") == [0, *tokenizer.encode("hi", start=False)]
        assert tokenizer.encode("hi", start=False) == text_ids(fake, "hi")
        names = fake.table.tokenizer
        assert tokenizer.text([0, 2, 1]) == names.token_text(0) + names.token_text(2) + names.token_text(1)
        assert tokenizer.about.eos_token == names.token_text(2)
        assert tokenizer.about.control_tokens == {names.token_text(2): 2}
