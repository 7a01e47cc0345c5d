"""What every request object has in common."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

FIELDS_LIMIT = 64


class RequestModel(BaseModel):
    """Types are not converted and unknown fields are refused, without writing a report on each of a million."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    NULL_IS_DEFAULT: ClassVar[frozenset[str]] = frozenset()
    """Fields in which `null` means the same as leaving them out, as OpenAI has it."""

    @model_validator(mode="before")
    @classmethod
    def _is_not_crowded(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if len(given) > FIELDS_LIMIT:
            raise ValueError(f"an object has at most {FIELDS_LIMIT} fields")
        if any(given.get(name, 0) is None for name in cls.NULL_IS_DEFAULT):
            return {
                name: value for name, value in given.items() if value is not None or name not in cls.NULL_IS_DEFAULT
            }
        return given

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema with `null` where it is taken."""
        found = handler.resolve_ref_schema(handler(schema))
        properties = found.get("properties", {})
        for name in cls.NULL_IS_DEFAULT:
            properties[name] = nullable(properties[name])
        return found


def nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A property's schema that also takes null."""
    about = {key: schema[key] for key in ("title", "description", "default") if key in schema}
    return {**about, "anyOf": [{k: v for k, v in schema.items() if k not in about}, {"type": "null"}]}


@dataclass(frozen=True, eq=False)  # typing keeps equal annotations as one, and 0 equals False
class Only:
    """A field of OpenAI's that is not offered here: it takes null and the values that ask for nothing."""

    values: tuple[Any, ...] = ()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A validator that lets the values through."""
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The values themselves."""
        return {"enum": [None, *self.values], "description": "not offered: takes only what asks for nothing"}

    def _check(self, given: Any) -> Any:
        if given is None or any(given == value and type(given) in _kinds(value) for value in self.values):
            return given
        allowed = ", ".join(["null", *(_json(value) for value in self.values)])
        raise PydanticCustomError(
            "not_offered", "is not offered here; leave it out or give {allowed}", {"allowed": allowed}
        )


def _kinds(value: Any) -> tuple[type, ...]:
    """JSON has one kind of number, and its booleans are none."""
    return (int, float) if type(value) in (int, float) else (type(value),)


def _json(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value).replace("'", '"')
