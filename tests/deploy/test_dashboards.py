"""The dashboard and the alerts ask for metrics, and labels, that `/metrics` has."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry import Telemetry

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "powercut.json").read_text())
RULES = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
ENDINGS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
OURS = r"(?:powercut|vllm):[a-z0-9_]+"


def asked() -> list[str]:
    """Every expression of the dashboard and the alerts."""
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    return [*panels, *(rule["expr"] for group in RULES["groups"] for rule in group["rules"])]


@pytest.fixture(scope="module")
def series(server: str) -> dict[str, str]:
    """Every series that a running server can have, with its type."""
    text = httpx.get(f"{server}/metrics").text
    families = list(text_string_to_metric_families(text))
    return {family.name + ending: family.type for family in families for ending in ENDINGS[family.type]}


def test_each_metric_asked_for_exists_in_a_running_server(series: dict[str, str]) -> None:
    names = {name for expression in asked() for name in re.findall(OURS, expression)}
    assert len(names) > 20
    assert names <= set(series)


def test_each_metric_of_the_server_is_shown_somewhere(series: dict[str, str]) -> None:
    text = " ".join(asked())
    families = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in series}
    hidden = {name for name in families if name not in text and not name.endswith("_created")}
    assert hidden == {"vllm:request_success"}, "answers are shown by powercut:answers, which knows how they ended"


def test_counters_are_asked_for_by_rate(series: dict[str, str]) -> None:
    for expression in asked():
        for name in re.findall(OURS, expression):
            counted = re.search(rf"(?:rate|increase)\({name}\b", expression) is not None
            assert counted == (series[name] != "gauge"), expression


def known_labels() -> set[str]:
    """Labels of everything in the registry of a server, and those that Prometheus adds."""
    telemetry = Telemetry("letters")
    telemetry.observe_rows(lambda state: 0.0)
    collectors = set(vars(telemetry.registry)["_names_to_collectors"].values())
    return {"job", "le"} | {label for collector in collectors for label in vars(collector)["_labelnames"]}


def test_each_label_asked_for_exists() -> None:
    known = known_labels()
    assert {"method", "ended_by", "state"} <= known
    for expression in asked():
        by = [word for words in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for word in re.split(r",\s*", words)]
        matched = re.findall(r"([a-z_]+)(?:=~|!=|!~|=)\"", expression)
        assert set(by) | set(matched) <= known, expression


def test_panels_have_numbers_of_their_own_and_do_not_overlap() -> None:
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells


def test_every_alert_says_what_is_wrong() -> None:
    for rule in (rule for group in RULES["groups"] for rule in group["rules"]):
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]


def test_a_row_that_was_resumed_counts_as_no_end() -> None:
    """One that is resumed over and over by servers that die has not ended, and must not quiet the alert."""
    rows = [expression for expression in asked() if "powercut:batch_rows_total" in expression]
    assert len(rows) == 2
    for expression in rows:
        assert re.search(r'powercut:batch_rows_total\{[^}]*event!="resumed"', expression), expression


def test_a_dead_engine_is_alerted() -> None:
    """Its process answers, so `up` is 1, and its 503 is what a full server says, too."""
    (rule,) = [
        rule for group in RULES["groups"] for rule in group["rules"] if rule["expr"] == "powercut:engine_alive == 0"
    ]
    assert rule["labels"]["severity"] == "page"


def test_nothing_that_was_never_drawn_is_shown_as_drawn() -> None:
    for panel in DASHBOARD["panels"]:
        if any("powercut:free_tokens" in target["expr"] for target in panel.get("targets", [])):
            assert "drawn tokens" not in panel["title"].lower()
            assert "never drawn" in panel["description"]
