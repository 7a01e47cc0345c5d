"""The Serve config file of the page: Serve takes it, it comes to the same application, and no secret may be in it."""

import re
from typing import Any

import pytest
import yaml

from sampler.errors import InvalidParams
from service.replicas.deployment import Deployment, build
from service.settings import Settings
from tests.ray.cluster import require_ray
from tests.service.serving import ROOT

URL = "postgresql://nobody@127.0.0.1/nothing"


def documented() -> dict[str, Any]:
    """The file that the page shows."""
    page = (ROOT / "docs" / "replicas.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return yaml.safe_load(block)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, when it is imported
def test_serve_takes_the_file_and_builds_its_application(monkeypatch: pytest.MonkeyPatch) -> None:
    require_ray()
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(documented())
    (declared,) = schema.applications
    assert declared.import_path == f"{build.__module__}:{build.__name__}"
    monkeypatch.setenv("POWERCUT_DATABASE_URL", URL)
    bound = build(Deployment.model_validate(declared.args))._bound_deployment
    assert bound.num_replicas is None or bound.num_replicas == 1
    scaling = bound._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (1, 4)
    _, settings = bound.init_args
    assert settings.drain_s == 60
    assert bound._deployment_config.graceful_shutdown_timeout_s > settings.drain_s + 45
    limits = Settings()
    assert bound.max_ongoing_requests > limits.max_running_requests + limits.max_queued_requests


@pytest.mark.parametrize("name", ["keys", "database_url"])
def test_a_secret_in_the_file_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWERCUT_DATABASE_URL", URL)
    with pytest.raises(InvalidParams, match=f"POWERCUT_{name.upper()}"):
        build(Deployment(settings={name: "secret"}))


@pytest.mark.parametrize(("name", "value"), [("host", "0.0.0.0"), ("port", 9000)])
def test_an_address_that_would_do_nothing_is_refused(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POWERCUT_DATABASE_URL", URL)
    with pytest.raises(InvalidParams, match="http_options") as refused:
        build(Deployment(settings={name: value}))
    assert refused.value.field == name


def test_replicas_of_a_file_need_a_database_that_all_machines_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POWERCUT_DATABASE_URL", raising=False)
    with pytest.raises(InvalidParams, match="PostgreSQL"):
        build(Deployment())
