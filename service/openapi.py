"""The published schema, exact where only the running service knows: the names of what it serves."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI


def publish_models(app: FastAPI, names: Sequence[str]) -> None:
    """Let every `model` field of a request, and the path of a model, list the served names and no others."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            for name, schema in document["components"]["schemas"].items():
                if name.endswith("Request") and "model" in schema.get("properties", {}):
                    _restrict(schema["properties"]["model"], names)
            for operation in (each for path in document["paths"].values() for each in path.values()):
                for parameter in operation.get("parameters", []):
                    if parameter["in"] == "path" and parameter["name"] == "model":
                        _restrict(parameter["schema"], names)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _restrict(schema: dict[str, Any], names: Sequence[str]) -> None:
    """A string, or one of the kinds of an `anyOf`, becomes one of the names."""
    for kind in schema.get("anyOf", [schema]):
        if kind.get("type") == "string":
            kind["enum"] = list(names)
