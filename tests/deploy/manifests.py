"""What `kubectl kustomize` makes of the folder, and the page about it, as data."""

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.service.serving import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.parent.name for path in FOLDER.glob("overlays/*/kustomization.yaml"))
DOCS = ROOT / "docs" / "kubernetes.md"
Manifest = dict[str, Any]


@cache
def kubectl() -> str:
    """kubectl with a kustomize that knows today's fields; without one tests are skipped, but in CI they fail."""
    found = shutil.which("kubectl")
    if found is not None:
        told = subprocess.run([found, "version", "--client", "-o", "json"], capture_output=True, text=True)
        if told.returncode == 0 and "kustomizeVersion" in json.loads(told.stdout):
            return found
    message = "kubectl 1.24 or newer is not installed"
    return pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


def rendered(folder: Path) -> dict[str, Manifest]:
    """What `kubectl kustomize` makes of a folder, by kind; one of each."""
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no field is deprecated"
    manifests = [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]
    kinds = {manifest["kind"]: manifest for manifest in manifests}
    assert len(kinds) == len(manifests)
    return kinds


@cache
def overlay(name: str) -> dict[str, Manifest]:
    """One of the folder's overlays, rendered."""
    return rendered(FOLDER / "overlays" / name)


def pod(manifests: dict[str, Manifest]) -> Manifest:
    """What the Deployment says of its pods."""
    return manifests["Deployment"]["spec"]["template"]["spec"]


def container(manifests: dict[str, Manifest]) -> Manifest:
    """The pod's only container."""
    (only,) = pod(manifests)["containers"]
    return only


def blocks(language: str) -> list[Manifest]:
    """The page's code blocks of a language, read."""
    return [yaml.safe_load(text) for text in re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(), re.DOTALL)]
