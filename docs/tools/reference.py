"""The API reference: one page, written from the schema that the service itself publishes.

Nothing is typed in by hand, so the page cannot disagree with the service: every route with its parameters, body,
replies and errors, and every object with its fields, types, defaults, limits and descriptions.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from docs.tools.fields import Field, Object, object_of, objects, type_of
from sampler.engines.tabular import from_table
from service.app import create_app
from service.settings import Settings

Json = dict[str, Any]
FAMILIES = {
    "Completions and chat": ("/v1/completions", "/v1/chat"),
    "Models, tokenizer, version": ("/v1/models", "/tokenize", "/detokenize", "/tokenizer_info", "/version"),
    "Files and batches": ("/v1/files", "/v1/batches"),
    "Analyses": ("/v1/analysis",),
    "Probes": ("/livez", "/readyz"),
}
OTHERS = "Other routes"
FASTAPI_SAYS = "Successful Response"
"""Description of a reply that has none of its own."""
TABLE = {"vocab": ["a", "<eos>"], "eos": [1]}
MODEL = "MODEL"
"""What the page calls the served model."""
INTRODUCTION = """\
# API reference

Made from the schema of powercut {version} when this page was built. A running server publishes the same schema,
with the names that it serves, at `/openapi.json`, and pages to try it out at `/docs` and `/redoc`.
[The HTTP API](api.md) says in words what belongs together.

A field that is not listed is refused, and so is a value beyond its limits: the answer is 422 and names the field.
"Required" fields must be there; all others have the default given, or may be left out. The served model is called
`{model}` here. Beside the routes below, `/metrics` answers in Prometheus' text form.
"""


def schema() -> Json:
    """The schema of a service on a small table: the routes do not depend on the engine."""
    return create_app(from_table(TABLE, MODEL), Settings()).openapi()


def reference(document: Json | None = None) -> str:
    """The page in Markdown."""
    document = document or schema()
    shared = shared_errors(document)
    parts = [INTRODUCTION.format(version=document["info"]["version"], model=MODEL), *errors_section(shared)]
    for family, routes in families(document).items():
        parts.append(f"## {family}\n")
        parts += [route_section(method, path, route, shared) for method, path, route in routes]
    parts.append("## Objects\n")
    parts += [object_section(one) for one in objects(document)]
    return "\n".join(parts)


def routes_of(document: Json) -> Iterator[tuple[str, str, Json]]:
    """Method, path and operation of every route."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), path, operation


def families(document: Json) -> dict[str, list[tuple[str, str, Json]]]:
    """Routes by what they are for. One that fits nowhere has a section of its own, so none is lost."""
    found: dict[str, list[tuple[str, str, Json]]] = {name: [] for name in FAMILIES}
    for method, path, operation in routes_of(document):
        found.setdefault(family_of(path), []).append((method, path, operation))
    return {name: routes for name, routes in found.items() if routes}


def family_of(path: str) -> str:
    """The family of a route."""
    return next((name for name, starts in FAMILIES.items() if path.startswith(starts)), OTHERS)


def shared_errors(document: Json) -> dict[str, str]:
    """Status and description of the errors that most routes may answer with; the others say what is different."""
    per_route = [errors_of(operation) for _, _, operation in routes_of(document)]
    counted = Counter(pair for errors in per_route for pair in errors.items())
    return {status: text for (status, text), count in counted.items() if 2 * count > len(per_route)}


def errors_of(operation: Json) -> dict[str, str]:
    """Status and description of one route's errors."""
    return {status: reply["description"] for status, reply in operation["responses"].items() if status >= "400"}


def errors_section(errors: Mapping[str, str]) -> list[str]:
    """The errors that are not repeated below, where routes name only what is different there."""
    lines = [f"| {status} | {text} |" for status, text in sorted(errors.items())]
    head = ["## Errors of every route\n", "| status | when |", "|---|---|"]
    return [*head, *lines, "", "The body is an [`ErrorReply`](#errorreply).", ""]


def anchor(name: str) -> str:
    """A heading's id."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def route_section(method: str, path: str, route: Json, shared: Mapping[str, str]) -> str:
    """What a route takes and answers."""
    lines = [f"### `{method} {path}` {{ #{anchor(f'{method} {path}')} }}\n", described(route), ""]
    if parameters := route.get("parameters"):
        lines += ["| parameter | in | type | default | meaning |", "|---|---|---|---|---|"]
        lines += [parameter_row(each) for each in parameters]
        lines.append("")
    for media, content in route.get("requestBody", {}).get("content", {}).items():
        lines += [f"**Body** (`{media}`): {type_of(content['schema'])}", "", *inline_fields(content["schema"])]
    for status, reply in route["responses"].items():
        if status < "400":
            lines += [f"**{status}**: {replied(reply)}", ""]
    own = {status: text for status, text in errors_of(route).items() if shared.get(status) != text}
    if own:
        lines += ["**Also**: " + "; ".join(f"{status}: {text}" for status, text in sorted(own.items())), ""]
    return "\n".join(lines)


def described(route: Json) -> str:
    """The route's own words."""
    return route.get("description") or route["summary"] + "."


def parameter_row(parameter: Json) -> str:
    """A line of a route's table of parameters."""
    kind = parameter["schema"]
    default = f"`{json.dumps(kind['default'])}`" if "default" in kind else "none"
    shown = "required" if parameter.get("required") else default
    about = cell(parameter.get("description", ""))
    return f"| `{parameter['name']}` | {parameter['in']} | {cell(type_of(kind))} | {shown} | {about} |"


def replied(reply: Json) -> str:
    """What a reply holds, by its media types."""
    kinds = [
        f"{type_of(content['schema'])} (`{media}`)" if content.get("schema") else f"`{media}`"
        for media, content in reply.get("content", {}).items()
    ]
    about = "" if reply["description"] == FASTAPI_SAYS else reply["description"]
    return ". ".join(part for part in (" or ".join(kinds), about) if part)


def object_section(one: Object) -> str:
    """An object and its fields."""
    return "\n".join([f"### `{one.name}` {{ #{anchor(one.name)} }}\n", one.about, "", *table(one.fields)])


def inline_fields(schema: Json) -> list[str]:
    """The fields of a body that is no object of its own."""
    return table(object_of("", schema).fields) if "properties" in schema else []


def table(fields: Sequence[Field]) -> list[str]:
    """A table of fields, followed by an empty line; nothing where there are none."""
    if not fields:
        return []
    lines = ["| field | type | default | limits | meaning |", "|---|---|---|---|---|"]
    for field in fields:
        cells = (field.type, field.default, field.limits, field.about)
        lines.append(f"| `{field.name}` | " + " | ".join(map(cell, cells)) + " |")
    return [*lines, ""]


def cell(text: str) -> str:
    """Text that may stand in a table."""
    return " ".join(text.replace("|", "\\|").split())
