"""How many replicas there are and what each gets, from a command line or a Serve config file."""

from collections.abc import Mapping
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sampler.errors import InvalidParams
from service.settings import Settings

PANEL = "Ray Serve"
MOST = 4096
TARGET_TOKENS = 1 << 22
"""Some 47 default requests of 1,024 tokens."""


class Scale(BaseModel):
    """A fixed number of replicas, or two bounds between which the work decides."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    replicas: int | None = Field(default=None, ge=1, le=MOST, description="replicas, always (1)")
    min_replicas: int | None = Field(default=None, ge=1, le=MOST, description="fewest replicas; more as work waits (1)")
    max_replicas: int | None = Field(default=None, ge=1, le=MOST, description="most replicas")
    target_queued_tokens: int | None = Field(
        default=None,
        ge=1,
        le=1 << 48,
        description=f"tokens at worst that may wait for each replica before there should be more ({TARGET_TOKENS})",
    )
    cpus_per_replica: float = Field(default=1.0, ge=0, le=1024, description="cores that Ray keeps for each replica (1)")
    gpus_per_replica: float = Field(default=0.0, ge=0, le=1024, description="GPUs of each replica (0)")

    @model_validator(mode="after")
    def _agree(self) -> "Scale":
        bounds = (self.min_replicas, self.max_replicas)
        if self.replicas is not None and bounds != (None, None):
            raise ValueError("replicas is a fixed number: give it, or min_replicas and max_replicas")
        if self.min_replicas is not None and self.max_replicas is None:
            raise ValueError("min_replicas needs max_replicas, the most that there may be")
        if self.max_replicas is not None and self.max_replicas < (self.min_replicas or 1):
            raise ValueError("max_replicas must not be less than min_replicas")
        if self.target_queued_tokens is not None and self.max_replicas is None:
            raise ValueError("target_queued_tokens needs max_replicas: a fixed number of replicas does not change")
        if self.gpus_per_replica > 1 and self.gpus_per_replica != int(self.gpus_per_replica):
            raise ValueError("gpus_per_replica is a whole number, or less than 1 for replicas that share a GPU")
        return self

    @property
    def most(self) -> int:
        """The largest number of replicas that there may be."""
        return self.max_replicas or self.replicas or 1

    @property
    def fewest(self) -> int:
        """The smallest."""
        return self.replicas or self.min_replicas or 1


def scale_from(given: Mapping[str, float | None]) -> Scale:
    """What a command line gives. Raises `InvalidParams` in one line."""
    named = {name: value for name, value in given.items() if value is not None}
    try:
        return Scale.model_validate(named)
    except ValidationError as error:
        wrong = error.errors()[0]
        field = str(wrong["loc"][0]) if wrong["loc"] else "replicas"
        message = str(wrong["msg"]).removeprefix("Value error, ")
        raise InvalidParams(field, f"--{field.replace('_', '-')}: {message}") from None


def refuse_without_ray(given: Mapping[str, float | str | None]) -> None:
    """Raise `InvalidParams` for an option of replicas where there are none."""
    for name, value in given.items():
        if value is not None:
            raise InvalidParams(name, f"--{name.replace('_', '-')} needs --ray")


def shared_store(settings: Settings) -> None:
    """Raise `InvalidParams` where replicas on several machines would keep their jobs apart."""
    if settings.database_url is None:
        raise InvalidParams(
            "database_url",
            "replicas on several machines share their batch jobs and privacy budgets through PostgreSQL: give "
            "--database-url or POWERCUT_DATABASE_URL (without --ray-address all replicas are on this machine, and "
            "SQLite will do)",
        )


def option(name: str, flag: str) -> typer.models.OptionInfo:
    """A field of `Scale` as an option of `powercut serve`."""
    described = Scale.model_fields[name].description
    return typer.Option(flag, help=described, show_default=False, rich_help_panel=PANEL)


OnRay = Annotated[bool, typer.Option("--ray", help="serve as replicas of Ray Serve", rich_help_panel=PANEL)]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray-address", help="HOST:PORT of a running Ray cluster (a new one, here)", rich_help_panel=PANEL),
]
Replicas = Annotated[int | None, option("replicas", "--replicas")]
MinReplicas = Annotated[int | None, option("min_replicas", "--min-replicas")]
MaxReplicas = Annotated[int | None, option("max_replicas", "--max-replicas")]
TargetTokens = Annotated[int | None, option("target_queued_tokens", "--target-queued-tokens")]
CpusEach = Annotated[float | None, option("cpus_per_replica", "--cpus-per-replica")]
GpusEach = Annotated[float | None, option("gpus_per_replica", "--gpus-per-replica")]
