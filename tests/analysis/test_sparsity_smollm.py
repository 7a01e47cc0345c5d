"""The default model at densities chosen beforehand, beside pruning of the same size without training."""

import re
from pydoc_data.topics import topics
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from service.analysis.constrained_sparsity.schema import LmMetrics, SparsityRequest
from service.analysis.frame import About, Context
from service.analysis.torch_jobs import sparsity
from service.analysis.torch_jobs.sparsity.lm import Frozen, Site, evaluate

CONTEXT = 64
GROUPS = ["attention_heads", "mlp_channels"]


def prose() -> list[str]:
    """Paragraphs of Python's language reference, which every Python brings along."""
    parts = [" ".join(part.split()) for name in sorted(topics) for part in re.split(r"\n\s*\n", topics[name])]
    whole = [part for part in parts if len(part) > 300 and re.match(r"[A-Z][a-z]+ ", part)]
    return [*dict.fromkeys(part for part in whole if "::=" not in part and ">>>" not in part)]


def texts() -> tuple[list[str], list[str]]:
    """Those to train on, and those to tell the perplexity of."""
    found = prose()
    return [text for i, text in enumerate(found) if i % 7][::5][:36], found[::7][::2]


def prune(target: float, steps: int = 140) -> Any:
    train, held_out = texts()
    body = {
        "model": {
            "type": "served_lm",
            "prompts": train,
            "evaluation_prompts": held_out,
            "context_tokens": CONTEXT,
        },
        "constraint": {"target_density": target},
        "optimizer": {"num_steps": steps, "batch_size": 1, "gate_learning_rate": 0.1},
        "seed": 0,
    }
    return sparsity.compute(SparsityRequest.model_validate(body), Context(0, about=About(checkpoint="default")))


def norms(site: Site, block: Any) -> Tensor:
    """Of the parameters that each gate owns, but keys' and values'."""
    weight: Tensor = cast(Any, site.projection).weight
    out = weight.T.reshape(site.layer.num_gates, -1)
    if site.width > 1:
        owned = [block.self_attn.q_proj.weight.reshape(site.layer.num_gates, -1), out]
    else:
        owned = [block.mlp.gate_proj.weight, block.mlp.up_proj.weight, out]
    return torch.cat(owned, 1).norm(dim=1)


def same_size(active: list[int], how: str) -> LmMetrics:
    """What is left when each layer keeps so many gates: those of largest weights, or any."""
    frozen = Frozen("default")
    sites, generator = frozen.sites(GROUPS), torch.Generator().manual_seed(0)
    masks: list[Tensor] = []
    for number, (site, count) in enumerate(zip(sites, active, strict=True)):
        block = frozen.network.base_model.layers[number // 2]
        rank = norms(site, block) if how == "magnitude" else torch.rand(site.layer.num_gates, generator=generator)
        masks.append(torch.zeros(site.layer.num_gates).index_fill(0, rank.topk(count).indices, 1.0))
    return evaluate(frozen, sites, masks, frozen.encode(texts()[1], CONTEXT, "texts"))


@pytest.mark.long
@pytest.mark.model
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("target", [0.8, 0.6])
def test_the_default_model_keeps_a_density_and_more_than_magnitude_leaves(target: float) -> None:
    reply = prune(target)
    size = f"{reply.expected_density:.4f} expected, {reply.purged.parameter_fraction:.3f} purged"
    print(f"target {target}: {size}, {reply.metrics}")
    others = {how: same_size(reply.purged.active_gates, how) for how in ("magnitude", "random")}
    print({how: (metrics.perplexity, metrics.kl_to_dense) for how, metrics in others.items()})
    assert reply.expected_density == pytest.approx(target, abs=0.01)
    assert reply.metrics.dense_perplexity < 40
    assert all(reply.metrics.kl_to_dense < metrics.kl_to_dense for metrics in others.values())
