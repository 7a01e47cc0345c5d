"""The compose files: valid, hardened, and saying of the server only what is true of it."""

import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import PREFIX, Settings, settings_from
from service.version import VERSION

ROOT = Path(__file__).parents[2]
FILES = ("compose.yaml", "compose.gpu.yaml")
CLOSING_S = 50
"""What docs/operations.md adds to `drain_s`."""
SANDBOX = {"seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined"}
"""What bubblewrap needs of a container runtime."""
Service = dict[str, Any]


def loaded(name: str) -> dict[str, Any]:
    """A compose file as data."""
    return yaml.safe_load((ROOT / name).read_text())


def services(*files: str) -> dict[str, Service]:
    """The services of one compose file, or of one over another."""
    found: dict[str, Service] = {}
    for name in files:
        for service, given in loaded(name)["services"].items():
            known = found.setdefault(service, {})
            for key, value in given.items():
                merged = isinstance(value, dict) and isinstance(known.get(key), dict)
                known[key] = deepcopy(known[key]) | value if merged else value
    return found


def seconds(text: str) -> float:
    """A duration such as 90s."""
    match = re.fullmatch(r"(\d+)s", text)
    assert match, text
    return float(match[1])


@pytest.fixture(params=[FILES[:1], FILES], ids=["cpu", "gpu"])
def together(request: pytest.FixtureRequest) -> dict[str, Service]:
    """Without and with GPUs."""
    return services(*request.param)


def test_the_files_are_valid() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", *FILES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_service_is_hardened(together: dict[str, Service]) -> None:
    for name, service in together.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        allowed = SANDBOX if name == "eval" else set[str]()
        assert set(service["security_opt"]) == {"no-new-privileges:true"} | allowed, name
        assert "privileged" not in service, name
        assert "cap_add" not in service, name


def test_ports_are_of_this_machine_only(together: dict[str, Service]) -> None:
    ports = [port for service in together.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert together["powercut"]["ports"][0].endswith(":8000")


def test_the_database_and_the_metrics_reach_no_other_network(together: dict[str, Service]) -> None:
    networks = loaded("compose.yaml")["networks"]
    inner = {name for name, network in networks.items() if network and network.get("internal")}
    assert set(together["postgres"]["networks"]) | set(together["prometheus"]["networks"]) <= inner


def test_every_image_has_a_version(together: dict[str, Service]) -> None:
    for name, service in together.items():
        assert re.search(r":v?\d+\.\d+", service["image"]), name
        if "build" in service:
            assert service["image"] == f"powercut:{VERSION}-{service['build']['target']}"
            assert f" AS {service['build']['target']}\n" in (ROOT / "Dockerfile").read_text()


def test_everything_that_stays_up_has_a_health_check(together: dict[str, Service]) -> None:
    for name, service in together.items():
        by_image = name == "powercut"  # the image brings it, which the test of the image shows
        assert by_image or "healthcheck" in service or service["profiles"] == ["eval"], name


def test_the_server_s_settings_exist_and_hold(together: dict[str, Service]) -> None:
    environment = together["powercut"]["environment"]
    names = {name.removeprefix(PREFIX).lower() for name in environment if name.startswith(PREFIX)}
    assert names
    assert names <= set(Settings.model_fields)
    plain = {name.removeprefix(PREFIX).lower(): value for name, value in environment.items() if "$" not in value}
    settings = settings_from({name: value for name, value in plain.items() if name in names})
    assert settings.open_metrics, "Prometheus has no key"
    assert seconds(together["powercut"]["stop_grace_period"]) >= settings.drain_s + CLOSING_S


def test_what_must_be_filled_in_stands_in_the_example_and_only_that() -> None:
    text = "".join((ROOT / name).read_text() for name in FILES)
    used = set(re.findall(r"\$\{([A-Z_]+)", text))
    example = (ROOT / "deploy" / "env.example").read_text()
    assert used == set(re.findall(r"^(?:# )?([A-Z_]+)=", example, re.MULTILINE))
    required = set(re.findall(r"\$\{([A-Z_]+):\?", text))
    assert required == set(re.findall(r"^([A-Z_]+)=$", example, re.MULTILINE)), "no secret has a value in the example"


def test_nothing_but_sources_reaches_the_image() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert lines[0] == "*"
    assert kept == {"LICENSE", "README.md", "constraints.txt", "pyproject.toml", "evals", "sampler", "service"}


def test_the_image_s_version_is_powercut_s() -> None:
    assert set(re.findall(r"^ARG VERSION=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)) == {VERSION}


def test_the_last_stage_is_the_one_for_processors_and_nothing_else() -> None:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[-1] == "FROM cpu"


def test_mounted_files_exist() -> None:
    volumes = [volume for service in services(FILES[0]).values() for volume in service.get("volumes", [])]
    mounted = [volume.split(":")[0] for volume in volumes if volume.startswith("./")]
    assert len(mounted) == 3
    assert all((ROOT / folder).is_dir() for folder in mounted)
