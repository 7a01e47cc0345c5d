"""Heads: the order of ties, and the same rows as the exact engine computes."""

import numpy as np
import pytest
import torch

from sampler.engine import Support
from sampler.engines.transformers.heads import Heads, sorted_head
from sampler.row import log_sum_exp, row_of_top, sort_logits


def test_ties_are_ordered_by_id_and_cut_by_id() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, 3.0, 2.0, 2.0], [5.0, 5.0, 5.0, 5.0, 5.0, 5.0]])
    ids, values, open_tie = sorted_head(logits, 4)
    assert ids.tolist() == [[1, 3, 2, 4], [0, 1, 2, 3]]
    assert values.tolist() == [[3.0, 3.0, 2.0, 2.0], [5.0] * 4]
    assert not open_tie.any()


def test_coarse_logits_with_many_ties_are_sorted_like_the_whole_row() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(0, 12, (16, 200), generator=generator).double()
    for size in (1, 7, 50, 199, 200):
        heads = Heads(logits, size, [1.0] * 16, full=False)
        for index in range(16):
            row = heads.row(index, Support("top_k", top_k=size), 1.0)
            assert row.ids.tolist() == sort_logits(logits[index].numpy())[0][:size].tolist()


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_rows_equal_those_of_the_exact_engine(alpha: float) -> None:
    logits = 4 * torch.randn(3, 400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    heads = Heads(logits, 300, [alpha] * 3, full=True)
    for index in range(3):
        ids, values = sort_logits(logits[index].numpy())
        exact = row_of_top(ids, values, 400, alpha, log_sum_exp(values))
        row = heads.row(index, Support(), alpha)
        assert not row.complete
        np.testing.assert_allclose([row.log_z, row.entropy], [exact.log_z, exact.entropy], atol=1e-12)
        exact = row_of_top(ids, values, 30, alpha, log_sum_exp(values))
        row = heads.row(index, Support("top_k", top_k=30), alpha)
        assert (row.log_z, row.entropy) == (exact.log_z, exact.entropy)
        np.testing.assert_allclose(row.log_mass, exact.log_mass, atol=1e-12)
        for u in (1e-9, 0.2, 0.5, 0.9, 1.0):
            assert row.find(u) == exact.find(u)
