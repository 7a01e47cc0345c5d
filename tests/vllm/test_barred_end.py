"""The real vLLM bars the end as the first token of a segment, and the token's ℓ is that of the rest."""

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from sampler.engine import Request
from tests.vllm.models import request

DRAWS = 600


async def test_the_first_token_is_no_end_and_later_ones_may_be(tiny: Any) -> None:
    plain = request((9, 17), 1, 1.5, key=0)
    probe = await tiny.propose(replace(plain, keep_rows=True))
    row = probe.rows[0]
    ends = frozenset(int(token) for token in row.ids[:3])  # the likeliest three are made ends
    left = row.without(ends)
    assert left.log_z < row.log_z - 0.05

    def barred(number: int) -> Request:
        return replace(request((9, 17), 4, 1.5, key=number), eos_ids=ends, bars_end=True)

    segments = await asyncio.gather(*[tiny.propose(barred(number)) for number in range(DRAWS)])
    places = {int(token): index for index, token in enumerate(left.ids)}
    seen = np.bincount([places[segment.tokens[0].id] for segment in segments], minlength=len(left.ids))
    law = np.exp(left.alpha * (left.logits.astype(float) - left.log_norm) - left.log_z)
    rare = law * DRAWS < 5
    observed, expected = np.append(seen[~rare], seen[rare].sum()), np.append(law[~rare], law[rare].sum()) * DRAWS
    assert (~rare).sum() > 3, "the case must be able to fail"
    assert chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-4
    for segment in segments:
        assert segment.tokens[0].log_z == pytest.approx(left.log_z, abs=1e-4)
        assert segment.tokens[0].entropy == pytest.approx(row.entropy, abs=1e-4)
    assert any(token.id in ends for segment in segments for token in segment.tokens[1:])
