"""What every request object has in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

FIELDS_LIMIT = 64


class RequestModel(BaseModel):
    """Types are not converted and unknown fields are refused, without writing a report on each of a million."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _is_not_crowded(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) > FIELDS_LIMIT:
            raise ValueError(f"an object has at most {FIELDS_LIMIT} fields")
        return given
