"""The Dockerfile: its linter finds nothing, and the pods run it as it is meant to be run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.version import VERSION
from tests.deploy.manifests import OVERLAYS, container, overlay, pod
from tests.service.serving import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def lint(text: str) -> tuple[int, str]:
    """What hadolint says of a Dockerfile."""
    command = [str(Path(sys.executable).with_name("hadolint")), "--no-color", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT)
    return done.returncode, done.stdout


def test_the_linter_finds_nothing() -> None:
    assert lint(DOCKERFILE) == (0, "")


def test_the_linter_sees_what_is_wrong() -> None:
    code, told = lint("FROM debian\nRUN apt-get install foo\n")
    assert code == 1
    assert "DL3006" in told


def stages() -> dict[str, str]:
    """The Dockerfile's stages, each with what it builds on put before it."""
    found = dict[str, str]()
    for base, name, body in re.findall(
        r"^FROM (\S+) AS (\w+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL
    ):
        found[name] = found.get(base, "") + body
    return found


def last(instruction: str, stage: str) -> str:
    """The instruction's last value in a stage."""
    return re.findall(rf"^{instruction} (.+)$", stages()[stage], re.MULTILINE)[-1]


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_pod_is_as_the_image_wants_it(name: str) -> None:
    """Overlay and stage of one name: user, volumes, port, and what the command's words are added to."""
    manifests, text = overlay(name), stages()[name]
    outer = pod(manifests)["securityContext"]
    assert last("USER", name) == f"{outer['runAsUser']}:{outer['runAsGroup']}"
    places = {mount["mountPath"] for mount in container(manifests)["volumeMounts"]}
    assert {last("VOLUME", name), *re.findall(r"\bHOME=(\S+)", text)} <= places
    assert {int(last("EXPOSE", name))} == {port["containerPort"] for port in container(manifests)["ports"]}
    data = manifests["ConfigMap"]["data"]
    for variable, value in re.findall(r"\b(POWERCUT_[A-Z_]+)=(\S+)", text):
        assert data[variable] == value
    assert last("ENTRYPOINT", name) == '["powercut"]'
    assert "command" not in container(manifests)
    assert container(manifests).get("args", ["serve"])[0] == "serve"


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_label_has_this_version(name: str) -> None:
    assert f"\nARG VERSION={VERSION}\n" in stages()[name]


def test_the_page_says_which_images_list_what_is_in_them() -> None:
    listed = {name for name in ("cpu", "eval", "gpu") if "powercut.sbom=" in stages()[name]}
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith("| contents |")]
    assert listed == {"cpu", "eval"}
    assert "in the stages `cpu` and `eval` (`gpu` has none" in row
