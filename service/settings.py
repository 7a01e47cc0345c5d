"""Every setting of the service in one place.

Each field can be set as `POWERCUT_<NAME>` in the environment or as `--<name>` of `powercut serve`, which wins.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "POWERCUT_"
DAY_S = 86_400.0


class Settings(BaseSettings):
    """Frozen at start."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = Field(default="127.0.0.1", min_length=1, max_length=255, description="address to bind")
    port: int = Field(default=8000, ge=0, le=65_535, description="port to bind; 0 picks a free one")

    keys: SecretStr | None = Field(
        default=None, description="lines NAME:HASH of `powercut key`, separated by commas or line ends"
    )
    key_file: Path | None = Field(default=None, description="file with such lines")
    allow_public_without_keys: bool = Field(
        default=False, description="bind an address that others can reach though no key is set"
    )
    open_metrics: bool = Field(default=False, description="answer /metrics without a key though keys are set")
    open_docs: bool = Field(
        default=False, description="answer /docs, /redoc and /openapi.json without a key though keys are set"
    )

    max_body_bytes: int = Field(
        default=4 << 20, ge=1024, le=1 << 32, description="largest request body, counted as it arrives"
    )
    body_timeout_s: float = Field(default=30.0, gt=0, le=DAY_S, description="seconds that a body may take to arrive")
    max_prompt_chars: int = Field(
        default=1 << 20, ge=1, le=1 << 32, description="longest prompt in characters, counted before it is tokenised"
    )
    max_prompts: int = Field(default=64, ge=1, le=1 << 16, description="most prompts in one request")
    max_n: int = Field(default=128, ge=1, le=128, description="largest n of a request")
    max_answers: int = Field(default=256, ge=1, le=1 << 16, description="most answers in one request: prompts times n")

    max_chain_tokens: int = Field(
        default=4 << 20,
        ge=0,
        le=1 << 40,
        description="most tokens of proposals that a reply with power.include chain may list",
    )

    max_running_tokens: int = Field(
        default=1 << 27, ge=1, le=1 << 48, description="tokens that all running requests together may draw at worst"
    )
    max_running_requests: int = Field(default=256, ge=1, le=1 << 20, description="requests that run at once")
    max_running_requests_per_key: int = Field(
        default=128, ge=1, le=1 << 20, description="requests of one key that run at once; more of them wait"
    )
    max_queued_tokens: int = Field(
        default=1 << 28, ge=0, le=1 << 48, description="tokens that all waiting requests together may draw at worst"
    )
    max_queued_requests: int = Field(default=1024, ge=0, le=1 << 20, description="requests that wait")
    max_queued_requests_per_key: int = Field(default=512, ge=0, le=1 << 20, description="requests of one key that wait")
    batch_share: float = Field(
        default=0.5, gt=0, le=1, description="share of max_running_tokens that rows of batch jobs may take"
    )

    request_timeout_s: float = Field(
        default=600.0, gt=0, le=DAY_S, description="seconds from a request's arrival to its end, waiting included"
    )
    memo_tree_bytes: int = Field(
        default=256 << 20, ge=0, le=1 << 40, description="rows remembered for one prompt of a request"
    )
    keepalive_s: float = Field(
        default=5.0, gt=0, le=3600, description="seconds between comments on a stream that has nothing to say"
    )
    send_timeout_s: float = Field(
        default=60.0, gt=0, le=DAY_S, description="seconds until a client that reads nothing of its reply is hung up on"
    )
    analysis_workers: int = Field(default=2, ge=1, le=1 << 10, description="analyses that run at once for requests")
    analysis_time_limit_s: float = Field(
        default=60.0, gt=0, le=DAY_S, description="seconds that an analysis gets in a request"
    )
    analysis_job_workers: int = Field(
        default=1, ge=1, le=1 << 10, description="analyses that run at once for rows of batch jobs"
    )
    analysis_job_time_limit_s: float = Field(
        default=DAY_S, gt=0, le=30 * DAY_S, description="seconds that an analysis gets in a row of a batch job"
    )
    analysis_memory_bytes: int = Field(
        default=4 << 30, ge=1 << 29, le=1 << 48, description="most address space of one analysis's process"
    )
    privacy_budget_epsilon: float = Field(
        default=3.0, gt=0, le=1000, description="ε that all private releases of one key and data set may cost together"
    )
    privacy_budget_delta: float = Field(
        default=1e-5, gt=0, le=1, description="δ that all private releases of one key and data set may cost together"
    )
    drain_s: float = Field(
        default=30.0, ge=0, le=DAY_S, description="seconds that running requests get to finish after SIGTERM"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="least severe log lines that are written"
    )

    data_dir: Path | None = Field(
        default=None, description="folder of batch jobs and their files; none means the user's own data folder"
    )
    database_url: SecretStr | None = Field(
        default=None, description="postgresql://USER:PASSWORD@HOST/NAME for several servers; none means SQLite"
    )
    file_store: Literal["disk", "database"] | None = Field(
        default=None, description="where files are kept; none means disk with SQLite, and the database with PostgreSQL"
    )
    max_upload_bytes: int = Field(default=200 << 20, ge=1024, le=1 << 40, description="largest file")
    upload_timeout_s: float = Field(
        default=3600.0, gt=0, le=DAY_S, description="seconds that a file may take to arrive"
    )
    max_stored_bytes: int = Field(
        default=4 << 30, ge=1024, le=1 << 50, description="bytes of one key's files beyond which it may send no more"
    )
    file_expiry_s: int = Field(
        default=30 * 86_400, ge=1, le=1 << 31, description="seconds until a file is deleted, if its sender sets none"
    )
    max_batch_lines: int = Field(default=100_000, ge=1, le=10_000_000, description="most requests in one batch")
    batch_rows: int = Field(default=32, ge=0, le=4096, description="rows of batches that run here at once; 0 runs none")
    batch_poll_s: float = Field(
        default=1.0, gt=0, le=3600, description="seconds between two looks for work that other servers left"
    )
    lease_s: float = Field(
        default=30.0, ge=0.5, le=3600, description="seconds after which a silent server's rows are taken over"
    )
    checkpoint_s: float = Field(
        default=0.2, ge=0, le=3600, description="seconds at least between two saved stages of one row"
    )


def settings_from(given: Mapping[str, Any]) -> Settings:
    """The settings of the environment, with what is given in their place. Raises pydantic's `ValidationError`."""
    return Settings(**given)


def revealed(secret: SecretStr | None) -> str | None:
    """A secret setting's text."""
    return None if secret is None else secret.get_secret_value()
