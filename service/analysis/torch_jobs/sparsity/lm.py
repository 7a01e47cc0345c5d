"""The served model, frozen, with a gate on each query head and each channel of its perceptrons.

Our extension: the paper trains image classifiers. Gates multiply what enters a block's output projections, so a head
or channel whose gate is 0 can be cut out. A head owns its query rows and output columns; keys and values that several
query heads share are owned by none of them and stay. Embeddings, norms and the head of the model are not gated.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from sampler.engines.huggingface.checkpoint import resolve
from service.analysis.constrained_sparsity.check import (
    GATES_PER_DUAL_RATE,
    check_target_count,
    drop_rate,
    rates,
    restarts,
    targets,
)
from service.analysis.constrained_sparsity.schema import LmMetrics, Purged, ServedLm, SparsityRequest
from service.analysis.frame import AnalysisError, Context
from service.analysis.torch_jobs.sparsity.gates import Gates, Layer
from service.analysis.torch_jobs.sparsity.report import Parts
from service.analysis.torch_jobs.sparsity.train import DensityProblem, Loss, train_constrained

EVALUATE_ROWS = 4


class Site(NamedTuple):
    """Where a gated layer's gates enter: the projection, and how many of its inputs each gate covers."""

    layer: Layer
    projection: torch.nn.Module
    width: int


class Frozen:
    """A copy of the served model that nothing is trained in.

    Args:
        checkpoint: See `About`.
    """

    def __init__(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            raise AnalysisError("model.type", "the served engine has no checkpoint that could be loaded here")
        cast(Any, transformers_logging).disable_progress_bar()
        path = resolve(None if checkpoint == "default" else checkpoint).path
        self.network: Any = cast(Any, AutoModelForCausalLM).from_pretrained(
            path, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
        )
        self.network.eval().requires_grad_(False)
        self.tokenizer: Any = cast(Any, AutoTokenizer).from_pretrained(path)

    def encode(self, prompts: list[str], longest: int, field: str) -> list[Tensor]:
        """Ids of each prompt, cut to the longest; refuses one that predicts nothing."""
        found = [torch.tensor(self.tokenizer(prompt)["input_ids"][:longest]) for prompt in prompts]
        if short := next((number for number, ids in enumerate(found) if len(ids) < 2), None):
            raise AnalysisError(f"{field}.{short}", "fewer than two tokens: there is no next token to predict")
        if len(found[0]) < 2:
            raise AnalysisError(f"{field}.0", "fewer than two tokens: there is no next token to predict")
        return found

    def hidden(self, batch: Tensor, mask: Tensor) -> Tensor:
        """Last hidden states [rows, tokens, width]."""
        found = self.network.base_model(input_ids=batch, attention_mask=mask, use_cache=False)
        return found.last_hidden_state

    def log_probs(self, hidden: Tensor) -> Tensor:
        """log p of each next token [rows, tokens, vocabulary]."""
        return self.network.get_output_embeddings()(hidden).log_softmax(-1)

    @torch.no_grad()
    def remember(self, prompts: list[Tensor]) -> list[Tensor]:
        """The dense model's last hidden states of each prompt, [tokens, width]: small, and all that is needed again."""
        return [self.hidden(ids[None], torch.ones_like(ids)[None])[0] for ids in prompts]

    def sites(self, groups: list[str]) -> list[Site]:
        """Where gates go, block by block; refuses a model that is built otherwise."""
        found: list[Site] = []
        try:
            for number, block in enumerate(self.network.base_model.layers):
                if "attention_heads" in groups:
                    found.append(self._heads(f"block {number} heads", block.self_attn))
                if "mlp_channels" in groups:
                    found.append(channels(f"block {number} channels", block.mlp))
        except AttributeError as error:
            message = f"the served model is built otherwise than gates can be put into ({error.name} is not there)"
            raise AnalysisError("model.type", message, code="unsupported_model") from None
        return found

    def _heads(self, name: str, attention: Any) -> Site:
        config = self.network.config.get_text_config()
        count = config.num_attention_heads
        owned = numel(attention.q_proj) // count + attention.o_proj.weight.numel() // count
        if getattr(config, "num_key_value_heads", count) == count:  # keys and values of its own
            owned += (numel(attention.k_proj) + numel(attention.v_proj)) // count
        return Site(Layer(name, count, owned), attention.o_proj, attention.o_proj.in_features // count)


def channels(name: str, mlp: Any) -> Site:
    """The channels of a gated perceptron."""
    count = mlp.down_proj.in_features
    owned = (numel(mlp.gate_proj) + numel(mlp.up_proj) + mlp.down_proj.weight.numel()) // count
    return Site(Layer(name, count, owned), mlp.down_proj, 1)


def numel(linear: Any) -> int:
    """Parameters of a linear layer, its bias included."""
    return sum(parameter.numel() for parameter in linear.parameters())


@contextmanager
def gated(sites: list[Site], gates: list[Tensor]) -> Iterator[None]:
    """Multiply what enters each projection by its gates."""

    def hook(width: int, values: Tensor) -> Any:
        spread = values.repeat_interleave(width)
        return lambda module, arguments: (arguments[0] * spread, *arguments[1:])

    handles = [
        site.projection.register_forward_pre_hook(hook(site.width, values))
        for site, values in zip(sites, gates, strict=True)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Ids [rows, longest] with zeros behind, and which are real."""
    batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return batch, mask


def divergence(log_p: Tensor, log_q: Tensor, mask: Tensor) -> Tensor:
    """KL(p ‖ q) of the next token, in nats, averaged over the tokens that have one before the end."""
    log_p, log_q = log_p[:, :-1], log_q[:, :-1]
    each = (log_p.exp() * (log_p - log_q)).sum(-1)
    real = mask[:, 1:].float()
    return (each * real).sum() / real.sum()


def train_lm(request: SparsityRequest, model: ServedLm, context: Context) -> Parts:
    """Gates that keep the next-token distributions of the prompts at the density that was asked for."""
    frozen = Frozen(context.about.checkpoint)
    prompts = frozen.encode(model.prompts, model.context_tokens, "model.prompts")
    evaluation = prompts
    if model.evaluation_prompts is not None:
        evaluation = frozen.encode(model.evaluation_prompts, model.context_tokens, "model.evaluation_prompts")
    sites = frozen.sites([*model.groups])
    check_target_count(request, len(sites))
    settings = rates(request)
    if request.optimizer.dual_learning_rate is None:
        num_gates = sum(site.layer.num_gates for site in sites)
        settings = settings._replace(dual_learning_rate=max(1.0, num_gates / GATES_PER_DUAL_RATE))
    generator = torch.Generator().manual_seed(int(context.rng.integers(1 << 62)))
    layers = [site.layer for site in sites]
    gates = Gates(layers, request.gates.temperature, drop_rate(request), generator)
    loss = loss_of(frozen, sites, prompts, settings.batch_size, generator)
    by_layer = request.constraint.scope == "layer"
    problem = DensityProblem(loss, gates, targets(request, len(sites)), by_layer=by_layer)
    course = train_constrained(problem, [], settings, context.report, restarts=restarts(request))
    metrics = evaluate(frozen, sites, gates.medians(), evaluation)
    return Parts(gates, course, metrics, purged(gates), [])


def loss_of(frozen: Frozen, sites: list[Site], prompts: list[Tensor], size: int, generator: torch.Generator) -> Loss:
    """Divergence from the dense model on the next batch of prompts."""
    order: list[Tensor] = []
    remembered = frozen.remember(prompts)

    def value(gates: list[Tensor]) -> Tensor:
        if not order:
            order.extend(torch.randperm(len(prompts), generator=generator).split(size))
        chosen = order.pop().tolist()
        batch, mask = padded([prompts[number] for number in chosen])
        with torch.no_grad():
            dense, _ = padded([remembered[number] for number in chosen])
            log_p = frozen.log_probs(dense)
        with gated(sites, gates):
            return divergence(log_p, frozen.log_probs(frozen.hidden(batch, mask)), mask)

    return value


@torch.no_grad()
def evaluate(frozen: Frozen, sites: list[Site], medians: list[Tensor], prompts: list[Tensor]) -> LmMetrics:
    """Perplexity of the dense model and of the one with median gates, and the divergence between them."""
    sums = torch.zeros(3, dtype=torch.float64)
    count = 0
    for start in range(0, len(prompts), EVALUATE_ROWS):
        batch, mask = padded(prompts[start : start + EVALUATE_ROWS])
        dense = frozen.log_probs(frozen.hidden(batch, mask))
        with gated(sites, medians):
            pruned = frozen.log_probs(frozen.hidden(batch, mask))
        tokens = int(mask[:, 1:].sum())
        parts = (surprise(pruned, batch, mask), surprise(dense, batch, mask), divergence(dense, pruned, mask))
        sums += tokens * torch.tensor([part.item() for part in parts], dtype=torch.float64)
        count += tokens
    pruned_nats, dense_nats, kl = (sums / count).tolist()
    return LmMetrics(
        perplexity=float(torch.tensor(pruned_nats).exp()),
        dense_perplexity=float(torch.tensor(dense_nats).exp()),
        kl_to_dense=max(0.0, kl),
        num_tokens=count,
    )


def surprise(log_probs: Tensor, batch: Tensor, mask: Tensor) -> Tensor:
    """−log p of the tokens that came, in nats, averaged."""
    log_p = log_probs[:, :-1].gather(-1, batch[:, 1:, None])[..., 0]
    real = mask[:, 1:].float()
    return -(log_p * real).sum() / real.sum()


def purged(gates: Gates) -> Purged:
    """What is left when heads and channels with median 0 go."""
    active = [int((median > 0).sum()) for median in gates.medians()]
    total = sum(layer.num_gates * layer.owned for layer in gates.layers)
    fraction = sum(count * layer.owned for count, layer in zip(active, gates.layers, strict=True)) / total
    return Purged(parameter_fraction=fraction, mac_fraction=fraction, active_gates=active)
