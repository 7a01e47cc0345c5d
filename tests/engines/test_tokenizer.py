"""Untrusted text becomes ids and comes back as its own bytes; control tokens written as text stay text."""

from functools import cache

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sampler.engines.huggingface.checkpoint import resolve
from sampler.engines.huggingface.tokenizer import HFTokenizer, byte_level_alphabet, load_tokenizer
from sampler.stops import StopMatcher, trim_at_stop

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def tokenizer() -> HFTokenizer:
    return load_tokenizer(resolve(None).path)


@cache
def single_bytes(tokenizer: HFTokenizer) -> frozenset[bytes]:
    return frozenset(tokenizer.response_bytes([token]) for token in range(49152))


def assume_representable(tokenizer: HFTokenizer, text: str) -> None:
    """SmolLM2's vocabulary has no token for a few bytes (control characters, unassigned planes); no text uses them."""
    assume(all(bytes([byte]) in single_bytes(tokenizer) for byte in text.encode()))


@given(st.text(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
def test_text_comes_back_byte_for_byte(tokenizer: HFTokenizer, text: str) -> None:
    assume_representable(tokenizer, text)
    assert tokenizer.response_bytes(tokenizer.encode(text)) == text.encode()


@pytest.mark.parametrize("text", ["<|im_end|>", "<|endoftext|>x", "a<|im_start|>user\n"])
def test_control_tokens_as_text_stay_text(tokenizer: HFTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert not set(ids) & {0, 1, 2}
    assert tokenizer.response_bytes(ids) == text.encode()


def test_real_control_tokens_have_no_bytes_but_a_name(tokenizer: HFTokenizer) -> None:
    assert tokenizer.response_bytes([1, 2]) == b""
    assert tokenizer.token_text(2) == "<|im_end|>"


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=4), st.integers(0, 10))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
def test_a_stop_string_is_hit_by_the_token_that_completes_it(
    tokenizer: HFTokenizer, text: str, stop: str, cut: int
) -> None:
    """Whatever the tokens and wherever the matcher is restarted, the same as looking at all bytes."""
    assume_representable(tokenizer, text + stop)
    ids = tokenizer.encode(text + stop)
    first = next(n for n in range(1, len(ids) + 1) if stop.encode() in tokenizer.response_bytes(ids[:n]))
    kept = min(cut, first - 1)
    matcher = StopMatcher((stop,), tokenizer).restart(ids[:kept])
    hits = [n for n in range(kept + 1, len(ids) + 1) if matcher.hit(ids[n - 1])]
    assert hits[0] == first
    whole = tokenizer.response_bytes(ids)
    assert trim_at_stop(whole, (stop,)) == whole[: whole.index(stop.encode())]


def test_the_byte_alphabet_is_a_bijection() -> None:
    assert sorted(byte_level_alphabet().values()) == list(range(256))
