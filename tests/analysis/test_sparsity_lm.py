"""Gates on a frozen language model: what they cut is what they say, and the density that was asked for is reached."""

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from service.analysis.constrained_sparsity.schema import LmMetrics, SparsityRequest, SparsityResponse
from service.analysis.frame import About, AnalysisError, Context
from service.analysis.torch_jobs import sparsity
from service.analysis.torch_jobs.sparsity.lm import Frozen, gated, padded
from tests.engines.models import random_llama

WORDS = [f"w{number}" for number in range(60)]
PROMPTS = [" ".join(WORDS[(start * step) % 60] for step in range(1, 14)) for start in range(1, 17)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random Llama of two blocks with four query heads on two key heads, and a tokenizer of words."""
    folder = tmp_path_factory.mktemp("tiny")
    shape = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 2048}
    network = random_llama(**shape, tie_word_embeddings=False)
    network.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(["?", *WORDS])}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(folder)
    return str(folder)


def prune(checkpoint: str | None, target: float, **changes: Any) -> SparsityResponse:
    model = {"type": "served_lm", "prompts": PROMPTS, "context_tokens": 12} | changes.pop("model", {})
    body = {"model": model, "constraint": {"target_density": target}, "seed": 0} | changes
    request = SparsityRequest.model_validate(body)
    return sparsity.compute(request, Context(0, about=About(checkpoint=checkpoint)))


def test_open_gates_change_nothing_and_a_closed_one_cuts_its_columns(checkpoint: str) -> None:
    frozen = Frozen(checkpoint)
    sites = frozen.sites(["attention_heads", "mlp_channels"])
    assert [site.layer.num_gates for site in sites] == [4, 48, 4, 48]
    assert sites[0].layer.owned == 2 * 8 * 32  # query rows and output columns; keys and values are shared
    assert sites[1].layer.owned == 3 * 32
    batch, mask = padded(frozen.encode(PROMPTS[:3], 12, "prompts"))
    dense = frozen.hidden(batch, mask)
    gates = [torch.ones(site.layer.num_gates) for site in sites]
    with gated(sites, gates):
        assert torch.equal(frozen.hidden(batch, mask), dense)
    gates[2][1], gates[1][7] = 0.0, 0.0
    with gated(sites, gates):
        pruned = frozen.hidden(batch, mask)
    assert not torch.allclose(pruned, dense)
    assert torch.equal(frozen.hidden(batch, mask), dense)  # nothing stays behind
    with torch.no_grad():
        frozen.network.model.layers[1].self_attn.o_proj.weight[:, 8:16] = 0.0
        frozen.network.model.layers[0].mlp.down_proj.weight[:, 7] = 0.0
    assert torch.allclose(frozen.hidden(batch, mask), pruned, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("target", [0.6, 0.8])
def test_a_density_is_reached(checkpoint: str, target: float) -> None:
    """In few steps, where ascent with Adam falls through its target and does not come back in time."""
    short = {"num_steps": 150, "gate_learning_rate": 0.1}
    reply = prune(checkpoint, target, optimizer=short)
    fallen = prune(checkpoint, target, optimizer={**short, "controller": "ascent"})
    assert reply.expected_density == pytest.approx(target, abs=0.01)
    assert min(density for _, density in reply.density_trace) > target - 0.02
    assert min(density for _, density in fallen.density_trace) < target - 0.03
    assert reply.layers[:2] == ["block 0 heads", "block 0 channels"]
    assert isinstance(reply.metrics, LmMetrics)
    assert reply.metrics.kl_to_dense > 0
    assert reply.metrics.num_tokens == 16 * 11
    assert reply.gated_parameters == 2 * (4 * 512 + 48 * 96)
    assert reply.purged.parameter_fraction < 1


def test_few_steps_say_that_the_target_was_missed(checkpoint: str) -> None:
    reply = prune(checkpoint, 0.3, optimizer={"num_steps": 3}, model={"groups": ["mlp_channels"]})
    assert not reply.constraint_satisfied
    assert [one.code for one in reply.warnings] == ["constraint_violated"]
    assert len(reply.layers) == 2


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": {"prompts": ["w1"]}}, "model.prompts.0"),
        ({"model": {"groups": ["mlp_channels", "mlp_channels"]}}, "model.groups"),
        ({"optimizer": {"learning_rate": 1e-3}}, "optimizer.learning_rate"),
        ({"optimizer": {"dual_learning_rate": 1.0}}, "optimizer.dual_learning_rate"),
        ({"dual_restarts": True}, "dual_restarts"),
        ({"optimizer": {"num_steps": 20_000, "batch_size": 1024}}, "optimizer.num_steps"),
        ({"baseline_penalties": [0.1]}, "baseline_penalties"),
        ({"dataset": {"features": [[0.0]] * 4, "labels": [0, 1, 0, 1]}}, "dataset"),
        ({"constraint": {"scope": "layer", "target_density": [0.5, 0.5]}}, "constraint.target_density"),
    ],
)
def test_refusals(checkpoint: str, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(AnalysisError) as refused:
        prune(checkpoint, 0.5, **changes)
    assert refused.value.field == field


def test_an_engine_without_a_checkpoint_is_refused() -> None:
    with pytest.raises(AnalysisError) as refused:
        prune(None, 0.5)
    assert refused.value.field == "model.type"
