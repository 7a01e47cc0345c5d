import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import kstest

import sampler.rng
from sampler.rng import EXTEND, DrawKey, Draws, Kind, prompt_digest
from tests.exact.checks import check_kinds_share_no_draws, check_prompts_share_no_draws

DIGEST = prompt_digest((1, 2, 3))


def test_a_uniform_depends_on_its_key_and_position_alone() -> None:
    one, two = (Draws(5, DIGEST, 2).key(Kind.TOKEN, 1, 3) for _ in range(2))
    later = [one.uniform(t) for t in (9, 4, 0)]
    assert [two.uniform(t) for t in (0, 4, 9)] == later[::-1]


def test_every_part_of_the_key_changes_the_uniform() -> None:
    keys = [
        Draws(seed, digest, chain).key(kind, stage, step, attempt)
        for seed, digest, chain, kind, stage, step, attempt in itertools.product(
            (0, 1), (DIGEST, prompt_digest((1, 2))), (0, 1), Kind, (0, 1), (EXTEND, 0, 1), (0, 1)
        )
    ]
    uniforms = {key.uniform(position) for key in keys for position in (0, 1)}
    assert len(uniforms) == 2 * len(keys)


def test_seed_and_chain_are_not_added() -> None:
    assert Draws(1, DIGEST, 2).key(Kind.CUT, 0, 0) != Draws(2, DIGEST, 1).key(Kind.CUT, 0, 0)


def test_two_prompts_share_no_draws_under_one_seed() -> None:
    check_prompts_share_no_draws()


def test_two_kinds_share_no_draws() -> None:
    check_kinds_share_no_draws()


def test_prompt_digests_tell_prompts_apart() -> None:
    prompts = [(), (0,), (0, 0), (1,), (256,), (1, 0), (0, 1), (65536,)]
    assert len({prompt_digest(ids) for ids in prompts}) == len(prompts)


def test_uniforms_lie_in_the_half_open_interval_and_are_uniform() -> None:
    key = Draws(0, DIGEST).key(Kind.TOKEN, 0, 0)
    uniforms = np.array([key.uniform(t) for t in range(20_000)])
    assert uniforms.min() > 0
    assert uniforms.max() <= 1
    assert kstest(uniforms, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(uniforms[:-1], uniforms[1:])[0, 1]) < 0.03


@pytest.mark.parametrize(("word", "uniform"), [(bytes(8), 2.0**-53), (b"\xff" * 8, 1.0)])
def test_the_extreme_hashes_give_the_ends_of_the_interval(
    monkeypatch: pytest.MonkeyPatch, word: bytes, uniform: float
) -> None:
    monkeypatch.setattr(sampler.rng.hashlib, "blake2b", lambda *_, **__: SimpleNamespace(digest=lambda: word))
    assert DrawKey(b"key").uniform(3) == uniform


def test_the_draws_stay_what_they_were() -> None:
    """Seeds are promises: a release that changes these numbers changes every seeded answer."""
    key = Draws(7, prompt_digest((1, 2, 3)), 1).key(Kind.TOKEN, 2, 3)
    assert key.digest.hex()[:16] == PINNED_DIGEST
    assert [key.uniform(t) for t in (0, 1, 1000)] == PINNED
    assert DrawKey(key.digest).uniform(1) == PINNED[1]


PINNED_DIGEST = "7c237d208e633339"
PINNED = [0.5413028488271797, 0.5153241882372068, 0.9723376347006951]
