"""How much to spend: three documented sets of parameters, from which each method takes the ones it uses.

`medium` is every field's default. `high` costs about four times as much, `low` an eighth or less (a quarter for
`best_of_n`); docs/api.md has the table. α, the support, the horizon and the mode are no part of it: effort is how close
an answer comes to a method's law, not which law it is.
"""

from collections.abc import Mapping, Set
from types import MappingProxyType
from typing import Literal, get_args

from sampler.errors import InvalidParams

Effort = Literal["low", "medium", "high"]

EFFORTS: Mapping[Effort, Mapping[str, int | None]] = MappingProxyType(
    {
        "low": {
            "blocks": 4,
            "steps_per_block": 4,
            "tries": 2,
            "particles": 8,
            "candidates": 4,
            "rollouts": 4,
            "samples": 2,
        },
        "medium": {
            "blocks": 16,
            "steps_per_block": 10,
            "tries": 4,
            "particles": 64,
            "candidates": 8,
            "rollouts": 8,
            "samples": None,
        },
        "high": {
            "blocks": 16,
            "steps_per_block": 40,
            "tries": 4,
            "particles": 256,
            "candidates": 16,
            "rollouts": 16,
            "samples": 32,
        },
    }
)


def effort_fields(effort: str, method: str, uses: Set[str], name: str = "effort") -> dict[str, int | None]:
    """The parameters that an effort sets for a method that uses the parameters `uses`.

    Raises `InvalidParams` naming `name` for an unknown effort, and for a method that has nothing to spend more on.
    """
    preset = {known: EFFORTS[known] for known in get_args(Effort)}.get(effort)
    if preset is None:
        raise InvalidParams(name, f"{name} must be one of {', '.join(EFFORTS)}, not {effort!r}")
    used = {field: value for field, value in preset.items() if field in uses}
    if not used:
        raise InvalidParams(name, f"{name}: the method {method} has nothing to spend more or less on")
    return used
