"""Request and reply."""

from typing import Annotated, Literal

from pydantic import Field

from service.analysis.frame import AnalysisRequest, AnalysisResponse, ReplyPart, SeededRequest

Rate = Annotated[float, Field(gt=0, le=10)]
Target = Annotated[float, Field(gt=0, le=1)]
Prompts = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=8000)]], Field(min_length=1, max_length=256, fail_fast=True)
]
Controller = Literal["ascent", "proportional_integral"]
Group = Literal["attention_heads", "mlp_channels"]


class Mlp(AnalysisRequest):
    """A perceptron trained together with gates on the inputs of each of its linear layers."""

    type: Literal["mlp"]
    hidden_sizes: list[Annotated[int, Field(ge=1, le=1024)]] = Field(min_length=1, max_length=4, fail_fast=True)


class ServedLm(AnalysisRequest):
    """The served model, from transformers: its weights stay as they are, heads and channels get gates."""

    type: Literal["served_lm"]
    groups: list[Group] = Field(default=["attention_heads", "mlp_channels"], min_length=1, max_length=2, fail_fast=True)
    objective: Literal["kl_to_dense"] = "kl_to_dense"
    prompts: Prompts = Field(description="texts whose next-token distributions the gated model is to keep")
    evaluation_prompts: Prompts | None = Field(default=None, description="perplexity is told of these; else of prompts")
    context_tokens: int = Field(default=64, ge=4, le=512, description="prompts are cut to so many tokens")


Features = Annotated[
    list[Annotated[float, Field(ge=-1e6, le=1e6)]], Field(min_length=1, max_length=4096, fail_fast=True)
]


class Dataset(AnalysisRequest):
    """Rows of features with a class each."""

    features: list[Features] = Field(min_length=4, max_length=50_000, fail_fast=True)
    labels: list[Annotated[int, Field(ge=0, le=999)]] = Field(min_length=4, max_length=50_000, fail_fast=True)
    test_fraction: float = Field(
        default=0.2, ge=0, le=0.9, description="rows kept for the accuracy; 0 = all, trained on"
    )


class Constraint(AnalysisRequest):
    """The density to reach."""

    scope: Literal["model", "layer"] = "model"
    target_density: Target | Annotated[list[Target], Field(min_length=1, max_length=1024, fail_fast=True)] = Field(
        description="expected share of gated parameters that is kept; by layer one for all, or a list"
    )


class Gating(AnalysisRequest):
    """How gates begin and how sharp they are."""

    temperature: float = Field(default=2 / 3, gt=0, lt=1)
    drop_rate: float | None = Field(default=None, gt=0, lt=1, description="default 0.3, of a served_lm 0.05")


class Optimizer(AnalysisRequest):
    """Steps and rates. What is left out is what the kind of model needs: see the documentation."""

    controller: Controller | None = Field(
        default=None, description="of the multipliers; default ascent, of a served_lm proportional_integral"
    )
    learning_rate: Rate | None = Field(default=None, description="of the weights of an mlp; default 1e-3")
    gate_learning_rate: Rate | None = None
    dual_learning_rate: float | None = Field(default=None, gt=0, le=1e6, description="of controller ascent")
    num_steps: int | None = Field(default=None, ge=1, le=20_000)
    batch_size: int | None = Field(default=None, ge=1, le=1024)


class SparsityRequest(SeededRequest):
    """A model, what it is trained on, and the density to reach."""

    model: Annotated[Mlp | ServedLm, Field(discriminator="type")]
    """a perceptron to train, or the served model"""
    dataset: Dataset | None = None
    """features and labels, for the perceptron"""
    constraint: Constraint
    dual_restarts: bool | None = Field(
        default=None, description="of controller ascent: a met constraint's multiplier goes back to 0; default true"
    )
    gates: Gating = Field(default_factory=Gating)
    """the shape and the start of the gates"""
    optimizer: Optimizer = Field(default_factory=Optimizer)
    """rates and steps of the training"""
    compare_dense: bool = Field(default=True, description="mlp: train one without gates beside it")
    baseline_penalties: list[Annotated[float, Field(ge=0, le=100)]] = Field(
        default=[],
        max_length=8,
        fail_fast=True,
        description="mlp: train with these fixed penalties too, one training each",
    )


class Purged(ReplyPart):
    """The network without the groups whose median gate is 0. Not the expected density."""

    parameter_fraction: float = Field(description="parameters left, of the gated layers and their biases")
    mac_fraction: float = Field(description="multiplications left, of the gated layers")
    active_gates: list[int]


class MlpMetrics(ReplyPart):
    """Accuracy with median gates, on rows kept for it."""

    accuracy: float
    dense_accuracy: float | None


class LmMetrics(ReplyPart):
    """Perplexity per token of the evaluation prompts, and the divergence that was trained."""

    perplexity: float
    dense_perplexity: float
    kl_to_dense: float = Field(description="nats a token")
    num_tokens: int


class Multipliers(ReplyPart):
    """What the constraints cost at the end, and on the way."""

    final: list[float]
    trace: list[tuple[int, float]] = Field(description="step and the multipliers' sum")


class Baseline(ReplyPart):
    """A training with a fixed penalty."""

    penalty: float
    expected_density: float
    accuracy: float


class SparsityResponse(AnalysisResponse):
    """What was reached."""

    expected_density: float
    layers: list[str]
    layer_density: list[float]
    target_density: list[float]
    violation: float = Field(description="largest density − target over the constraints")
    constraint_satisfied: bool
    tolerance: float
    lowest_density: float = Field(description="below it no target can be met")
    initial_density: float
    gated_parameters: int
    purged: Purged
    metrics: MlpMetrics | LmMetrics
    multipliers: Multipliers
    density_trace: list[tuple[int, float]]
    baselines: list[Baseline]
