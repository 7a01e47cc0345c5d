"""A JSON schema in words: the objects of a published schema, and of each field its type, default and limits."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
ENUM_SHOWN = 12
"""Values that are listed one by one; of more only the first."""
BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minProperties": "at least {} entries",
    "maxProperties": "at most {} entries",
    "pattern": "matches `{}`",
}
ATTRIBUTES = re.compile(r"^Attributes:\s*$", re.MULTILINE)
ATTRIBUTE = re.compile(r"^(\w+): (.*)$")


@dataclass(frozen=True)
class Field:
    """A field as the page shows it; all but the name is Markdown."""

    name: str
    type: str
    default: str
    limits: str
    about: str


@dataclass(frozen=True)
class Object:
    """An object of the schema."""

    name: str
    about: str
    fields: list[Field] = field(default_factory=list[Field])


def objects(document: Json) -> list[Object]:
    """All objects by name."""
    schemas: Json = document["components"]["schemas"]
    return [object_of(name, schema, schemas) for name, schema in sorted(schemas.items())]


def object_of(name: str, schema: Json, others: Json | None = None) -> Object:
    """An object: its description, its fields, and what its docstring says of them.

    A field that says nothing itself and holds one of the other objects is described by that one's first sentence.
    """
    about, attributes = split_attributes(schema.get("description", ""))
    needed = set(schema.get("required", ()))
    properties: Json = schema.get("properties", {})
    fields = [
        Field(
            key,
            type_of(each),
            default_of(each, required=key in needed),
            limits_of(each),
            each.get("description") or attributes.get(key) or first_sentence(each, others or {}),
        )
        for key, each in properties.items()
    ]
    if not properties:
        about = f"{about}\n\n{type_of(schema)}".strip()
    return Object(name, about, fields)


def first_sentence(schema: Json, others: Json) -> str:
    """What the object that a field holds says first; nothing for every other field."""
    held = others.get(schema.get("$ref", "").rsplit("/", 1)[-1], {})
    return split_attributes(held.get("description", ""))[0].split("\n\n")[0]


def split_attributes(text: str) -> tuple[str, dict[str, str]]:
    """A docstring's text, and what its section of attributes says of each field."""
    parts = ATTRIBUTES.split(text, maxsplit=1)
    if len(parts) == 1:
        return text.strip(), {}
    found: dict[str, str] = {}
    name = ""
    for line in (each.strip() for each in parts[1].splitlines()):
        if match := ATTRIBUTE.match(line):
            name = match[1]
            found[name] = match[2]
        elif name and line:
            found[name] += f" {line}"
    return parts[0].strip(), found


def type_of(schema: Json) -> str:
    """The type in words, objects as links."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[`{name}`](#{re.sub(r'[^a-z0-9]+', '-', name.lower())})"
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            if "enum" in schema:
                return values(schema["enum"])
            return " or ".join(dict.fromkeys(type_of(each) for each in schema[several]))
    if "enum" in schema:
        return values(schema["enum"])
    if "const" in schema:
        return values([schema["const"]])
    return basic(schema)


def basic(schema: Json) -> str:
    """The type of a schema without alternatives."""
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        places: list[Json] = schema.get("prefixItems", [])
        if places:
            return "list (" + ", ".join(map(type_of, places)) + ")"
        return f"list of {type_of(schema['items'])}" if schema.get("items") else "list"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {type_of(schema['additionalProperties'])}"
    return str(kind or "any value")


def values(given: list[Any]) -> str:
    """Values that are taken."""
    shown = ", ".join(f"`{json.dumps(value, ensure_ascii=False)}`" for value in given[:ENUM_SHOWN])
    return shown + (f" and {len(given) - ENUM_SHOWN} more" if len(given) > ENUM_SHOWN else "")


def default_of(schema: Json, *, required: bool) -> str:
    """The default, or that there must be a value."""
    if required:
        return "required"
    return f"`{json.dumps(schema['default'], ensure_ascii=False)}`" if "default" in schema else "none"


def limits_of(schema: Json) -> str:
    """All bounds of a field, of each of its kinds."""
    found = [text.format(number(schema[key])) for key, text in BOUNDS.items() if key in schema]
    inner = [*schema.get("anyOf", []), *schema.get("oneOf", [])]
    found += [limit for each in inner if (limit := limits_of(each))]
    if isinstance(schema.get("items"), dict) and (limit := limits_of(schema["items"])):
        found.append(f"each {limit}")
    return ", ".join(dict.fromkeys(found))


def number(value: Any) -> str:
    """A bound without a needless fraction."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else str(value)
