"""The kustomize folder: every overlay renders and is valid, and says of the server only what is true of it."""

import base64
import json
import re
import shutil
import signal
from pathlib import Path

import httpx
import pytest
import yaml
from kubernetes_validate import validate
from pydantic import ValidationError

from sampler.errors import InvalidParams
from service.jobs.store import Store
from service.key_command import refuse_open_door
from service.keys import new_key
from service.settings import PREFIX, Settings, settings_from
from service.version import VERSION
from tests.deploy.manifests import DOCS, FOLDER, OVERLAYS, Manifest, blocks, container, overlay, pod, rendered
from tests.service.serving import ROOT, command_server
from tests.service.tables import letters_table

KUBERNETES = "1.37"
OLDEST = "1.32"
"""What docs/kubernetes.md promises."""
START_S = 240.0
"""Far longer than a start or a stop takes; only a failing test waits so long."""
CLOSING_S = 50
"""What docs/operations.md adds to `drain_s`."""


@pytest.fixture(scope="session")
def own_overlay(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    """The page's overlay of one's own, with a key and a database, beside a copy of the folder."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(FOLDER, folder / "powercut")
    own = next(block for block in blocks("yaml") if block["kind"] == "Kustomization")
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(own))
    (folder / "secret.env").write_text(
        f"POWERCUT_KEYS={new_key('alice')[1]}\nPOWERCUT_DATABASE_URL=postgresql://a:b@c/d\n"
    )
    return rendered(folder)


@pytest.fixture(params=[*OVERLAYS, "own"])
def manifests(request: pytest.FixtureRequest) -> dict[str, Manifest]:
    """Every overlay in turn, and the page's own."""
    return request.getfixturevalue("own_overlay") if request.param == "own" else overlay(request.param)


def test_there_is_an_overlay_without_and_with_gpus() -> None:
    assert OVERLAYS == ["cpu", "gpu"]


@pytest.mark.slow
@pytest.mark.parametrize("version", [OLDEST, KUBERNETES])
def test_each_manifest_is_valid(manifests: dict[str, Manifest], version: str) -> None:
    for kind, manifest in manifests.items():
        if kind != "ServiceMonitor":  # a resource of the operator's own
            validate(manifest, version, strict=True)


def test_the_validation_sees_a_wrong_field(manifests: dict[str, Manifest]) -> None:
    wrong = manifests["PodDisruptionBudget"] | {"spec": {"maxUnavailabel": 1}}
    with pytest.raises(Exception, match="maxUnavailabel"):
        validate(wrong, KUBERNETES, strict=True)


def test_everything_chooses_the_pods(manifests: dict[str, Manifest]) -> None:
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    chosen = [
        manifests["Deployment"]["spec"]["selector"]["matchLabels"],
        manifests["Service"]["spec"]["selector"],
        manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in pod(manifests)["topologySpreadConstraints"]),
    ]
    for selector in chosen:
        assert selector
        assert selector.items() <= labels.items()
    target = manifests["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    deployment = manifests["Deployment"]
    assert (target["kind"], target["name"], target["apiVersion"]) == (
        "Deployment",
        deployment["metadata"]["name"],
        deployment["apiVersion"],
    )
    assert "replicas" not in deployment["spec"], "applying again would undo the autoscaler"


def test_ports_agree(manifests: dict[str, Manifest]) -> None:
    ports = {port["name"]: port["containerPort"] for port in container(manifests)["ports"]}
    assert str(ports["http"]) == manifests["ConfigMap"]["data"]["POWERCUT_PORT"]
    (entry,) = manifests["Service"]["spec"]["ports"]
    assert entry["targetPort"] in ports
    for rule in manifests["NetworkPolicy"]["spec"]["ingress"]:
        assert [port["port"] for port in rule["ports"]] == ["http"]
    annotations = manifests["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["http"])
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container(manifests)[kind]["httpGet"]["port"] in ports


def test_settings_are_known_and_have_good_values(manifests: dict[str, Manifest]) -> None:
    data: dict[str, str] = manifests["ConfigMap"]["data"]
    given = {name.removeprefix(PREFIX).lower(): value for name, value in data.items() if name.startswith(PREFIX)}
    assert given.keys() <= Settings.model_fields.keys()
    settings_from(given)
    secret = {name.removeprefix(PREFIX).lower() for name in manifests["Secret"]["data"]}
    assert secret == {"keys", "database_url"}
    assert not secret & given.keys()
    sources = container(manifests)["envFrom"]
    assert {next(iter(source.values()))["name"] for source in sources} == {
        manifests[kind]["metadata"]["name"] for kind in ("ConfigMap", "Secret")
    }


def test_the_grace_covers_the_drain(manifests: dict[str, Manifest]) -> None:
    drain_s = float(manifests["ConfigMap"]["data"]["POWERCUT_DRAIN_S"])
    waits_s = container(manifests)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert drain_s >= Settings.model_fields["drain_s"].default
    assert f"`drain_s` plus {CLOSING_S} seconds" in (ROOT / "docs" / "operations.md").read_text()
    assert pod(manifests)["terminationGracePeriodSeconds"] >= waits_s + drain_s + CLOSING_S
    readiness = container(manifests)["readinessProbe"]
    assert waits_s >= readiness["periodSeconds"] * readiness["failureThreshold"]


def test_a_stop_does_not_look_like_death_and_a_dead_engine_does(manifests: dict[str, Manifest]) -> None:
    probe = container(manifests)["livenessProbe"]
    assert probe["httpGet"]["path"] == "/readyz", "the engine is in the process"
    assert probe["periodSeconds"] * probe["failureThreshold"] == 180, "as the page says"


def test_the_pod_is_restricted(manifests: dict[str, Manifest]) -> None:
    """Kubernetes' own standard `restricted`, and a root file system that cannot be written."""
    spec, inner = pod(manifests), container(manifests)["securityContext"]
    outer = spec["securityContext"]
    assert outer["runAsNonRoot"] is True
    assert outer["runAsUser"] > 0
    assert outer["seccompProfile"] == {"type": "RuntimeDefault"}
    assert inner == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & spec.keys()
    assert all(volume.keys() & {"emptyDir", "persistentVolumeClaim"} for volume in spec["volumes"])
    assert spec["automountServiceAccountToken"] is False


def test_what_is_written_to_is_a_volume(manifests: dict[str, Manifest]) -> None:
    places = {mount["mountPath"]: mount["name"] for mount in container(manifests)["volumeMounts"]}
    data: dict[str, str] = manifests["ConfigMap"]["data"]
    assert {"/tmp", data["POWERCUT_DATA_DIR"], data.get("HF_HOME", "/tmp")} <= places.keys()
    assert set(places.values()) == {volume["name"] for volume in pod(manifests)["volumes"]}
    disk = [v["emptyDir"]["sizeLimit"] for v in pod(manifests)["volumes"] if "medium" not in v["emptyDir"]]
    gibibytes = [int(size.removesuffix("Gi")) for size in disk]
    limit = container(manifests)["resources"]["limits"]["ephemeral-storage"]
    assert sum(gibibytes) <= int(limit.removesuffix("Gi")), "a full volume is not an evicted pod"


def test_service_links_would_stop_the_server(manifests: dict[str, Manifest]) -> None:
    name = manifests["Service"]["metadata"]["name"].upper().replace("-", "_")
    assert f"{name}_" == PREFIX, "else the links could stay"
    with pytest.raises(ValidationError):
        settings_from({"port": "tcp://10.0.0.1:80"})
    assert pod(manifests)["enableServiceLinks"] is False


def test_the_image_has_this_version(manifests: dict[str, Manifest]) -> None:
    image: str = container(manifests)["image"]
    assert image.removeprefix("registry.example.com/") in {f"powercut:{VERSION}-cpu", f"powercut:{VERSION}-gpu"}


@pytest.mark.parametrize("name", OVERLAYS)
def test_nothing_runs_with_the_example_secrets(name: str, tmp_path: Path) -> None:
    encoded: dict[str, str] = overlay(name)["Secret"]["data"]
    secret = {key.removeprefix(PREFIX).lower(): base64.b64decode(text).decode() for key, text in encoded.items()}
    with pytest.raises(InvalidParams, match="NAME:HASH"):
        refuse_open_door(settings_from({"host": "0.0.0.0", "keys": secret["keys"]}))
    with pytest.raises(InvalidParams, match="postgresql://"):
        Store(settings_from({"database_url": secret["database_url"], "data_dir": tmp_path}))


def test_real_secrets_are_not_for_git() -> None:
    assert "secret.env" in (ROOT / ".gitignore").read_text().splitlines()
    kept = set(FOLDER.rglob("*.env")) - set(FOLDER.rglob("secret.env"))
    assert kept == {FOLDER / "base" / "secret.example.env"}


def targets(manifests: dict[str, Manifest]) -> dict[str, float]:
    """The autoscaler's metrics and what each pod may have of them."""
    metrics = manifests["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert {metric["type"] for metric in metrics} == {"Pods"}
    return {m["pods"]["metric"]["name"]: float(m["pods"]["target"]["averageValue"]) for m in metrics}


def test_the_autoscaler_wakes_before_the_limits(manifests: dict[str, Manifest]) -> None:
    data = manifests["ConfigMap"]["data"]
    limits = {kind: float(data[f"POWERCUT_MAX_{kind.upper()}_TOKENS"]) for kind in ("running", "queued")}
    asked = targets(manifests)
    assert asked["powercut_running_tokens"] == 0.75 * limits["running"]
    assert asked["powercut_queued_tokens"] == 0.25 * limits["running"]
    assert asked["powercut_queued_tokens"] < limits["queued"]
    share = Settings.model_fields["batch_share"].default
    assert share * limits["running"] < asked["powercut_running_tokens"], "batches alone add no pod"
    shown = f"{int(limits['running']):,}"
    assert shown in DOCS.read_text()


def adapted(series: str) -> str | None:
    """What the Prometheus adapter calls a series by the rule of the folder; None if the rule does not take it."""
    (rule,) = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    chosen = re.search(r'__name__=~"(.*?)"', rule["seriesQuery"])
    assert chosen
    if not re.fullmatch(chosen[1], series):
        return None
    renamed = rule["name"]["as"].replace("${1}", r"\1")
    return re.sub(rule["name"]["matches"], renamed, series)


@pytest.mark.slow
def test_the_pod_s_variables_start_a_server_that_is_as_the_manifests_say(
    own_overlay: dict[str, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, line = new_key("alice")
    for name, value in own_overlay["ConfigMap"]["data"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POWERCUT_KEYS", line)
    monkeypatch.setenv("POWERCUT_DATA_DIR", str(tmp_path))  # /data is the container's
    table = tmp_path / "letters.json"
    table.write_text(json.dumps(letters_table()))
    options = ["--engine", "tabular", "--model", str(table)]
    with (
        command_server(options, tmp_path / "log.txt", START_S) as (process, url),
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert http.get(container(own_overlay)[kind]["httpGet"]["path"]).status_code == 200
        (endpoint,) = own_overlay["ServiceMonitor"]["spec"]["endpoints"]
        assert endpoint["port"] == own_overlay["Service"]["spec"]["ports"][0]["name"]
        told = http.get(endpoint["path"])
        assert told.status_code == 200, "Prometheus has no key"
        series = set(re.findall(r"^(\S+?)\{", told.text, re.MULTILINE))
        assert {adapted(name) for name in series} - {None} == targets(own_overlay).keys()
        assert http.get("/v1/models").status_code == 401
        assert http.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_S) == 0


def test_the_base_asks_only_whether_the_loop_answers() -> None:
    assert container(rendered(FOLDER / "base"))["livenessProbe"]["httpGet"]["path"] == "/livez"


def test_gpus_are_asked_for(tmp_path: Path) -> None:
    """And the page's patch, which puts a claim in place of the volume of weights, does."""
    gpu = overlay("gpu")
    assert container(gpu)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container(gpu)["args"][:3] == ["serve", "--engine", "vllm"]
    patch = next(block for block in blocks("yaml") if block["kind"] == "Deployment")
    shutil.copytree(FOLDER, tmp_path / "powercut")
    (tmp_path / "patch.yaml").write_text(yaml.safe_dump(patch))
    own = {"resources": ["powercut/overlays/gpu"], "patches": [{"path": "patch.yaml"}]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(own))
    patched = rendered(tmp_path)
    validate(patched["Deployment"], KUBERNETES, strict=True)
    volumes = {volume.pop("name"): volume for volume in pod(patched)["volumes"]}
    assert volumes["models"] == {"persistentVolumeClaim": {"claimName": "models"}}
    assert container(patched)["args"][-1] == "8192"


def test_probes_of_the_page_are_those_of_the_overlays() -> None:
    page = DOCS.read_text()
    grace = pod(overlay("cpu"))["terminationGracePeriodSeconds"]
    assert f"`terminationGracePeriodSeconds` is {grace}" in page
    assert f"`POWERCUT_DRAIN_S` = {overlay('cpu')['ConfigMap']['data']['POWERCUT_DRAIN_S']}" in page
    startup = {name: container(overlay(name))["startupProbe"] for name in OVERLAYS}
    seconds = {name: probe["periodSeconds"] * probe["failureThreshold"] for name, probe in startup.items()}
    assert seconds == {"cpu": 300, "gpu": 1800}
