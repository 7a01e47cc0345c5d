"""The published schema, exact where only the running service knows: the names it serves, and its vocabulary."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI

from service.api.requests import TOKEN_ID


def publish(app: FastAPI, names: Sequence[str], vocabulary: int, *, empty_text: bool) -> None:
    """Let every `model` field of a request, and the path of a model, list the served names and no others.

    Token ids get the vocabulary's limit; `empty_text` says whether a prompt without text has a token.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            for name, schema in document["components"]["schemas"].items():
                if name.endswith("Request") and "model" in schema.get("properties", {}):
                    _restrict(schema["properties"]["model"], names)
                _limit_ids(schema, vocabulary)
            if not empty_text:
                _refuse_empty(document["components"]["schemas"]["CompletionRequest"]["properties"]["prompt"])
            for operation in (each for path in document["paths"].values() for each in path.values()):
                for parameter in operation.get("parameters", []):
                    if parameter["in"] == "path" and parameter["name"] == "model":
                        _restrict(parameter["schema"], names)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _limit_ids(schema: Any, vocabulary: int) -> None:
    if isinstance(schema, list):
        for each in schema:
            _limit_ids(each, vocabulary)
    elif isinstance(schema, dict):
        if schema.get("format") == TOKEN_ID:
            schema["maximum"] = vocabulary - 1
        for each in schema.values():
            _limit_ids(each, vocabulary)


def _refuse_empty(prompt: dict[str, Any]) -> None:
    for kind in prompt["anyOf"]:
        text = kind.get("items", kind)
        if text.get("type") == "string":
            text["minLength"] = 1


def _restrict(schema: dict[str, Any], names: Sequence[str]) -> None:
    """A free string, or one of the kinds of an `anyOf`, becomes one of the names. What lists its values keeps them."""
    for kind in schema.get("anyOf", [schema]):
        if kind.get("type") == "string" and "enum" not in kind:
            kind["enum"] = list(names)
