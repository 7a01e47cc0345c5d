"""Every limit of the service in one place; each can be set as `POWERCUT_<NAME>` in the environment."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Frozen at start."""

    model_config = SettingsConfigDict(env_prefix="POWERCUT_", frozen=True, extra="forbid")

    max_body_bytes: int = Field(default=4 << 20, ge=1024, description="largest request body, counted as it arrives")
    max_prompts: int = Field(default=64, ge=1, description="most prompts in one request")
    max_answers: int = Field(default=256, ge=1, description="most answers in one request: prompts times n")
    memo_tree_bytes: int = Field(default=256 << 20, ge=0, description="rows remembered for one prompt of a request")
    keepalive_s: float = Field(
        default=5.0, gt=0, description="seconds between comments on a stream that has nothing to say"
    )
    analysis_workers: int = Field(default=2, ge=1, description="analyses that run at once for requests")
    analysis_time_limit_s: float = Field(default=60, gt=0, description="seconds that an analysis gets in a request")
    analysis_job_workers: int = Field(default=1, ge=1, description="analyses that run at once for rows of batches")
    analysis_job_time_limit_s: float = Field(default=86400, gt=0, description="seconds that such a row gets")
    analysis_memory_bytes: int = Field(
        default=4 << 30, ge=1 << 29, description="most address space of one analysis's process"
    )
    drain_s: int = Field(default=30, ge=0, description="seconds that running requests get after SIGTERM")
