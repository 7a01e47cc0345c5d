"""Arms from the command line: a method's name, a `power` object, plain sampling, or another server's model."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from evals.errors import OptionError
from evals.problem import Defaults
from evals.settings import Arm

DRAWS = frozenset({"alpha", "top_k", "memo_tree", "deadline_s", "max_generated_tokens"})
CHAIN = DRAWS | {"blocks", "steps_per_block", "mode", "early_rejection", "prefetch", "stop_when_frozen"}
TAKES: Mapping[str, frozenset[str]] = {
    "standard": frozenset(),
    "low_temperature": DRAWS,
    "best_of_n": DRAWS | {"samples"},
    "uniform_cut": CHAIN,
    "entropy_cut": CHAIN | {"cut_power"},
    "multiple_try": CHAIN - {"mode"} | {"cut_power", "tries"},
    "smc": DRAWS | {"blocks", "particles", "ess_threshold", "ramp_tokens"},
    "tmc": DRAWS | {"blocks", "candidates", "rollouts", "rollout_tokens"},
}
"""Method → the fields of a shared `power` object that it uses; a test compares with the sampler's own table."""
EFFORT = frozenset({"entropy_cut", "uniform_cut", "multiple_try", "best_of_n", "smc", "tmc"})
"""Methods that take `effort`."""
PLAIN = frozenset({"temperature", "top_p"})
PLACE = frozenset({"url", "model", "capped"})
KINDS: Mapping[str, type] = {"url": str, "model": str, "capped": bool}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
PAPER: Mapping[str, Any] = {"blocks": 16, "steps_per_block": 10, "cut_power": 4, "top_k": 50, "mode": "paper"}
"""`--preset paper`: the published runs' settings, and the released code's chain in place of the exact one."""


def preset_fields(defaults: Defaults, *, paper: bool) -> dict[str, Any]:
    """The `power` fields that a run has where `--power` gives none: the benchmark's α, or the published settings."""
    return {"alpha": defaults.alpha, **(PAPER if paper else {})}


def single_arm(given: Mapping[str, Any], preset: Mapping[str, Any]) -> Arm:
    """The arm of a run with a `power` object. What the user gave is sent as it is: the server honours or refuses it."""
    method = str(given.get("method", "entropy_cut"))
    fields = TAKES.get(method, frozenset(preset))
    return Arm(method, {"method": method, **{k: v for k, v in preset.items() if k in fields}, **given})


def read_object(text: str, option: str) -> dict[str, Any]:
    """A JSON object given on the command line."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise OptionError(f"{option}: not JSON ({error}): {text}") from None
    if not isinstance(found, dict):
        raise OptionError(f'{option}: a JSON object is wanted, such as {{"alpha": 4}}')
    return found


def method_arm(method: str, shared: Mapping[str, Any], temperature: float | None, top_p: float | None) -> Arm:
    """An arm by its method's name, with as much of the shared `power` object as the method uses."""
    if method == "standard":
        return Arm(method, None, temperature, top_p)
    fields = TAKES[method] | ({"effort"} if method in EFFORT else set())
    return Arm(method, {"method": method, **{name: value for name, value in shared.items() if name in fields}})


def read_arm(text: str, shared: Mapping[str, Any], temperature: float | None, top_p: float | None) -> Arm:
    """`METHOD`, `NAME={json}` or `NAME=URL#MODEL`.

    In the JSON, `temperature` and `top_p` are plain sampling's, `url` and `model` say where, `"capped": false` frees
    the arm from the reference's cost, and all else is the `power` object, which starts from the shared one if it names
    a method. An arm at another server is sampled plainly, at the run's temperature.
    """
    name, equals, rest = text.partition("=")
    if not NAME.fullmatch(name):
        raise OptionError(f"--arm: {name!r} is no name for an arm")
    if not equals:
        if name not in TAKES:
            raise OptionError(
                f"--arm: unknown method {name!r}; one of {', '.join(TAKES)}, or NAME={{json}} or NAME=URL#MODEL"
            )
        return method_arm(name, shared, temperature, top_p)
    if rest.startswith("{"):
        return object_arm(name, read_object(rest, f"--arm {name}"), shared, temperature, top_p)
    url, hashed, model = rest.partition("#")
    if not url.startswith(("http://", "https://")):
        raise OptionError(f"--arm {name}: {{json}} or http://HOST:PORT#MODEL is wanted, not {rest!r}")
    return Arm(name, None, temperature, top_p, model if hashed else "", url)


def object_arm(
    name: str, given: dict[str, Any], shared: Mapping[str, Any], temperature: float | None, top_p: float | None
) -> Arm:
    """An arm from its JSON object."""
    power = {field: value for field, value in given.items() if field not in PLAIN | PLACE}
    if power and PLAIN & given.keys():
        raise OptionError(f"--arm {name}: temperature and top_p are plain sampling's; a power method takes alpha")
    if power.get("method") in TAKES:
        power = dict(method_arm(power["method"], shared, None, None).power or {}) | power
    if power.get("method") == "standard":
        raise OptionError(f"--arm {name}: standard is plain sampling: leave out method, give temperature")
    for field, kind in KINDS.items():
        if field in given and not isinstance(given[field], kind):
            raise OptionError(f"--arm {name}: {field} must be {'true or false' if kind is bool else 'a text'}")
    place = {field: value for field, value in given.items() if field in PLACE}
    base = Arm(name, power or None, **place)
    if power:
        return base
    return replace(base, temperature=given.get("temperature", temperature), top_p=given.get("top_p", top_p))


def check_arms(arms: Sequence[Arm], reference: str | None) -> None:
    """Raise `OptionError` where names repeat or the reference is none of them."""
    names = [arm.name for arm in arms]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise OptionError(f"--arm: the name {min(repeated)!r} is given twice")
    if reference is not None and reference not in names:
        raise OptionError(f"--reference: there is no arm {reference!r}; the arms are {', '.join(names)}")


def check_used(given: Mapping[str, Any], arms: Sequence[Arm]) -> None:
    """Raise `OptionError` for a field of the shared `power` object that no arm uses: it would be ignored in silence."""
    used = {field for arm in arms for field in arm.power or {}}
    if unused := given.keys() - used:
        raise OptionError(f"--power: no arm uses {min(unused)!r}")
