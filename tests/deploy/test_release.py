"""What a release consists of: one version everywhere, a changelog, workflows with few rights, licences of all pins."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer import Typer
from typer.testing import CliRunner

from evals.cli import app as eval_app
from service.cli import app as serve_app
from service.version import VERSION
from tests.deploy import licences
from tests.service.serving import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAKEFILE = (ROOT / "Makefile").read_text()


def read(workflow: Path) -> dict[Any, Any]:
    return yaml.safe_load(workflow.read_text())


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in read(workflow)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize(("app", "name"), [(serve_app, "powercut"), (eval_app, "powercut-eval")])
def test_the_commands_say_the_version_of_the_project(app: Typer, name: str) -> None:
    assert PROJECT["version"] == VERSION
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.stdout) == (0, f"{name} {VERSION}\n")


def test_the_changelog_has_this_version_first() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.+?)\] - (\S+)$", text, re.MULTILINE)
    assert headings[0][0] == VERSION
    for _, when in headings:
        assert re.fullmatch(r"unreleased|\d{4}-\d{2}-\d{2}", when)
    assert len(headings) == len(re.findall(r"^## ", text, re.MULTILINE))
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("page", ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/kubernetes.md"])
def test_links_lead_somewhere(page: str) -> None:
    place = ROOT / page
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", place.read_text()):
        assert (place.parent / target).exists(), target


def test_workflows_are_valid() -> None:
    assert {path.stem for path in WORKFLOWS} == {"audit", "ci", "release"}
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    checked = subprocess.run([*command, *map(str, WORKFLOWS)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_only_read_and_take_pinned_actions(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= 90
    for step in steps(path):
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        assert "${{" not in step.get("run", ""), "what others may name is passed as a variable, never as code"
    assert "secrets." not in path.read_text()


def test_workflows_call_what_exists() -> None:
    runs = "\n".join(step["run"] for path in WORKFLOWS for step in steps(path) if "run" in step)
    assert "bash .ci/run" in runs
    for goals in re.findall(r"^make (.+)$", runs, re.MULTILINE):
        for goal in goals.split():
            assert re.search(rf"^{goal}:", MAKEFILE, re.MULTILINE), goal
    pattern = re.search(r"sed -n '(s/\^TORCH := /torch==/p)' Makefile", runs)
    assert pattern
    told = subprocess.run(["sed", "-n", pattern[1], "Makefile"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+\n", told.stdout)


def test_nothing_is_published() -> None:
    for path in WORKFLOWS:
        assert not re.search(r"twine upload|docker push|gh release|pypi-publish|cosign", path.read_text())


def test_each_tested_python_is_one_that_the_project_takes() -> None:
    ci = read(ROOT / ".github" / "workflows" / "ci.yml")
    (lowest,) = re.findall(r">=(\d+\.\d+)", PROJECT["requires-python"])
    assert ci["jobs"]["test"]["container"]["image"].startswith(f"python:{lowest}-")
    others = ci["jobs"]["other-pythons"]["strategy"]["matrix"]["python"]
    assert all(int(each.split(".")[1]) > int(lowest.split(".")[1]) for each in others)


def test_each_pin_has_its_licence() -> None:
    sections = licences.listed(licences.PAGE.read_text())
    human = sections.pop("To be looked at by a human")
    pages = [name for names in sections.values() for name in names]
    assert len(pages) == len(set(pages)), "each package once"
    assert set(pages) == licences.pinned(), "constraints.txt has changed: `make licences`"
    for line in PROJECT["dependencies"]:
        name = licences.Requirement(line).name.lower().replace("_", "-")
        assert name in sections["Running"]
    flagged = {name for names in sections.values() for name, told in names.items() if not licences.is_permissive(told)}
    assert flagged <= human.keys()
    assert human.keys() == licences.NOTES.keys()


@pytest.mark.slow
def test_licences_are_those_of_what_is_installed() -> None:
    sections = licences.listed(licences.PAGE.read_text())
    told = {name: licence for names in sections.values() for name, licence in names.items()}
    assert told == licences.declared(), "`make licences`"


@pytest.mark.parametrize(
    ("licence", "permissive"),
    [
        ("MIT", True),
        ("GPL-3.0 OR MIT", True),
        ("MPL-2.0 AND MIT", False),
        ("(MIT OR Apache-2.0) AND GPL-2.0", False),
        ("UNKNOWN", False),
        ("Apache-2.0 AND Apache-2.0 WITH LLVM-exception AND BSD-2-Clause", True),
    ],
)
def test_a_licence_is_permissive_if_nothing_of_it_asks_for_more(licence: str, permissive: bool) -> None:
    assert licences.is_permissive(licence) is permissive
